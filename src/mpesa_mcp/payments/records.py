"""Payments and inquiries as the rest of the program reads them: frozen, without a session behind them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from mpesa_mcp.payments.requests import InquiryKind
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.values import Environment, Kes, Msisdn


@dataclass(frozen=True, slots=True)
class AskedApproval:
    """The approval that a payment waits for, and until when."""

    approval_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRecord:
    """One payment as it stands. Times in UTC."""

    organization_id: str
    payment_id: str
    kind: PaymentKind
    status: PaymentStatus
    environment: Environment
    shortcode: str
    amount: Kes
    phone: Msisdn
    reference: str
    description: str
    remarks: str
    purpose: str
    occasion: str
    idempotency_key: str | None
    receipt: str | None
    result_code: str | None
    reason: str | None
    reversed_payment_id: str | None
    batch_id: str | None
    """Of a row of a batch."""
    approval: AskedApproval | None
    """Only while it waits for one."""
    untrusted_text: str | None
    times_asked: int
    """How often Safaricom was asked what became of it."""
    next_look_at: datetime | None
    """When something of ours is due for it; an unknown payment without that waits for a person."""
    created_by: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class OpenedPayment:
    """The answer of intake: the payment, and whether it was there already for this same request."""

    payment: PaymentRecord
    replayed: bool


class InquiryStatus(StrEnum):
    QUEUED = "queued"
    SENDING = "sending"
    PENDING = "pending"
    ANSWERED = "answered"
    FAILED = "failed"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        return self in {InquiryStatus.ANSWERED, InquiryStatus.FAILED, InquiryStatus.EXPIRED}


@dataclass(frozen=True, slots=True, kw_only=True)
class InquiryRecord:
    """One question to Safaricom and its answer, if it came. `answer` holds our own field names."""

    inquiry_id: str
    kind: InquiryKind
    status: InquiryStatus
    environment: Environment
    shortcode: str
    receipt: str | None
    result_code: str | None
    reason: str | None
    answer: Mapping[str, Any] | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountBalance:
    """One account of a shortcode as Safaricom reported it."""

    account: str
    currency: str
    current: Kes
    available: Kes
    reserved: Kes
    uncleared: Kes


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One line of a payment's history; `after` None means that the event changed nothing."""

    at: datetime
    event: str
    before: str | None
    after: str | None
    source: str
    code: str | None
    note: str | None
