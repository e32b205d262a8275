"""Failures to sign in are forgotten, and from where an account last signed in is known."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sign_in_failures", sa.Column("succeeded_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_sign_in_failures_updated_at", "sign_in_failures", ["updated_at"])
