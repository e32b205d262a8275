"""Whether a request went out a second time because its access token had been refused."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("sent_twice", sa.Boolean(), nullable=False, server_default=sa.false()))
