"""Rules at their boundaries: exactly at the cap, midnight in Nairobi, the ends of months, the lists."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mpesa_mcp.errors import InputError
from mpesa_mcp.policy.rules import (
    DEFAULT_RULE,
    ORGANIZATION,
    Asked,
    Decision,
    Outcome,
    Place,
    Rule,
    Used,
    decide,
    wants_confirmation,
)
from mpesa_mcp.policy.scopes import checked_scope, scopes_of
from mpesa_mcp.policy.windows import Window
from mpesa_mcp.policy.words import rule_from, words_of
from mpesa_mcp.values import Kes, Role

JANE, JOHN = "254700000001", "254700000002"
# A Monday, 11:30 in Nairobi.
NOW = datetime(2026, 11, 16, 8, 30, tzinfo=UTC)


def asked(shillings: int, at: datetime = NOW, recipient: str = JANE, first_paid_at: datetime | None = None) -> Asked:
    amount = Kes.from_shillings(shillings)
    return Asked(amount=amount, recipient=recipient, at=at, first_paid_at=first_paid_at, confirmed=True)


def spent(window: Window, shillings: int, payments: int = 1, recipient: str = "") -> dict[Place, Used]:
    return {Place(ORGANIZATION, window, recipient): Used(shillings * 100, payments)}


def decided(rule: Rule, wanted: Asked, used: dict[Place, Used] | None = None) -> Decision:
    return decide({ORGANIZATION: rule}, wanted, used or {})


def codes(decision: Decision) -> list[str]:
    return [reason.code for reason in decision.reasons]


@pytest.mark.parametrize(
    ("written", "at_it", "above_it"),
    [
        ({"per_payment": 500}, (asked(500), {}), (asked(501), {})),
        ({"per_hour": 500}, (asked(200), spent(Window.HOUR, 300)), (asked(201), spent(Window.HOUR, 300))),
        ({"per_day": 500}, (asked(200), spent(Window.DAY, 300)), (asked(201), spent(Window.DAY, 300))),
        ({"per_month": 500}, (asked(200), spent(Window.MONTH, 300)), (asked(201), spent(Window.MONTH, 300))),
        ({"payments_per_hour": 3}, (asked(1), spent(Window.HOUR, 1, 2)), (asked(1), spent(Window.HOUR, 1, 3))),
        ({"payments_per_day": 3}, (asked(1), spent(Window.DAY, 1, 2)), (asked(1), spent(Window.DAY, 1, 3))),
        ({"payments_per_month": 3}, (asked(1), spent(Window.MONTH, 1, 2)), (asked(1), spent(Window.MONTH, 1, 3))),
        (
            {"per_recipient_per_day": 500},
            (asked(200), spent(Window.DAY, 300, 1, JANE)),
            (asked(201), spent(Window.DAY, 300, 1, JANE)),
        ),
        (
            {"payments_per_recipient_per_day": 1},
            (asked(1), spent(Window.DAY, 9, 1, JOHN)),
            (asked(1), spent(Window.DAY, 9, 1, JANE)),
        ),
        ({"first_payment": 500}, (asked(500), {}), (asked(501), {})),
        ({"allowed_recipients": [JANE]}, (asked(1), {}), (asked(1, recipient=JOHN), {})),
        ({"denied_recipients": [JOHN]}, (asked(1), {}), (asked(1, recipient=JOHN), {})),
        ({"days": ["mon"]}, (asked(1), {}), (asked(1, NOW + timedelta(days=1)), {})),
    ],
    ids=lambda case: next(iter(case)) if isinstance(case, dict) else "",
)
def test_a_limit_allows_exactly_as_much_as_it_says_and_names_itself_above(
    written: dict[str, Any], at_it: tuple[Asked, Any], above_it: tuple[Asked, Any]
) -> None:
    rule = rule_from(written)
    assert decided(rule, *at_it).outcome is Outcome.ALLOW
    refused = decided(rule, *above_it)
    assert (refused.outcome, codes(refused)) == (Outcome.DECLINED, list(written))
    assert refused.said is not None
    assert words_of(rule) == written


@pytest.mark.parametrize(
    ("shillings", "outcome", "approvers", "in_chat"),
    [
        (100, Outcome.ALLOW, 0, False),
        (101, Outcome.ALLOW, 0, True),
        (1000, Outcome.ALLOW, 0, True),
        (1001, Outcome.NEEDS_APPROVAL, 1, True),
        (5000, Outcome.NEEDS_APPROVAL, 1, True),
        (5001, Outcome.NEEDS_APPROVAL, 2, True),
        (9001, Outcome.DECLINED, 0, True),
    ],
)
def test_above_a_threshold_people_are_asked_and_exactly_at_it_nobody_is(
    shillings: int, outcome: Outcome, approvers: int, in_chat: bool
) -> None:
    thresholds = {"confirm_in_chat_above": 100, "approval_above": 1000, "second_approval_above": 5000}
    rule = rule_from({**thresholds, "per_payment": 9000})
    decision = decided(rule, asked(shillings))
    assert (decision.outcome, decision.approvers) == (outcome, approvers)
    assert wants_confirmation({ORGANIZATION: rule}, Kes.from_shillings(shillings)) == in_chat
    # Whoever was not asked in the chat, or cannot be, needs a person; a confirmation takes no person's place.
    unconfirmed = decided(rule, replace(asked(shillings), confirmed=False))
    if in_chat and outcome is Outcome.ALLOW:
        assert (unconfirmed.outcome, unconfirmed.approvers) == (Outcome.NEEDS_APPROVAL, 1)
        assert codes(unconfirmed) == ["confirm_in_chat_above"]
    else:
        assert (unconfirmed.outcome, unconfirmed.approvers) == (outcome, approvers)


def test_of_several_rules_the_strictest_answer_wins_and_every_refusal_is_told() -> None:
    rules = {
        ORGANIZATION: rule_from({"approval_above": 100}),
        "role:manager": rule_from({"second_approval_above": 200}),
        "key:key_1": rule_from({"per_payment": 1000, "hours": "09:00-11:00"}),
    }
    assert decide(rules, asked(150, NOW - timedelta(hours=1)), {}).approvers == 1
    assert decide(rules, asked(300, NOW - timedelta(hours=1)), {}).approvers == 2
    refused = decide(rules, asked(1001), {})
    assert [(reason.scope, reason.code) for reason in refused.reasons] == [
        ("key:key_1", "per_payment"),
        ("key:key_1", "hours"),
    ]
    assert refused.said == (
        "The rule for this API key allows at most KES 1,000.00 a payment. "
        "The rule for this API key allows payments at 09:00-11:00 Nairobi time only."
    )


def test_of_several_limits_the_one_that_lasts_longest_is_told_first() -> None:
    limits = {"per_hour": 100, "per_day": 100, "per_month": 100, "days": ["sun"], "denied_recipients": [JANE]}
    refused = decided(rule_from(limits), asked(101))
    assert codes(refused) == ["denied_recipients", "per_month", "per_day", "per_hour", "days"]


def test_a_refusal_names_the_rule_and_what_is_left_of_it_until_when() -> None:
    decision = decided(DEFAULT_RULE, asked(9000), spent(Window.DAY, 95_000))
    [reason] = decision.reasons
    assert (reason.code, reason.left, reason.resets_at) == (
        "per_day",
        Kes.from_shillings(5000),
        datetime(2026, 11, 16, 21, tzinfo=UTC),
    )
    assert decision.said == (
        "The organization's rule allows KES 100,000.00 a day; KES 5,000.00 of it is left until 2026-11-17 00:00 in "
        "Nairobi."
    )


def test_nothing_is_left_where_a_rule_was_made_stricter_than_what_was_spent() -> None:
    [reason] = decided(rule_from({"per_day": 100}), asked(1), spent(Window.DAY, 300)).reasons
    assert reason.left == Kes(0)


@pytest.mark.parametrize(
    ("at", "hour", "day", "month"),
    [
        ("2026-11-16T20:59:59", "2026-11-16T23", "2026-11-16", "2026-11"),  # a second before midnight in Nairobi
        ("2026-11-16T21:00:00", "2026-11-17T00", "2026-11-17", "2026-11"),
        ("2026-11-30T20:59:59", "2026-11-30T23", "2026-11-30", "2026-11"),
        ("2026-11-30T21:00:00", "2026-12-01T00", "2026-12-01", "2026-12"),
        ("2026-12-31T21:00:00", "2027-01-01T00", "2027-01-01", "2027-01"),
        ("2028-02-28T21:00:00", "2028-02-29T00", "2028-02-29", "2028-02"),
        ("2028-02-29T20:59:59", "2028-02-29T23", "2028-02-29", "2028-02"),
        ("2028-02-29T21:00:00", "2028-03-01T00", "2028-03-01", "2028-03"),
        ("2027-02-28T21:00:00", "2027-03-01T00", "2027-03-01", "2027-03"),
    ],
)
def test_a_moment_lies_in_one_period_of_nairobi_which_ends_where_the_next_begins(
    at: str, hour: str, day: str, month: str
) -> None:
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
    assert [window.period(moment) for window in Window] == [hour, day, month]
    for window in Window:
        end = window.end(moment)
        assert window.period(end - timedelta(microseconds=1)) == window.period(moment) != window.period(end)


@pytest.mark.parametrize("window", Window)
def test_what_is_paid_in_any_window_can_be_limited(window: Window) -> None:
    paid = spent(window, 300, 3)
    for limit in (f"per_{window}", f"payments_per_{window}"):
        assert codes(decided(rule_from({limit: 3}), asked(1), paid)) == [limit]


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ("08:00-18:00", ["08:00", "17:59"], ["07:59", "18:00"]),
        ("22:00-06:00", ["22:00", "23:59", "00:00", "05:59"], ["21:59", "06:00"]),
        ("00:00-24:00", ["00:00", "23:59"], []),
        ("12:30-00:00", ["12:30", "23:59"], ["12:29", "00:00"]),
    ],
)
def test_hours_begin_with_their_first_minute_and_end_before_their_last(
    hours: str, inside: list[str], outside: list[str]
) -> None:
    for text in inside + outside:
        at = datetime.fromisoformat(f"2026-11-16T{text}:00+03:00")
        expected = Outcome.ALLOW if text in inside else Outcome.DECLINED
        assert decided(rule_from({"hours": hours}), asked(1, at)).outcome is expected, text


def test_a_day_of_the_week_begins_at_midnight_in_nairobi() -> None:
    sunday_utc = datetime(2026, 11, 15, 21, tzinfo=UTC)  # Monday in Nairobi
    assert decided(rule_from({"days": ["mon"]}), asked(1, sunday_utc)).outcome is Outcome.ALLOW
    assert codes(decided(rule_from({"days": ["sun"]}), asked(1, sunday_utc))) == ["days"]


def test_a_new_recipient_gets_little_at_first_and_nothing_more_until_the_cool_off_is_over() -> None:
    rule = rule_from({"first_payment": 500, "cool_off_hours": 24})
    assert decided(rule, asked(500)).outcome is Outcome.ALLOW
    first = NOW - timedelta(hours=24)
    assert decided(rule, asked(5000, first_paid_at=first)).outcome is Outcome.ALLOW
    assert codes(decided(rule, asked(1, first_paid_at=first + timedelta(seconds=1)))) == ["cool_off_hours"]


def test_only_its_own_rule_caps_a_collection() -> None:
    assert scopes_of(actor="key:key_1", role=Role.USER, tool="stk_push") == ("tool:stk_push",)
    assert scopes_of(actor="key:key_1", role=Role.MANAGER, tool="reverse") == (
        ORGANIZATION,
        "role:manager",
        "key:key_1",
        "tool:reverse",
    )
    assert "user:usr_1" not in scopes_of(actor="user:usr_1", role=Role.MANAGER, tool="reverse")


@pytest.mark.parametrize(
    "words",
    [
        {"per_week": 1},
        {"per_day": -1},
        {"per_day": True},
        {"per_day": 1.5},
        {"per_day": "100"},
        {"payments_per_day": 10**9},
        {"hours": "8-18"},
        {"hours": "08:00-08:00"},
        {"hours": "08:00-24:30"},
        {"days": []},
        {"days": ["monday"]},
        {"days": "mon"},
        {"allowed_recipients": ["12"]},
        {"allowed_recipients": [254700000001]},
        {"denied_recipients": [f"2547{n:08d}" for n in range(1001)]},
    ],
)
def test_a_rule_that_is_not_written_properly_is_refused(words: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        rule_from(words)


@pytest.mark.parametrize(
    "scope", ["", "all", "organization:x", "role:super_admin", "tool:get_payment", "key:1", "key:"]
)
def test_a_scope_is_one_of_four_forms(scope: str) -> None:
    with pytest.raises(InputError):
        checked_scope(scope)
