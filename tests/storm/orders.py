"""Who asks for what and when: the same seed gives the same orders."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from mpesa_mcp.payments.requests import B2cRequest, PaymentRequest, ReversalRequest, StkPushRequest
from mpesa_mcp.payments.states import PaymentKind
from mpesa_mcp.values import Kes, Msisdn

# Payouts from here on are confirmed by a question of ours before a success counts.
_LARGE_SHILLINGS = 10_000
# The organization that collects with one shortcode and pays with another; it cannot give back what it collected.
TWO_SHORTCODES = "shop-0"


@dataclass(frozen=True)
class Order:
    """One payment to be asked for, `at` so many seconds after the beginning. No other has its phone.

    `is_given_back`: once it has succeeded with a receipt it is reversed.
    """

    number: int
    slug: str
    kind: PaymentKind
    phone: str
    shillings: int
    at: float
    is_given_back: bool

    def request(self) -> PaymentRequest:
        phone, amount = Msisdn(self.phone), Kes.from_shillings(self.shillings)
        if self.kind is PaymentKind.B2C:
            return B2cRequest(phone=phone, amount=amount, remarks="Wages", idempotency_key=f"order-{self.number}")
        # Every other push comes without a key: the phone, the amount and the reference say that it is the same.
        key = f"order-{self.number}" if self.number % 4 else None
        return StkPushRequest(phone=phone, amount=amount, reference=f"INV-{self.number}", idempotency_key=key)

    def reversal(self, receipt: str) -> PaymentRequest:
        return ReversalRequest(receipt=receipt, reason="Paid twice", idempotency_key=f"back-{self.number}")


def make_orders(*, count: int, seconds: float, organizations: int, seed: int) -> Sequence[Order]:
    """As many pushes as payouts, over the whole table of digits, the rare ones first if there is no room for all."""
    mixed = random.Random(seed)
    drafts = [
        (kind, 99 - number % 100) for number in range(count // 2) for kind in (PaymentKind.STK_PUSH, PaymentKind.B2C)
    ]
    mixed.shuffle(drafts)
    return [
        _order(number, *draft, at=seconds * number / count, slug=f"shop-{mixed.randrange(organizations)}")
        for number, draft in enumerate(drafts)
    ]


def _order(number: int, kind: PaymentKind, digits: int, *, at: float, slug: str) -> Order:
    is_large = kind is PaymentKind.B2C and number % 8 == 0
    return Order(
        number=number,
        slug=slug,
        kind=kind,
        phone=f"2547{number:06d}{digits:02d}",
        shillings=100 + number + (_LARGE_SHILLINGS if is_large else 0),
        at=at,
        is_given_back=kind is PaymentKind.STK_PUSH and digits < 80 and number % 3 == 0 and slug != TWO_SHORTCODES,
    )
