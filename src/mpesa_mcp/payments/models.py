"""The tables of payments. The inbox shares them; everybody else gets records (`payments.records`)."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlmodel import Field

from mpesa_mcp.daraja.bodies import MAX_CODE
from mpesa_mcp.store.tables import Due, OrganizationTable, cents, moment


class Payment(OrganizationTable, Due, table=True):
    """One movement asked for. `amount_cents` in cents of a shilling; `phone` twelve digits."""

    __tablename__ = "payments"
    __table_args__ = (
        UniqueConstraint("organization_id", "idempotency_key"),
        UniqueConstraint("organization_id", "receipt"),
        Index("ix_payments_created", "organization_id", "created_at", "id"),
        Index("ix_payments_due", "next_action_at"),
        # What was paid to one number before.
        Index(
            "ix_payments_recipient",
            "organization_id",
            "phone",
            "created_at",
            sqlite_where=text("kind <> 'stk_push'"),
            postgresql_where=text("kind <> 'stk_push'"),
        ),
        Index("ix_payments_batch", "organization_id", "batch_id", "settled_at"),
        # One reversal under way, or done, for each payment. Those that moved nothing do not count; neither does a
        # disputed one here, since a failed reversal may become that after another was begun. Intake refuses that case.
        Index(
            "uq_payments_reverses",
            "organization_id",
            "reverses_payment_id",
            unique=True,
            sqlite_where=text("status NOT IN ('failed', 'declined', 'expired', 'disputed')"),
            postgresql_where=text("status NOT IN ('failed', 'declined', 'expired', 'disputed')"),
        ),
    )

    id: str = Field(primary_key=True, max_length=40)
    kind: str = Field(max_length=20)
    status: str = Field(max_length=20)
    environment: str = Field(max_length=20)
    shortcode_id: str = Field(max_length=40)
    shortcode: str = Field(max_length=7)
    phone: str = Field(max_length=12)
    amount_cents: int = cents()
    reference: str = Field(default="", max_length=12)
    description: str = Field(default="", max_length=13)
    remarks: str = Field(default="", max_length=100)
    purpose: str = Field(default="", max_length=20)
    occasion: str = Field(default="", max_length=100)
    idempotency_key: str | None = Field(default=None, max_length=64)
    originator_conversation_id: str | None = Field(default=None, max_length=64, index=True)
    batch_id: str | None = Field(default=None, max_length=40)
    reverses_payment_id: str | None = Field(default=None, max_length=40)
    reverses_receipt: str | None = Field(default=None, max_length=20)
    receipt: str | None = Field(default=None, max_length=20)
    result_code: str | None = Field(default=None, max_length=MAX_CODE)
    reason: str | None = Field(default=None, max_length=300)
    untrusted_text: str | None = Field(default=None, max_length=200)
    created_by: str = Field(max_length=80)
    created_at: datetime = moment()
    updated_at: datetime = moment()
    # When it became free to be sent: at once, once a person approved it, or when its paused batch was resumed.
    queued_at: datetime | None = moment(nullable=True)
    settled_at: datetime | None = moment(nullable=True)
    # The scopes in whose spending it is counted unless nothing moved; the periods are those of `created_at`.
    reserved_in: list[str] = Field(default_factory=list, sa_type=JSON, sa_column_kwargs={"server_default": "[]"})
    # What people must approve, or have approved: nothing else is sent of this payment.
    approval_id: str | None = Field(default=None, max_length=40)
    not_sent_count: int = 0
    ask_count: int = 0

    @property
    def sends_share_an_id(self) -> bool:
        """Whether Daraja knows all sends of it under one id of ours, and carries one out at most."""
        return self.originator_conversation_id is not None


class Attempt(OrganizationTable, table=True):
    """One call to Daraja, for a payment or for an inquiry. Committed before the call is made."""

    __tablename__ = "attempts"
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "payment_id"], ["payments.organization_id", "payments.id"]),
        ForeignKeyConstraint(["organization_id", "inquiry_id"], ["inquiries.organization_id", "inquiries.id"]),
        Index("ix_attempts_payment", "organization_id", "payment_id"),
        Index("ix_attempts_inquiry", "organization_id", "inquiry_id"),
        Index("ix_attempts_checkout", "organization_id", "checkout_request_id"),
        Index("ix_attempts_conversation", "organization_id", "conversation_id"),
    )

    id: str = Field(primary_key=True, max_length=40)
    payment_id: str | None = Field(default=None, max_length=40)
    inquiry_id: str | None = Field(default=None, max_length=40)
    operation: str = Field(max_length=20)
    callback_token_sha256: str = Field(max_length=64, index=True)
    sent_at: datetime = moment()
    # Until then our own reply may still come; a callback that overtakes it waits.
    in_flight_until: datetime = moment()
    replied_at: datetime | None = moment(nullable=True)
    reply: str | None = Field(default=None, max_length=20)
    reply_code: str | None = Field(default=None, max_length=MAX_CODE)
    merchant_request_id: str | None = Field(default=None, max_length=80)
    checkout_request_id: str | None = Field(default=None, max_length=80)
    conversation_id: str | None = Field(default=None, max_length=80)
    originator_conversation_id: str | None = Field(default=None, max_length=80)


class CallbackStatus(StrEnum):
    """What became of a body; one that waits was read, and no more hints were kept at that moment."""

    STORED = "stored"
    WAITING = "waiting"
    APPLIED = "applied"
    UNCONFIRMED = "unconfirmed"
    MALFORMED = "malformed"
    MISMATCHED = "mismatched"


# Of these the payment knows nothing yet: the inbox will read them (again), and nothing is sent meanwhile.
UNAPPLIED = (CallbackStatus.STORED, CallbackStatus.WAITING)


class Callback(OrganizationTable, Due, table=True):
    """One body that was posted to one attempt's path; `body` is as it came, but for our own secrets."""

    __tablename__ = "callbacks"
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "attempt_id"], ["attempts.organization_id", "attempts.id"]),
        Index("ix_callbacks_attempt", "organization_id", "attempt_id"),
        Index("ix_callbacks_due", "next_action_at"),
    )

    id: str = Field(primary_key=True, max_length=40)
    attempt_id: str = Field(max_length=40)
    channel: str = Field(max_length=10)
    status: str = Field(max_length=20)
    received_at: datetime = moment()
    source_address: str = Field(max_length=45)
    body: str
    applied_at: datetime | None = moment(nullable=True)
    note: str | None = Field(default=None, max_length=300)


