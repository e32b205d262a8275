"""What is left of the limits of a rule. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mpesa_mcp.policy.rules import Place, Rule, Used, bounds
from mpesa_mcp.policy.windows import Window
from mpesa_mcp.values import Kes


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """One window of one rule that has a limit; None is no limit of that sort."""

    window: Window
    limit: Kes | None
    left: Kes | None
    payments: int | None
    payments_left: int | None
    resets_at: datetime


def remaining(scope: str, rule: Rule, used: Mapping[Place, Used], at: datetime) -> Sequence[Remaining]:
    """The limits of the hour, day and month that `at` lies in, of all recipients together."""
    found = []
    for window in Window:
        most = bounds(rule, window, of_recipient=False)
        so_far = used.get(Place(scope, window, ""), Used(0, 0))
        if most.cents is None and most.payments is None:
            continue
        found.append(
            Remaining(
                window=window,
                limit=None if most.cents is None else Kes(most.cents),
                left=None if most.cents is None else Kes(max(most.cents - so_far.cents, 0)),
                payments=most.payments,
                payments_left=None if most.payments is None else max(most.payments - so_far.payments, 0),
                resets_at=window.end(at),
            )
        )
    return found
