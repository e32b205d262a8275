"""People: users, their invitations, their sessions, and failures to sign in; what an organization's life needs."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    for column in (
        sa.Column("default_environment", sa.String(20), nullable=False, server_default="simulator"),
        sa.Column("frozen_at", _MOMENT, nullable=True),
        sa.Column("frozen_by", sa.String(120), nullable=True),
        sa.Column("unfreeze_asked_by", sa.String(120), nullable=True),
        sa.Column("closed_at", _MOMENT, nullable=True),
    ):
        op.add_column("organizations", column)
    op.create_table(
        "users",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("password_hash", sa.String(200), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", sa.String(120), nullable=False),
        sa.Column("deactivated_at", _MOMENT, nullable=True),
        sa.Column("last_sign_in_at", _MOMENT, nullable=True),
        sa.UniqueConstraint("email", name="uq_users_email"),
    )
    op.create_table(
        "invitations",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("token_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", sa.String(120), nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.Column("accepted_at", _MOMENT, nullable=True),
        sa.Column("revoked_at", _MOMENT, nullable=True),
    )
    op.create_index("ix_invitations_token_sha256", "invitations", ["token_sha256"])
    op.create_table(
        "refresh_tokens",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("family_id", sa.String(40), nullable=False),
        sa.Column("token_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.Column("used_at", _MOMENT, nullable=True),
        sa.Column("revoked_at", _MOMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id", "user_id"], ["users.organization_id", "users.id"], name="fk_refresh_tokens_user"
        ),
    )
    op.create_index("ix_refresh_tokens_token_sha256", "refresh_tokens", ["token_sha256"])
    op.create_index("ix_refresh_tokens_family", "refresh_tokens", ["organization_id", "family_id"])
    op.create_table(
        "sign_in_failures",
        sa.Column("account", sa.String(64), primary_key=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("blocked_until", _MOMENT, nullable=True),
        sa.Column("updated_at", _MOMENT, nullable=False),
    )
