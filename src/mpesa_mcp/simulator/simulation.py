"""One simulator: its money, its apps, its phones, its waiting faults. `reset` makes all of them new.

There is no state outside an instance, so several simulators can run in one process.
"""

import base64
import random
from datetime import datetime

from mpesa_mcp.simulator import wire
from mpesa_mcp.simulator.accounts import Kind, Ledger, Movement
from mpesa_mcp.simulator.bounded import Bounded
from mpesa_mcp.simulator.deliveries import Deliveries
from mpesa_mcp.simulator.faults import Faults
from mpesa_mcp.simulator.identifiers import Identifiers
from mpesa_mcp.simulator.initiators import CredentialKey, Initiators
from mpesa_mcp.simulator.oauth import Apps
from mpesa_mcp.simulator.payments import Book, Payment
from mpesa_mcp.simulator.phones import Phones
from mpesa_mcp.simulator.schedule import Schedule
from mpesa_mcp.simulator.wire import Answer
from mpesa_mcp.values import Clock

# The public passkey of Safaricom's sandbox (daraja/api.md §0).
PASSKEY = "bfb279f9aa9bdbcf158e97dd71a467cd2e0c893059b10f78e6b72ada1ed2c919"
MAX_ARRESTS = 10_000


class Simulation:
    def __init__(self, *, seed: int, delay_ms: int, clock: Clock) -> None:
        self.clock = clock
        self.delay_seconds = delay_ms / 1000
        self.credential_key = CredentialKey(clock)
        self.schedule = Schedule()
        self.deliveries = Deliveries(clock)
        self.reset(seed)

    def reset(self, seed: int | None = None) -> None:
        """As if just started. Ids go on where they were unless a seed is given, so that receipts do not come again."""
        self.schedule.cancel_all()
        if seed is not None:
            self.identifiers = Identifiers(seed, self.clock)
            self.moods = random.Random(f"{seed}:moods")  # which of several true answers is given
        self.apps = Apps(self.identifiers, self.clock)
        self.ledger = Ledger()
        self.book = Book()
        self.phones = Phones()
        self.faults = Faults()
        self.initiators = Initiators(self.credential_key)
        self.deliveries.remembered.clear()
        self._arrested: Bounded[tuple[str, str], bool] = Bounded(MAX_ARRESTS)

    def now(self) -> datetime:
        return self.clock.now()

    def error(self, status: int, code: str, message: str) -> Answer:
        return wire.error(self.identifiers.request_id(), status, code, message)

    def arrest_once(self, operation: str, phone: str) -> bool:
        """Whether this is the first call of the operation for this phone, which is the one that gets the 429."""
        if (operation, phone) in self._arrested:
            return False
        self._arrested[operation, phone] = True
        return True

    def succeed(self, payment: Payment) -> None:
        """Moves the money of a payment, writes the ledger and the text message."""
        payment.succeed(self.identifiers.receipt(), self.now())
        self.book.add_receipt(payment)
        self.ledger.record(_movement(payment))
        phone = self.phones.phone(payment.party)
        match payment.kind:
            case Kind.STK:
                phone.tell_paid(payment)
            case Kind.B2C:
                phone.tell_received(payment)
            case Kind.REVERSAL:
                phone.tell_returned(payment, payment.reference)

    def fail(self, payment: Payment, code: str) -> None:
        payment.fail(code, self.now())


def _movement(payment: Payment) -> Movement:
    if payment.receipt is None or payment.decided_at is None:
        raise ValueError("only a payment that succeeded moves money")
    return Movement(
        kind=payment.kind,
        shortcode=payment.shortcode,
        party=payment.party,
        amount=payment.amount,
        receipt=payment.receipt,
        originator_conversation_id=None if payment.kind is Kind.STK else payment.originator_conversation_id,
        checkout_request_id=payment.checkout_request_id,
        at=payment.decided_at,
    )


def stk_password(shortcode: str, timestamp: str) -> str:
    return base64.b64encode(f"{shortcode}{PASSKEY}{timestamp}".encode()).decode()
