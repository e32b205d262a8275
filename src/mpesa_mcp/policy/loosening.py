"""Which changes of a rule allow more than before. Pure; whatever it names needs a second person."""

from mpesa_mcp.policy.rules import Hours, Rule
from mpesa_mcp.policy.words import AMOUNTS, COUNTS
from mpesa_mcp.values import Kes

_MINUTES = range(24 * 60)
# More of it is stricter; everything else that is a number allows more when it grows.
_STRICTER_WHEN_MORE = {"cool_off_hours"}


def loosened(before: Rule, after: Rule) -> list[str]:
    """The fields in which the new rule allows something that the old one did not."""
    found = [
        name for name in (*AMOUNTS, *COUNTS) if _number_is_looser(name, getattr(before, name), getattr(after, name))
    ]
    if before.allowed_recipients is not None and (
        after.allowed_recipients is None or after.allowed_recipients - before.allowed_recipients
    ):
        found.append("allowed_recipients")
    if before.denied_recipients - after.denied_recipients:
        found.append("denied_recipients")
    if before.days is not None and (after.days is None or after.days - before.days):
        found.append("days")
    if _minutes(after.hours) - _minutes(before.hours):
        found.append("hours")
    return found


def _number_is_looser(name: str, before: Kes | int | None, after: Kes | int | None) -> bool:
    was, will_be = _plain(before), _plain(after)
    if name in _STRICTER_WHEN_MORE:
        return (will_be or 0) < (was or 0)
    return was is not None and (will_be is None or will_be > was)


def _plain(number: Kes | int | None) -> int | None:
    return number.cents if isinstance(number, Kes) else number


def _minutes(hours: Hours | None) -> frozenset[int]:
    return frozenset(minute for minute in _MINUTES if hours is None or hours.include(minute))
