"""What a rejected row of a batch said, so that its file can be corrected."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batch_lines", sa.Column("given", sa.JSON(), nullable=True))
