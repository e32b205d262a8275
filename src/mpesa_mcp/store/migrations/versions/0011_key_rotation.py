"""Which key took another's place, and which stood where others can read it."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("replaced_by", sa.String(40), nullable=True))
    op.add_column("api_keys", sa.Column("exposed_at", sa.DateTime(timezone=True), nullable=True))
