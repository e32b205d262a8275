"""Since when a person has their role: whoever got it after a freeze has no part in lifting it."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("role_changed_at", sa.DateTime(timezone=True), nullable=True))
