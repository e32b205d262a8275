"""`rule` as the operator runs it: what a change comes to is said in words, and only what changes is shown."""

import pytest

from .conftest import Terminal


@pytest.fixture
def acme(terminal: Terminal) -> Terminal:
    """An organization with two org_admins: what allows more takes two people."""
    terminal.ask("org", "create", "Acme Ltd", "--slug", "acme")
    for name in ("jane", "joe"):
        who = ("--org", "acme", "--email", f"{name}@acme.example", "--role", "org_admin", "--password-stdin")
        terminal.ask("user", "create", *who, typed="correct horse battery\n")
    return terminal


def test_a_change_that_is_only_proposed_says_who_confirms_it_and_where(acme: Terminal) -> None:
    wider = ("rule", "set", "--org", "acme", "--per-day", "300000")
    told = acme.run(*wider, PORT="9001")
    assert told.exit_code == 0
    assert told.stderr == (
        "Nothing is changed yet: it allows more than before, which takes two people. "
        "Another org_admin confirms it. Signed in, at http://127.0.0.1:9001/console/rules\n"
    )
    assert [line.split()[0] for line in told.stdout.splitlines()] == ["scope", "proposed", "proposal_id", "expires_at"]
    assert "per_day: 100000 -> 300000\n" in told.stdout
    assert "approval_above" not in told.stdout
    # Asked for again, it is the same proposal; the whole of it is there for programs.
    again = acme.ask(*wider)
    assert (again["done"], again["rule"], again["voided"]) == (False, {"approval_above": 10000, "per_day": 100000}, 0)
    assert again["proposal"]["proposal_id"] in told.stdout
    [listed] = acme.ask("rule", "proposals", "--org", "acme")
    assert listed == again["proposal"]


def test_a_stricter_rule_says_which_proposals_it_ended_and_they_are_listed_only_when_all_are(acme: Terminal) -> None:
    acme.ask("rule", "set", "--org", "acme", "--per-day", "300000")
    acme.ask("rule", "set", "--org", "acme", "--clear", "approval-above")
    told = acme.run("rule", "set", "--org", "acme", "--per-day", "50000", "--hours", "08:00-18:00")
    assert (told.exit_code, told.stderr) == (
        0,
        "2 open proposals are void now, being about the rule before. "
        "Whoever still wants such a change proposes it anew.\n",
    )
    assert told.stdout == ("scope    organization\nchanged  per_day: 100000 -> 50000; hours: none -> 08:00-18:00\n")
    assert acme.run("rule", "proposals", "--org", "acme").stdout == "none\n"
    assert [each["status"] for each in acme.ask("rule", "proposals", "--org", "acme", "--all")] == ["void", "void"]
    table = acme.run("rule", "proposals", "--org", "acme", "--all").stdout
    assert "approval_above: 10000 -> none" in table
    assert acme.run("rule", "set", "--org", "acme", "--per-day", "50000").stdout.endswith("changed  nothing\n")


def test_amounts_may_have_commas_between_their_thousands_and_what_is_none_is_told_in_words(acme: Terminal) -> None:
    told = acme.ask("rule", "set", "--org", "acme", "--approval-above", "5,000", "--per-day", "50000")
    assert (told["rule"]["approval_above"], told["rule"]["per_day"]) == (5000, 50000)
    for wrong in ("5,00", "-5", "5.5", "many"):
        refused = acme.run("rule", "set", "--org", "acme", "--approval-above", wrong)
        assert refused.exit_code == 2
        assert "for example 25000 or 25,000" in " ".join(refused.stderr.replace("│", " ").split())
