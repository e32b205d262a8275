"""Approvals: what waits for a person, and who decided what."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("payments", sa.Column("approval_id", sa.String(40), nullable=True))
    op.create_table(
        "approvals",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("payment_id", sa.String(40), nullable=True),
        sa.Column("batch_id", sa.String(40), nullable=True),
        sa.Column("environment", sa.String(20), nullable=False),
        sa.Column("payment_count", sa.Integer, nullable=False),
        sa.Column("amount_cents", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("approvers_needed", sa.Integer, nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("reasons", sa.JSON, nullable=False),
        sa.Column("asked_by", sa.String(120), nullable=False),
        sa.Column("asked_through", sa.String(120), nullable=True),
        sa.Column("asked_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.Column("closed_at", _MOMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id", "payment_id"],
            ["payments.organization_id", "payments.id"],
            name="fk_approvals_payment",
        ),
        sa.UniqueConstraint("organization_id", "payment_id", name="uq_approvals_payment"),
    )
    op.create_index("ix_approvals_batch", "approvals", ["organization_id", "batch_id"])
    op.create_index("ix_approvals_status", "approvals", ["organization_id", "status", "id"])
    op.create_table(
        "approval_decisions",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("approval_id", sa.String(40), primary_key=True),
        sa.Column("user_id", sa.String(40), primary_key=True),
        sa.Column("verdict", sa.String(20), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("reason", sa.String(200), nullable=True),
        sa.Column("at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "approval_id"],
            ["approvals.organization_id", "approvals.id"],
            name="fk_approval_decisions_approval",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "user_id"], ["users.organization_id", "users.id"], name="fk_approval_decisions_user"
        ),
    )
