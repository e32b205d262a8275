"""Does a callback speak of our attempt? Pure comparisons, field by field.

Every field that is in the body and known to us must agree. The result is the list of names that do not; values are
never repeated, since a forger chose them. A different OriginatorConversationID alone is only recorded (quirk 33).
"""

from dataclasses import dataclass

from mpesa_mcp.daraja.results import B2cOutcome, Party, Result, ReversalOutcome, StatusOutcome, StkCallback
from mpesa_mcp.payments.states import PaymentKind
from mpesa_mcp.values import Kes

# The ids Daraja gives a request; each names one.
IDS = ("checkout_request_id", "conversation_id", "merchant_request_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What we asked for, and the ids our own reply brought (None where no reply did)."""

    kind: PaymentKind
    amount: Kes
    phone: str
    receipt: str | None
    reverses_receipt: str | None
    originator_conversation_id: str | None
    merchant_request_id: str | None
    checkout_request_id: str | None
    conversation_id: str | None


def stk_disagreements(asked: Asked, said: StkCallback) -> list[str]:
    return _differing(
        amount=(asked.amount, said.amount),
        phone=(asked.phone, said.phone),
        merchant_request_id=(asked.merchant_request_id, said.merchant_request_id),
        checkout_request_id=(asked.checkout_request_id, said.checkout_request_id),
        receipt=(asked.receipt, said.receipt),
    )


def b2c_disagreements(asked: Asked, result: Result, outcome: B2cOutcome) -> list[str]:
    return _differing(
        amount=(asked.amount, outcome.amount),
        phone=(asked.phone, outcome.receiver.phone if outcome.receiver else None),
        conversation_id=(asked.conversation_id, result.conversation_id),
        receipt=(asked.receipt, outcome.receipt),
    )


def reversal_disagreements(asked: Asked, result: Result, outcome: ReversalOutcome) -> list[str]:
    return _differing(
        amount=(asked.amount, outcome.amount),
        phone=(asked.phone, outcome.credit_party.phone if outcome.credit_party else None),
        original_receipt=(asked.reverses_receipt, outcome.original_receipt),
        conversation_id=(asked.conversation_id, result.conversation_id),
        receipt=(asked.receipt, outcome.receipt),
    )


def status_disagreements(asked: Asked, outcome: StatusOutcome) -> list[str]:
    """A transaction status answer about our payment; its receipt must be the payment's own where one is known."""
    customer = _customer(asked.kind, outcome)
    return _differing(
        amount=(asked.amount, outcome.amount),
        phone=(asked.phone, customer.phone if customer else None),
        originator_conversation_id=(asked.originator_conversation_id, outcome.originator_conversation_id),
        conversation_id=(asked.conversation_id, outcome.conversation_id),
        receipt=(asked.receipt, outcome.receipt),
    )


def _customer(kind: PaymentKind, outcome: StatusOutcome) -> Party | None:
    """The side of the movement that the payment's phone is on."""
    match kind:
        case PaymentKind.STK_PUSH:
            return outcome.debit_party
        case PaymentKind.B2C | PaymentKind.REVERSAL:
            return outcome.credit_party


def _differing(**pairs: tuple[object, object]) -> list[str]:
    return [name for name, (ours, theirs) in pairs.items() if None not in {ours, theirs} and ours != theirs]
