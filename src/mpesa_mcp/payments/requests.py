"""What callers ask for: the requests of money and of information, checked once, here.

Light on purpose: no database and no web stack, so that the tools can speak these words before anything else is loaded.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from mpesa_mcp.daraja.operations import Purpose
from mpesa_mcp.errors import InputError
from mpesa_mcp.payments.states import PaymentKind
from mpesa_mcp.values import Kes, Msisdn, Role

# Daraja's limits for one payment, in shillings (daraja/api.md §0, Limits).
STK_SHILLINGS = (1, 250_000)
B2C_SHILLINGS = (10, 250_000)
REFERENCE = re.compile(r"[A-Za-z0-9 -]{1,12}")
IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,64}")
# What keys begin with that the feeder of batches makes; whoever had one first would stop the batch.
_OF_BATCHES = "bat_"
RECEIPT = re.compile(r"[A-Z0-9]{8,12}")
_SPACES = re.compile(" {2,}")


# What the caller chose, by the column it is stored in: written to the row, and compared with it when a key comes again.
Columns = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StkPushRequest:
    """Ask the owner of a phone to pay. Without a key, the same phone, amount and reference is the same request."""

    kind: ClassVar = PaymentKind.STK_PUSH
    tool: ClassVar = "stk_push"
    least_role: ClassVar = Role.USER

    phone: Msisdn
    amount: Kes
    reference: str
    description: str = ""
    idempotency_key: str | None = None

    def __post_init__(self) -> None:
        _tidy(self, "reference", "description")
        check_amount(self.amount, STK_SHILLINGS)
        check_reference(self.reference)
        check_text("description", self.description, 0, 13)
        check_key(self.idempotency_key)

    def columns(self) -> Columns:
        return {
            "phone": self.phone.digits,
            "amount_cents": self.amount.cents,
            "reference": self.reference,
            "description": self.description,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class B2cRequest:
    """Pay a person out of the organization's utility account."""

    kind: ClassVar = PaymentKind.B2C
    tool: ClassVar = "b2c_payment"
    least_role: ClassVar = Role.MANAGER

    phone: Msisdn
    amount: Kes
    remarks: str
    idempotency_key: str
    purpose: Purpose = Purpose.BUSINESS
    occasion: str = ""

    def __post_init__(self) -> None:
        _tidy(self, "remarks", "occasion")
        check_amount(self.amount, B2C_SHILLINGS)
        check_text("remarks", self.remarks, 2, 100)
        check_text("occasion", self.occasion, 0, 100)
        check_key(self.idempotency_key)

    def columns(self) -> Columns:
        return {
            "phone": self.phone.digits,
            "amount_cents": self.amount.cents,
            "remarks": self.remarks,
            "purpose": self.purpose.value,
            "occasion": self.occasion,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ReversalRequest:
    """Give a received payment back, whole, by its receipt."""

    kind: ClassVar = PaymentKind.REVERSAL
    tool: ClassVar = "reverse"
    least_role: ClassVar = Role.MANAGER

    receipt: str
    reason: str
    idempotency_key: str

    def __post_init__(self) -> None:
        _tidy(self, "reason")
        check_receipt(self.receipt)
        check_text("reason", self.reason, 2, 100)
        check_key(self.idempotency_key)

    def columns(self) -> Columns:
        return {"reverses_receipt": self.receipt, "remarks": self.reason}


def tidied(text: str) -> str:
    """The text without spaces around it, and with single ones in it.

    A model that repeats itself may space a text otherwise: that is the same request, and no other payment.
    """
    return _SPACES.sub(" ", text.strip())


def _tidy(request: object, *names: str) -> None:
    for name in names:
        object.__setattr__(request, name, tidied(getattr(request, name)))


PaymentRequest = StkPushRequest | B2cRequest | ReversalRequest


class InquiryKind(StrEnum):
    BALANCE = "balance"
    STATUS = "status"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentFilter:
    """Which payments to list or to count; a field that is None does not filter."""

    kind: PaymentKind | None = None
    status: str | None = None
    reference: str | None = None
    phone: Msisdn | None = None

    def __post_init__(self) -> None:
        if self.reference is not None:
            _tidy(self, "reference")


@dataclass(frozen=True, slots=True)
class PageAsked:
    """How much of a list to give: at most `limit` rows after `cursor` (from the page before)."""

    limit: int = 20
    cursor: str | None = None


def check_receipt(receipt: str) -> None:
    """Raises InputError unless the text looks like an M-PESA receipt (10 letters and digits, upper case)."""
    if not RECEIPT.fullmatch(receipt):
        raise InputError("receipt must be an M-PESA receipt: 10 capital letters and digits.", field="receipt")


def check_amount(amount: Kes, bounds: tuple[int, int]) -> None:
    """Raises InputError unless it is whole shillings within `bounds`, both included."""
    least, most = bounds
    if not amount.is_whole_shillings or not least <= amount.shillings <= most:
        raise InputError(f"amount must be a whole number of shillings from {least:,} to {most:,}.", field="amount")


def check_reference(reference: str) -> None:
    """Raises InputError unless it is what Daraja takes for a reference."""
    if not REFERENCE.fullmatch(reference) or not reference.strip():
        raise InputError(
            "reference must be 1 to 12 characters: letters, digits, spaces and dashes only.", field="reference"
        )


def check_text(name: str, text: str, least: int, most: int) -> None:
    """Raises InputError unless it is so many printable characters on one line."""
    visible = text.strip()
    if (least and len(visible) < least) or len(text) > most or any(not ch.isprintable() for ch in text):
        span = f"{least} to {most}" if least else f"at most {most}"
        raise InputError(f"{name} must be {span} printable characters on one line.", field=name)


def check_key(key: str | None) -> None:
    """Raises InputError unless it is fit for a caller's idempotency key, or None."""
    if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
        raise InputError(
            "idempotency_key must be 1 to 64 characters without spaces, for example invoice-1042-payment.",
            field="idempotency_key",
        )
    if key is not None and key.lower().startswith(_OF_BATCHES):
        raise InputError(
            f"idempotency_key must not begin with {_OF_BATCHES}: the payments of batches have such keys.",
            field="idempotency_key",
        )
