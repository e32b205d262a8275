"""A rule as people write it and as it is stored: its fields by name, amounts in whole shillings. Pure.

What is not set is not there. `hours` is "08:00-18:00", `days` is a list of mon to sun, numbers of phones are digits.
"""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from mpesa_mcp.errors import InputError
from mpesa_mcp.policy.rules import NO_RULE, Hours, Rule
from mpesa_mcp.values import Kes, Msisdn

Words = dict[str, Any]

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
AMOUNTS: Final = (
    "per_payment",
    "per_hour",
    "per_day",
    "per_month",
    "per_recipient_per_day",
    "first_payment",
    "approval_above",
    "second_approval_above",
    "confirm_in_chat_above",
)
COUNTS: Final = (
    "payments_per_hour",
    "payments_per_day",
    "payments_per_month",
    "payments_per_recipient_per_day",
    "cool_off_hours",
    "largest_batch",
)
RECIPIENTS: Final = ("allowed_recipients", "denied_recipients")
_MOST_SHILLINGS = 1_000_000_000
_MOST_COUNT = 1_000_000
_MOST_RECIPIENTS = 1000
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")


def rule_from(words: Mapping[str, object]) -> Rule:
    """The rule that is written so; a field that is None is not set. Raises InputError."""
    known = {field.name for field in fields(Rule)}
    read: dict[str, Any] = {}
    for name, value in words.items():
        if name not in known:
            raise InputError(f"A rule has no such field. Its fields are: {', '.join(sorted(known))}.", field="rule")
        if value is not None:
            read[name] = _read(name, value)
    return Rule(**read)


def words_of(rule: Rule) -> Words:
    """The rule, written; what it does not limit is left out."""
    return {
        field.name: _written(field.name, value)
        for field in fields(Rule)
        if (value := getattr(rule, field.name)) != getattr(NO_RULE, field.name)
    }


def masked(words: Words) -> Words:
    """The same rule for those who need not know whose numbers are in it."""
    lists = {name: [Msisdn(phone).masked for phone in words[name]] for name in RECIPIENTS if name in words}
    return words | lists


def _read(name: str, value: object) -> object:
    if name in AMOUNTS:
        return Kes.from_shillings(_whole(name, value, _MOST_SHILLINGS))
    if name in COUNTS:
        return _whole(name, value, _MOST_COUNT)
    if name == "hours":
        return _hours(value)
    if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(each, str) for each in value):
        raise InputError(f"{name} must be a list of texts.", field=name)
    if name == "days":
        if not value or not set(value) <= set(DAYS):
            raise InputError(f"days must be some of: {', '.join(DAYS)}.", field="days")
        return frozenset(DAYS.index(day) for day in value)
    if len(value) > _MOST_RECIPIENTS:
        raise InputError(f"{name} may have at most {_MOST_RECIPIENTS} numbers.", field=name)
    return frozenset(Msisdn.parse(phone).digits for phone in value)


def _whole(name: str, value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise InputError(f"{name} must be a whole number from 0 to {most:,}.", field=name)
    return value


def _hours(value: object) -> Hours:
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is not None:
        from_hour, from_minute, to_hour, to_minute = map(int, found.groups())
        start, end = from_hour * 60 + from_minute, to_hour * 60 + to_minute
        if start != end and end <= 24 * 60:
            return Hours(start, end)
    raise InputError("hours must be two times of the day in Nairobi, written 08:00-18:00.", field="hours")


def _written(name: str, value: Any) -> object:
    if name in AMOUNTS:
        return value.shillings
    if name == "hours":
        return str(value)
    if name == "days":
        return [DAYS[day] for day in sorted(value)]
    return sorted(value) if isinstance(value, frozenset) else value
