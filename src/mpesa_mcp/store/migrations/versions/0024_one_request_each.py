"""An attempt stands for one request: what goes out again under another access token is another attempt."""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("attempts", "sent_twice")
