"""Which changes allow more than before: those alone need a second person."""

from typing import Any

import pytest

from mpesa_mcp.policy.loosening import loosened
from mpesa_mcp.policy.rules import DEFAULT_RULE, NO_RULE
from mpesa_mcp.policy.words import AMOUNTS, COUNTS, rule_from, words_of

JANE, JOHN = "254700000001", "254700000002"
# (field, stricter, looser): from the first to the second allows more, and back allows less.
PAIRS: list[tuple[str, Any, Any]] = [
    *((name, 100, 101) for name in (*AMOUNTS, *COUNTS) if name != "cool_off_hours"),
    ("cool_off_hours", 25, 24),
    ("allowed_recipients", [JANE], [JANE, JOHN]),
    ("denied_recipients", [JANE, JOHN], [JOHN]),
    ("days", ["mon"], ["mon", "sun"]),
    ("hours", "08:00-18:00", "08:00-18:01"),
    ("hours", "22:00-06:00", "21:00-06:00"),
]


@pytest.mark.parametrize(("name", "stricter", "looser"), PAIRS)
def test_a_field_is_loosened_when_it_allows_more_or_goes_and_not_when_it_allows_less_or_comes(
    name: str, stricter: Any, looser: Any
) -> None:
    strict, loose = rule_from({name: stricter}), rule_from({name: looser})
    assert loosened(strict, loose) == [name]
    assert loosened(loose, strict) == loosened(strict, strict) == []
    assert loosened(strict, NO_RULE) == [name]
    assert loosened(NO_RULE, strict) == []


def test_every_field_of_a_rule_is_among_them() -> None:
    everything = {name: stricter for name, stricter, _ in PAIRS}
    assert set(words_of(rule_from(everything))) == {name for name, _, _ in PAIRS}
    assert sorted(loosened(rule_from(everything), NO_RULE)) == sorted(everything)


def test_hours_that_only_move_allow_something_new() -> None:
    assert loosened(rule_from({"hours": "08:00-18:00"}), rule_from({"hours": "09:00-19:00"})) == ["hours"]


def test_what_is_stricter_in_one_thing_does_not_outweigh_what_is_looser_in_another() -> None:
    changed = rule_from({"approval_above": 1000, "per_day": 100_001})
    assert loosened(DEFAULT_RULE, changed) == ["per_day"]
