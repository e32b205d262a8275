"""The money of every shortcode, and the ledger of what really moved.

Whole shillings throughout, as in Daraja's requests. Customers have as much as they need; there are no charges.
"""

from collections import deque
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

from mpesa_mcp.simulator.bounded import Bounded

OPENING_SHILLINGS = 10_000_000
MAX_MOVEMENTS = 100_000
MAX_SHORTCODES = 10_000


class Kind(StrEnum):
    STK = "stk"
    B2C = "b2c"
    REVERSAL = "reversal"


@dataclass(frozen=True, slots=True)
class Movement:
    """Money that moved between a shortcode and a customer. `amount` is in whole shillings, `at` in UTC."""

    kind: Kind
    shortcode: str
    party: str
    amount: int
    receipt: str
    originator_conversation_id: str | None
    checkout_request_id: str | None
    at: datetime

    def as_json(self) -> dict[str, object]:
        return asdict(self) | {"at": self.at.isoformat()}


@dataclass(slots=True)
class Accounts:
    """The accounts of one shortcode (daraja/api.md §9). B2C spends Utility, which incoming payments fill."""

    utility: int = OPENING_SHILLINGS
    working: int = OPENING_SHILLINGS
    charges_paid: int = 0

    def as_daraja(self) -> str:
        """`Name|Currency|Current|Available|Reserved|Uncleared`, joined by `&`."""
        return "&".join(
            account_line(name, shillings)
            for name, shillings in (
                ("Working Account", self.working),
                ("Utility Account", self.utility),
                ("Charges Paid Account", self.charges_paid),
                ("Organization Settlement Account", 0),
            )
        )


def account_line(name: str, shillings: int) -> str:
    return f"{name}|KES|{shillings}.00|{shillings}.00|0.00|0.00"


class Ledger:
    """Accounts and movements; keeps the last 100,000 movements."""

    def __init__(self) -> None:
        self.movements: deque[Movement] = deque(maxlen=MAX_MOVEMENTS)
        self._accounts: Bounded[str, Accounts] = Bounded(MAX_SHORTCODES)

    def accounts(self, shortcode: str) -> Accounts:
        if shortcode not in self._accounts:
            self._accounts[shortcode] = Accounts()
        return self._accounts[shortcode]

    def can_pay(self, shortcode: str, shillings: int) -> bool:
        return self.accounts(shortcode).utility >= shillings

    def record(self, movement: Movement) -> None:
        """Moves the money: into Utility for an incoming payment, out of it for a payout or a reversal."""
        change = movement.amount if movement.kind is Kind.STK else -movement.amount
        self.accounts(movement.shortcode).utility += change
        self.movements.append(movement)
