"""`plan`, `subscription` and `limit` as the operator of the machine runs them."""

import pytest

from .conftest import Terminal


@pytest.fixture
def acme(terminal: Terminal) -> Terminal:
    terminal.ask("org", "create", "Acme Ltd", "--slug", "acme")
    return terminal


def test_a_plan_is_offered_subscribed_to_and_limited_on_the_command_line(acme: Terminal) -> None:
    made = acme.ask(
        *("plan", "create", "Basic plan", "--slug", "basic", "--monthly-fee", "1500", "--included-calls", "10000"),
        *("--included-payments", "500", "--calls-per-second", "20", "--key-calls-per-second", "10"),
        *("--largest-batch", "50", "--seats", "3", "--tools", "stk_push, get_payment"),
    )
    assert made == {
        "slug": "basic",
        "name": "Basic plan",
        "monthly_fee": "1500.00",
        "included_calls": 10000,
        "included_payments": 500,
        "calls_per_second": 20,
        "key_calls_per_second": 10,
        "largest_batch": 50,
        "seats": 3,
        "tools": ["get_payment", "stk_push"],
        "built_in": False,
    }
    free, listed = acme.ask("plan", "list")
    assert listed == made
    assert (free["slug"], free["monthly_fee"], free["key_calls_per_second"]) == ("self-hosted", "0.00", 100)
    assert {free[name] for name in ("included_calls", "included_payments", "calls_per_second", "seats")} == {None}
    shown = acme.ask("subscription", "show", "--org", "acme")
    assert (shown["plan"], shown["status"], shown["trial_ends_at"]) == ("self-hosted", "active", None)
    tried = acme.ask(
        *("subscription", "set", "--org", "acme", "--plan", "basic", "--status", "trial", "--trial-days", "30")
    )
    assert (tried["plan"], tried["status"], tried["seats"], tried["calls_per_second"]) == ("basic", "trial", 3, 20)
    assert tried["trial_ends_at"].endswith("Z")
    limited = acme.ask("limit", "set", "--org", "acme", "--calls-per-second", "500")
    assert (limited["calls_per_second"], limited["key_calls_per_second"]) == (500, 10)
    assert acme.ask("limit", "set", "--org", "acme")["calls_per_second"] == 20
    assert "basic" in acme.run("plan", "list").stdout
    acted = [entry["action"] for entry in acme.ask("audit", "list", "--org", "acme")]
    assert sorted(acted)[-3:] == ["rate_limit.changed", "rate_limit.changed", "subscription.changed"]


def test_what_cannot_be_is_refused_and_changes_nothing(acme: Terminal) -> None:
    before = acme.ask("subscription", "set", "--org", "acme", "--status", "past_due")
    for words, said in (
        (("--status", "trial"), "A subscription that is past_due cannot become trial. Nothing was changed."),
        (("--plan", "nobodys"), "There is no such plan."),
        (("--trial-days", "3"), "trial_days is for a subscription in trial only."),
    ):
        refused = acme.run("subscription", "set", "--org", "acme", *words, "--json")
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert said in refused.stderr
    assert acme.ask("subscription", "show", "--org", "acme") == before
    assert acme.run("subscription", "set", "--org", "acme", "--status", "asleep").exit_code == 2
    assert acme.run("plan", "create", "X", "--slug", "x1", "--monthly-fee", "-1").exit_code == 1
    assert acme.run("plan", "create", "X", "--slug", "x1", "--tools", "stk_psuh").exit_code == 1
    assert acme.run("subscription", "show", "--org", "nobody").exit_code == 1
