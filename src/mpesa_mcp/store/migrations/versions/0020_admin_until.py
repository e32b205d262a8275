"""Until when a person was an org_admin: for a day after that, what allows more still needs two people."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("admin_until", sa.DateTime(timezone=True), nullable=True))