class Hint(OrganizationTable, table=True):
    """What a callback claims and nothing of ours has confirmed yet: the ids to ask about, the receipt it names."""

    __tablename__ = "hints"
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "attempt_id"], ["attempts.organization_id", "attempts.id"]),
        Index("ix_hints_payment", "organization_id", "payment_id"),
    )

    id: str = Field(primary_key=True, max_length=40)
    payment_id: str = Field(max_length=40)
    attempt_id: str = Field(max_length=40)
    result_code: str = Field(max_length=MAX_CODE)
    merchant_request_id: str | None = Field(default=None, max_length=80)
    checkout_request_id: str | None = Field(default=None, max_length=80)
    conversation_id: str | None = Field(default=None, max_length=80)
    receipt: str | None = Field(default=None, max_length=20)
    untrusted_text: str | None = Field(default=None, max_length=200)
    received_at: datetime = moment()
    # When Safaricom last answered our own question about it without confirming it.
    answered_at: datetime | None = moment(nullable=True)


class PaymentHistory(OrganizationTable, table=True):
    """What happened to a payment, in order: every status change, and every piece of evidence that changed nothing."""

    __tablename__ = "payment_history"
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "payment_id"], ["payments.organization_id", "payments.id"]),
        Index("ix_payment_history_payment", "organization_id", "payment_id", "id"),
    )

    id: str = Field(primary_key=True, max_length=40)
    payment_id: str = Field(max_length=40)
    at: datetime = moment()
    event: str = Field(max_length=40)
    from_status: str | None = Field(default=None, max_length=20)
    to_status: str | None = Field(default=None, max_length=20)
    source: str = Field(max_length=20)
    code: str | None = Field(default=None, max_length=MAX_CODE)
    note: str | None = Field(default=None, max_length=300)


class StkClaim(OrganizationTable, table=True):
    """Points from (phone, amount, reference, environment) to the STK push that was last made for them without a key."""

    __tablename__ = "stk_claims"
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "payment_id"], ["payments.organization_id", "payments.id"]),
    )

    fingerprint: str = Field(primary_key=True, max_length=64)
    payment_id: str = Field(max_length=40)
    claimed_at: datetime = moment()


class Inquiry(OrganizationTable, Due, table=True):
    """One question to Safaricom (a balance, a transaction's status). Moves nothing; expires and may be asked again."""

    __tablename__ = "inquiries"
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "payment_id"], ["payments.organization_id", "payments.id"]),
        Index("ix_inquiries_payment", "organization_id", "payment_id"),
        Index("ix_inquiries_due", "next_action_at"),
    )

    id: str = Field(primary_key=True, max_length=40)
    kind: str = Field(max_length=20)
    status: str = Field(max_length=20)
    environment: str = Field(max_length=20)
    shortcode_id: str = Field(max_length=40)
    shortcode: str = Field(max_length=7)
    payment_id: str | None = Field(default=None, max_length=40)
    receipt: str | None = Field(default=None, max_length=20)
    original_conversation_id: str | None = Field(default=None, max_length=80)
    result_code: str | None = Field(default=None, max_length=MAX_CODE)
    reason: str | None = Field(default=None, max_length=300)
    answer: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    created_by: str = Field(max_length=80)
    created_at: datetime = moment()
    updated_at: datetime = moment()
    not_sent_count: int = 0


class BalanceSnapshot(OrganizationTable, table=True):
    """One account of a shortcode as Safaricom reported it at one moment, in cents; any of them may be negative."""

    __tablename__ = "balance_snapshots"
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "inquiry_id"], ["inquiries.organization_id", "inquiries.id"]),
        Index("ix_balance_snapshots_shortcode", "organization_id", "shortcode_id", "at"),
    )

    id: str = Field(primary_key=True, max_length=40)
    inquiry_id: str = Field(max_length=40)
    shortcode_id: str = Field(max_length=40)
    at: datetime = moment()
    account: str = Field(max_length=80)
    currency: str = Field(max_length=3)
    current_cents: int = cents()
    available_cents: int = cents()
    reserved_cents: int = cents()
    uncleared_cents: int = cents()
