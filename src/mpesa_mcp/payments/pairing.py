"""Which payment a movement belongs to when no receipt says so. Two lists in, pairs out; nothing is asked or changed.

Amount and direction must agree, the time must be near, and so must the phone where the movement shows one. Payments
known to have moved come first, then those nobody knows about, then those that count as failed; within these, the
earliest comes first, since payments that agree in all of this differ in nothing a statement tells.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from mpesa_mcp.payments.booked import Booked
from mpesa_mcp.payments.movements import Movement
from mpesa_mcp.payments.states import PaymentStatus

# Money moves after the send: a person thinks about the prompt, a payout may queue. Clocks may differ a little.
LATEST = timedelta(minutes=15)
EARLIEST = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Pair:
    """`is_sure`: nothing else fits either of them, and an id or a phone says so, not only amount and time."""

    movement: Movement
    booked: Booked
    is_sure: bool


def pair_without_receipts(movements: Iterable[Movement], payments: Iterable[Booked]) -> Sequence[Pair]:
    """At most one pair for each movement and each payment. The payments have no receipt."""
    fitting = _Fitting(payments)
    candidates = [(movement, fitting.of(movement)) for movement in sorted(movements, key=lambda each: each.at)]
    claims: defaultdict[str, int] = defaultdict(int)
    for _, fits in candidates:
        for booked in fits:
            claims[booked.payment_id] += 1
    pairs: list[Pair] = []
    taken: set[str] = set()
    left = candidates
    for rank in range(3):
        still_left = []
        for movement, fits in left:
            chosen = next((b for b in fits if _rank(b) == rank and b.payment_id not in taken), None)
            if chosen is None:
                still_left.append((movement, fits))
                continue
            taken.add(chosen.payment_id)
            alone = len(fits) == 1 and claims[chosen.payment_id] == 1
            told = len(movement.parties) == 1 or chosen.is_named_by(movement)
            pairs.append(Pair(movement, chosen, is_sure=alone and told))
        left = still_left
    return pairs


class _Fitting:
    """Payments by direction and amount, in the order of their sends."""

    def __init__(self, payments: Iterable[Booked]) -> None:
        self._alike: defaultdict[tuple[str, int], list[Booked]] = defaultdict(list)
        for booked in sorted((each for each in payments if each.may_have_moved), key=lambda each: each.moves_at):
            self._alike[booked.direction, booked.cents].append(booked)

    def of(self, movement: Movement) -> Sequence[Booked]:
        alike = self._alike.get((movement.direction, movement.cents), [])
        first = bisect_left(alike, movement.at - LATEST, key=lambda each: each.moves_at)
        last = bisect_right(alike, movement.at + EARLIEST, key=lambda each: each.moves_at)
        near = alike[first:last]
        named = [booked for booked in near if booked.is_named_by(movement)]
        return named or [booked for booked in near if _fits(booked, movement)]


def _fits(booked: Booked, movement: Movement) -> bool:
    if movement.shortcode not in {None, booked.shortcode}:
        return False
    if movement.parties:
        return movement.shows(booked.phone)
    # Without a phone, amount and time are too little to doubt a known failure by.
    return _rank(booked) < 2


def _rank(booked: Booked) -> int:
    if booked.status.moved:
        return 0
    return 1 if booked.status in _OPEN else 2


_OPEN = frozenset({PaymentStatus.UNKNOWN, PaymentStatus.DISPUTED, PaymentStatus.PENDING, PaymentStatus.SENDING})
