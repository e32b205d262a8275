"""From which amount on a payout's success counts only after a question of our own, and when a hint was answered."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "organizations",
        # KES 10,000, in cents.
        sa.Column("confirm_payouts_from_cents", sa.BigInteger(), nullable=False, server_default="1000000"),
    )
    op.add_column("hints", sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True))
