"""Billing: plans, what organizations subscribed to, and rate limits of their own."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "plans",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("slug", sa.String(40), primary_key=True),
        sa.Column("name", sa.String(80), nullable=False),
        *_terms(),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", sa.String(120), nullable=False),
    )
    op.create_table(
        "subscriptions",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("plan", sa.String(40), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("trial_ends_at", _MOMENT, nullable=True),
        *_terms(),
        sa.Column("changed_at", _MOMENT, nullable=False),
        sa.Column("changed_by", sa.String(120), nullable=False),
    )
    op.create_table(
        "rate_limits",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("calls_per_second", sa.Integer(), nullable=True),
        sa.Column("key_calls_per_second", sa.Integer(), nullable=True),
        sa.Column("changed_at", _MOMENT, nullable=False),
        sa.Column("changed_by", sa.String(120), nullable=False),
    )


def _terms() -> list[sa.Column[Any]]:
    return [
        sa.Column("monthly_fee_cents", sa.BigInteger(), nullable=False),
        sa.Column("included_calls", sa.BigInteger(), nullable=True),
        sa.Column("included_payments", sa.BigInteger(), nullable=True),
        sa.Column("calls_per_second", sa.Integer(), nullable=True),
        sa.Column("key_calls_per_second", sa.Integer(), nullable=True),
        sa.Column("largest_batch", sa.Integer(), nullable=True),
        sa.Column("seats", sa.Integer(), nullable=True),
        sa.Column("tools", sa.JSON(), nullable=True),
    ]
