"""Payments, their attempts, inquiries and callbacks; Daraja's shared access tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "daraja_tokens",
        sa.Column("app_id", sa.String(length=64), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("app_id", name="pk_daraja_tokens"),
    )
    op.create_table(
        "payments",
        sa.Column("next_action_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("organization_id", sa.String(length=40), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("environment", sa.String(length=20), nullable=False),
        sa.Column("shortcode_id", sa.String(length=40), nullable=False),
        sa.Column("shortcode", sa.String(length=7), nullable=False),
        sa.Column("phone", sa.String(length=12), nullable=False),
        sa.Column("amount_cents", sa.BigInteger(), nullable=False),
        sa.Column("reference", sa.String(length=12), nullable=False),
        sa.Column("description", sa.String(length=13), nullable=False),
        sa.Column("remarks", sa.String(length=100), nullable=False),
        sa.Column("purpose", sa.String(length=20), nullable=False),
        sa.Column("occasion", sa.String(length=100), nullable=False),
        sa.Column("idempotency_key", sa.String(length=64), nullable=True),
        sa.Column("originator_conversation_id", sa.String(length=64), nullable=True),
        sa.Column("reverses_payment_id", sa.String(length=40), nullable=True),
        sa.Column("reverses_receipt", sa.String(length=20), nullable=True),
        sa.Column("receipt", sa.String(length=20), nullable=True),
        sa.Column("result_code", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.String(length=300), nullable=True),
        sa.Column("untrusted_text", sa.String(length=200), nullable=True),
        sa.Column("created_by", sa.String(length=80), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_sent_count", sa.Integer(), nullable=False),
        sa.Column("ask_count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "id", name="pk_payments"),
        sa.UniqueConstraint("organization_id", "idempotency_key", name="uq_payments_idempotency_key"),
        sa.UniqueConstraint("organization_id", "receipt", name="uq_payments_receipt"),
    )
    op.create_index("ix_payments_created", "payments", ["organization_id", "created_at", "id"])
    op.create_index("ix_payments_due", "payments", ["next_action_at"])
    op.create_index("ix_payments_originator_conversation_id", "payments", ["originator_conversation_id"])
    op.create_index(
        "uq_payments_reverses",
        "payments",
        ["organization_id", "reverses_payment_id"],
        unique=True,
        sqlite_where=sa.text("status NOT IN ('failed', 'declined', 'expired', 'disputed')"),
        postgresql_where=sa.text("status NOT IN ('failed', 'declined', 'expired', 'disputed')"),
    )
    op.create_table(
        "inquiries",
        sa.Column("next_action_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("organization_id", sa.String(length=40), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("environment", sa.String(length=20), nullable=False),
        sa.Column("shortcode_id", sa.String(length=40), nullable=False),
        sa.Column("shortcode", sa.String(length=7), nullable=False),
        sa.Column("payment_id", sa.String(length=40), nullable=True),
        sa.Column("receipt", sa.String(length=20), nullable=True),
        sa.Column("original_conversation_id", sa.String(length=80), nullable=True),
        sa.Column("result_code", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.String(length=300), nullable=True),
        sa.Column("answer", sa.JSON(), nullable=True),
        sa.Column("created_by", sa.String(length=80), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_sent_count", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "payment_id"],
            ["payments.organization_id", "payments.id"],
            name="fk_inquiries_payment_id",
        ),
        sa.PrimaryKeyConstraint("organization_id", "id", name="pk_inquiries"),
    )
    op.create_index("ix_inquiries_due", "inquiries", ["next_action_at"])
    op.create_index("ix_inquiries_payment", "inquiries", ["organization_id", "payment_id"])
    op.create_table(
        "payment_history",
        sa.Column("organization_id", sa.String(length=40), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("payment_id", sa.String(length=40), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event", sa.String(length=40), nullable=False),
        sa.Column("from_status", sa.String(length=20), nullable=True),
        sa.Column("to_status", sa.String(length=20), nullable=True),
        sa.Column("source", sa.String(length=20), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=True),
        sa.Column("note", sa.String(length=300), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id", "payment_id"],
            ["payments.organization_id", "payments.id"],
            name="fk_payment_history_payment_id",
        ),
        sa.PrimaryKeyConstraint("organization_id", "id", name="pk_payment_history"),
    )
    op.create_index("ix_payment_history_payment", "payment_history", ["organization_id", "payment_id", "id"])
    op.create_table(
        "stk_claims",
        sa.Column("organization_id", sa.String(length=40), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("payment_id", sa.String(length=40), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "payment_id"],
            ["payments.organization_id", "payments.id"],
            name="fk_stk_claims_payment_id",
        ),
        sa.PrimaryKeyConstraint("organization_id", "fingerprint", name="pk_stk_claims"),
    )
    op.create_table(
        "attempts",
        sa.Column("organization_id", sa.String(length=40), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("payment_id", sa.String(length=40), nullable=True),
        sa.Column("inquiry_id", sa.String(length=40), nullable=True),
        sa.Column("operation", sa.String(length=20), nullable=False),
        sa.Column("callback_token_sha256", sa.String(length=64), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("in_flight_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("replied_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reply", sa.String(length=20), nullable=True),
        sa.Column("reply_code", sa.String(length=64), nullable=True),
        sa.Column("merchant_request_id", sa.String(length=80), nullable=True),
        sa.Column("checkout_request_id", sa.String(length=80), nullable=True),
        sa.Column("conversation_id", sa.String(length=80), nullable=True),
        sa.Column("originator_conversation_id", sa.String(length=80), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id", "inquiry_id"],
            ["inquiries.organization_id", "inquiries.id"],
            name="fk_attempts_inquiry_id",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "payment_id"],
            ["payments.organization_id", "payments.id"],
            name="fk_attempts_payment_id",
        ),
        sa.PrimaryKeyConstraint("organization_id", "id", name="pk_attempts"),
    )
    op.create_index("ix_attempts_callback_token_sha256", "attempts", ["callback_token_sha256"])
    op.create_index("ix_attempts_checkout", "attempts", ["organization_id", "checkout_request_id"])
    op.create_index("ix_attempts_conversation", "attempts", ["organization_id", "conversation_id"])
    op.create_index("ix_attempts_inquiry", "attempts", ["organization_id", "inquiry_id"])
    op.create_index("ix_attempts_payment", "attempts", ["organization_id", "payment_id"])
    op.create_table(
        "balance_snapshots",
        sa.Column("organization_id", sa.String(length=40), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("inquiry_id", sa.String(length=40), nullable=False),
        sa.Column("shortcode_id", sa.String(length=40), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("account", sa.String(length=80), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("current_cents", sa.BigInteger(), nullable=False),
        sa.Column("available_cents", sa.BigInteger(), nullable=False),
        sa.Column("reserved_cents", sa.BigInteger(), nullable=False),
        sa.Column("uncleared_cents", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "inquiry_id"],
            ["inquiries.organization_id", "inquiries.id"],
            name="fk_balance_snapshots_inquiry_id",
        ),
        sa.PrimaryKeyConstraint("organization_id", "id", name="pk_balance_snapshots"),
    )
    op.create_index("ix_balance_snapshots_shortcode", "balance_snapshots", ["organization_id", "shortcode_id", "at"])
    op.create_table(
        "callbacks",
        sa.Column("next_action_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("organization_id", sa.String(length=40), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("attempt_id", sa.String(length=40), nullable=False),
        sa.Column("channel", sa.String(length=10), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source_address", sa.String(length=45), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("note", sa.String(length=300), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id", "attempt_id"],
            ["attempts.organization_id", "attempts.id"],
            name="fk_callbacks_attempt_id",
        ),
        sa.PrimaryKeyConstraint("organization_id", "id", name="pk_callbacks"),
    )
    op.create_index("ix_callbacks_attempt", "callbacks", ["organization_id", "attempt_id"])
    op.create_index("ix_callbacks_due", "callbacks", ["next_action_at"])
    op.create_table(
        "hints",
        sa.Column("organization_id", sa.String(length=40), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("payment_id", sa.String(length=40), nullable=False),
        sa.Column("attempt_id", sa.String(length=40), nullable=False),
        sa.Column("result_code", sa.String(length=64), nullable=False),
        sa.Column("merchant_request_id", sa.String(length=80), nullable=True),
        sa.Column("checkout_request_id", sa.String(length=80), nullable=True),
        sa.Column("conversation_id", sa.String(length=80), nullable=True),
        sa.Column("receipt", sa.String(length=20), nullable=True),
        sa.Column("untrusted_text", sa.String(length=200), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "attempt_id"], ["attempts.organization_id", "attempts.id"], name="fk_hints_attempt_id"
        ),
        sa.PrimaryKeyConstraint("organization_id", "id", name="pk_hints"),
    )
    op.create_index("ix_hints_payment", "hints", ["organization_id", "payment_id"])
