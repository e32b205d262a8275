"""`plan`, `subscription` and `limit` as the operator of the machine runs them."""

import sqlite3
from contextlib import closing

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


def test_usage_is_shown_for_one_organization_or_for_all(acme: Terminal) -> None:
    acme.ask("subscription", "set", "--org", "acme", "--plan", "self-hosted")
    assert acme.ask("usage") == []
    shown = acme.ask("usage", "--org", "acme", "--month", "2026-11")
    assert {name: shown[name] for name in ("slug", "month", "calls", "refused_calls", "payments", "amount_moved")} == {
        "slug": "acme",
        "month": "2026-11",
        "calls": 0,
        "refused_calls": 0,
        "payments": 0,
        "amount_moved": "0.00",
    }
    assert (shown["plan"], shown["included_calls"], shown["by_tool"], shown["by_outcome"]) == (
        "self-hosted",
        None,
        [],
        [],
    )
    with closing(sqlite3.connect(acme.data_dir / "mpesa-mcp.db")) as database, database:
        of = (shown["organization_id"], "2026-11", "key:1")
        database.execute("INSERT INTO usage_calls VALUES (?, ?, ?, 'get_payment', 12, 3)", of)
        database.execute("INSERT INTO usage_payments VALUES (?, ?, ?, 'sandbox', 'b2c', 'succeeded', 2, 300000)", of)
    [listed] = acme.ask("usage", "--month", "2026-11")
    shown = acme.ask("usage", "--org", "acme", "--month", "2026-11")
    assert listed.items() <= shown.items()
    assert (listed["calls"], listed["refused_calls"], listed["payments"], listed["amount_moved"]) == (
        12,
        3,
        2,
        "3000.00",
    )
    assert shown["by_tool"] == [{"actor": "key:1", "tool": "get_payment", "calls": 12, "refused_calls": 3}]
    [ended] = shown["by_outcome"]
    assert (ended["environment"], ended["kind"], ended["outcome"]) == ("sandbox", "b2c", "succeeded")
    assert (ended["payments"], ended["amount_moved"]) == (2, "3000.00")
    for words in (("usage",), ("usage", "--org", "acme")):
        assert "3000.00" in acme.run(*words, "--month", "2026-11").stdout
    assert acme.run("usage", "--month", "2026-13").exit_code == 1


def test_the_doctor_says_when_the_store_of_the_rate_limits_is_away(acme: Terminal) -> None:
    def finding(**variables: str) -> dict[str, str | None]:
        [found] = [each for each in acme.run("doctor", "--json", **variables).value if each["name"] == "rate_limits"]
        return dict(found)

    assert (finding()["status"], finding()["fix"]) == ("ok", None)
    away = finding(REDIS_URL="redis://127.0.0.1:1")
    assert away["status"] == "problem"
    assert "no money is paid out" in str(away["message"])
    assert "MPESA_MCP_REDIS_URL" in str(away["fix"])
    assert "MPESA_MCP_REDIS_URL" in acme.run("doctor", REDIS_URL="http://127.0.0.1:1").stdout


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
