"""Login sessions have a row of their own: who signed in, whether an assistant used it, and when it ended.

Refresh tokens refer to it instead of naming a family and a user each. Sessions from before have ended: sign in again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "login_sessions",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("used_on_mcp_at", _MOMENT, nullable=True),
        sa.Column("ended_at", _MOMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id", "user_id"], ["users.organization_id", "users.id"], name="fk_login_sessions_user"
        ),
    )
    op.create_index("ix_login_sessions_user", "login_sessions", ["organization_id", "user_id"])
    op.drop_table("refresh_tokens")
    op.create_table(
        "refresh_tokens",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("session_id", sa.String(40), nullable=False),
        sa.Column("token_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.Column("used_at", _MOMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id", "session_id"],
            ["login_sessions.organization_id", "login_sessions.id"],
            name="fk_refresh_tokens_session",
        ),
    )
    op.create_index("ix_refresh_tokens_token_sha256", "refresh_tokens", ["token_sha256"])
