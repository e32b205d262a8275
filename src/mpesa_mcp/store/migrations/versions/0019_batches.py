"""Batches of payouts, their rows, and which batch a payment is of; batches are a queue (crossings.sql)."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("next_action_at", _MOMENT, nullable=True),
        sa.Column("lease_until", _MOMENT, nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("environment", sa.String(20), nullable=False),
        sa.Column("shortcode_id", sa.String(40), nullable=False),
        sa.Column("shortcode", sa.String(7), nullable=False),
        sa.Column("purpose", sa.String(20), nullable=False),
        sa.Column("idempotency_key", sa.String(64), nullable=False),
        sa.Column("skip_invalid", sa.Boolean(), nullable=False),
        sa.Column("rows_sha256", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("amount_cents", sa.BigInteger(), nullable=False),
        sa.Column("reserved_in", sa.JSON(), nullable=False),
        sa.Column("approval_id", sa.String(40), nullable=True),
        sa.Column("reason", sa.String(300), nullable=True),
        sa.Column("created_by", sa.String(80), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("counted_from", _MOMENT, nullable=False),
        sa.UniqueConstraint("organization_id", "idempotency_key", name="uq_batches_idempotency_key"),
    )
    op.create_index("ix_batches_created", "batches", ["organization_id", "created_at", "id"])
    op.create_index("ix_batches_due", "batches", ["next_action_at"])
    op.create_table(
        "batch_lines",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("batch_id", sa.String(40), primary_key=True),
        sa.Column("line", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("phone", sa.String(12), nullable=False),
        sa.Column("amount_cents", sa.BigInteger(), nullable=False),
        sa.Column("reference", sa.String(12), nullable=False),
        sa.Column("remarks", sa.String(100), nullable=False),
        sa.Column("problem", sa.String(300), nullable=True),
        sa.Column("payment_id", sa.String(40), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("asked_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "batch_id"],
            ["batches.organization_id", "batches.id"],
            name="fk_batch_lines_batch_id",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "payment_id"],
            ["payments.organization_id", "payments.id"],
            name="fk_batch_lines_payment_id",
        ),
    )
    op.create_index("ix_batch_lines_state", "batch_lines", ["organization_id", "batch_id", "state", "line"])
    op.add_column("payments", sa.Column("batch_id", sa.String(40), nullable=True))
    op.create_index("ix_payments_batch", "payments", ["organization_id", "batch_id", "settled_at"])
