"""The customers' phones: what they are being asked, and the messages they got. Newest first."""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

from mpesa_mcp.simulator.bounded import Bounded
from mpesa_mcp.simulator.payments import Payment, State
from mpesa_mcp.values import EAT

MAX_PHONES = 10_000
MAX_MESSAGES = 50
MAX_PROMPTS = 20


@dataclass(frozen=True, slots=True)
class Message:
    """A text message. `amount` is signed, in whole shillings: what it did to the customer's money."""

    at: datetime
    receipt: str
    amount: int
    text: str

    def as_json(self) -> dict[str, object]:
        return {"at": self.at.isoformat(), "receipt": self.receipt, "amount": self.amount, "text": self.text}


@dataclass(slots=True)
class Phone:
    msisdn: str
    messages: deque[Message] = field(default_factory=lambda: deque(maxlen=MAX_MESSAGES))
    asked: Bounded[str, Payment] = field(default_factory=lambda: Bounded(MAX_PROMPTS))

    @property
    def prompts(self) -> list[Payment]:
        """Payments that wait for this person, newest first."""
        return [payment for payment in reversed(self.asked.values()) if payment.state is State.UNDECIDED]

    def ask(self, payment: Payment) -> None:
        self.asked[payment.checkout_request_id or ""] = payment

    def tell_paid(self, payment: Payment) -> None:
        where = f"{payment.shortcode} for account {payment.reference}"
        self._tell(payment, -payment.amount, f"{_ksh(payment)} paid to {where}")

    def tell_received(self, payment: Payment) -> None:
        self._tell(payment, payment.amount, f"You have received {_ksh(payment)} from {payment.shortcode}")

    def tell_returned(self, payment: Payment, original_receipt: str) -> None:
        what = f"{_ksh(payment)} from {payment.shortcode} has been returned to you: reversal of {original_receipt}"
        self._tell(payment, payment.amount, what)

    def _tell(self, payment: Payment, amount: int, what: str) -> None:
        if payment.decided_at is None or payment.receipt is None:
            raise ValueError("only a payment that succeeded is confirmed")
        local = payment.decided_at.astimezone(EAT)
        when = f"{local.day}/{local.month}/{local:%y} at {local:%I:%M %p}".replace("at 0", "at ")
        text = f"{payment.receipt} Confirmed. {what} on {when}."
        self.messages.appendleft(Message(payment.decided_at, payment.receipt, amount, text))


def _ksh(payment: Payment) -> str:
    return f"Ksh{payment.amount:,}.00"


class Phones:
    """Every phone seen, the latest 10,000."""

    def __init__(self) -> None:
        self._phones: Bounded[str, Phone] = Bounded(MAX_PHONES)

    def phone(self, msisdn: str) -> Phone:
        """The phone, seen from now on."""
        if msisdn not in self._phones:
            self._phones[msisdn] = Phone(msisdn)
        return self._phones[msisdn]

    def look(self, msisdn: str) -> Phone:
        """The phone as it is, without having been seen by this."""
        return self._phones.get(msisdn) or Phone(msisdn)

    def seen(self) -> list[Phone]:
        return list(reversed(self._phones.values()))
