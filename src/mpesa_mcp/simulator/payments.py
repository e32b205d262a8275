"""What was asked for, and how each request stands. The book finds a payment by any id Daraja gave or was given."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from mpesa_mcp.simulator.accounts import Kind
from mpesa_mcp.simulator.bounded import Bounded

MAX_PAYMENTS = 100_000


class State(StrEnum):
    UNDECIDED = "undecided"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(slots=True)
class Payment:
    """One accepted request to move money. `amount` is in whole shillings, times are UTC."""

    kind: Kind
    shortcode: str
    party: str
    amount: int
    accepted_at: datetime
    originator_conversation_id: str  # of an STK push: its MerchantRequestID
    conversation_id: str
    checkout_request_id: str | None = None
    reference: str = ""
    description: str = ""
    reason_type: str = ""
    callback_url: str = ""
    state: State = State.UNDECIDED
    code: str = ""
    receipt: str | None = None
    decided_at: datetime | None = None
    reversed_by: str | None = None
    # Of a slow query: pending answers given so far, and whether the query still pretends not to know.
    pending_answers: int = 0
    query_is_slow: bool = False

    def succeed(self, receipt: str, at: datetime) -> None:
        self.state, self.code, self.receipt, self.decided_at = State.SUCCEEDED, "0", receipt, at

    def fail(self, code: str, at: datetime) -> None:
        self.state, self.code, self.decided_at = State.FAILED, code, at


class Book:
    """The last 100,000 accepted payments. An OriginatorConversationID is refused twice only as long as it is kept."""

    def __init__(self) -> None:
        self._payments: Bounded[str, Payment] = Bounded(MAX_PAYMENTS)
        self._alias: Bounded[str, str] = Bounded(2 * MAX_PAYMENTS)

    def add(self, payment: Payment) -> None:
        self._payments[payment.conversation_id] = payment
        self._alias[payment.checkout_request_id or payment.originator_conversation_id] = payment.conversation_id

    def add_receipt(self, payment: Payment) -> None:
        if payment.receipt is not None:
            self._alias[payment.receipt] = payment.conversation_id

    def find(self, any_id: str) -> Payment | None:
        """By ConversationID, OriginatorConversationID, CheckoutRequestID or receipt."""
        return self._payments.get(self._alias.get(any_id, any_id))

    def checkout(self, checkout_request_id: str) -> Payment | None:
        payment = self.find(checkout_request_id)
        return payment if payment is not None and payment.checkout_request_id == checkout_request_id else None

    def __iter__(self) -> Iterator[Payment]:
        return iter(self._payments.values())

    def __len__(self) -> int:
        return len(self._payments)
