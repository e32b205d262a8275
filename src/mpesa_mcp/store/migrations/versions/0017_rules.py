"""Rules, what is spent under them, changes of them that wait; when a payment was queued.

What was paid before counts for nothing: the counters begin empty.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "spend_rules",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("scope", sa.String(60), primary_key=True),
        sa.Column("rule", sa.JSON(), nullable=False),
        sa.Column("changed_at", _MOMENT, nullable=False),
        sa.Column("changed_by", sa.String(120), nullable=False),
    )
    op.create_table(
        "rule_proposals",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("scope", sa.String(60), nullable=False),
        sa.Column("before", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("after", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("proposed_by", sa.String(120), nullable=False),
        sa.Column("proposed_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.Column("decided_by", sa.String(120), nullable=True),
        sa.Column("decided_at", _MOMENT, nullable=True),
    )
    op.create_table(
        "spending",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("environment", sa.String(20), primary_key=True),
        sa.Column("scope", sa.String(60), primary_key=True),
        sa.Column("recipient", sa.String(12), primary_key=True),
        sa.Column("window", sa.String(5), primary_key=True),
        sa.Column("period", sa.String(13), primary_key=True),
        sa.Column("amount_cents", sa.BigInteger(), nullable=False),
        sa.Column("payments", sa.BigInteger(), nullable=False),
    )
    op.add_column("payments", sa.Column("queued_at", _MOMENT, nullable=True))
    op.add_column("payments", sa.Column("reserved_in", sa.JSON(), nullable=False, server_default="[]"))
    op.execute("UPDATE payments SET queued_at = created_at")
    op.create_index(
        "ix_payments_recipient",
        "payments",
        ["organization_id", "phone", "created_at"],
        sqlite_where=sa.text("kind <> 'stk_push'"),
        postgresql_where=sa.text("kind <> 'stk_push'"),
    )
