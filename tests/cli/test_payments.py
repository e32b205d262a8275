"""`payment`: reading, and what a person decides, on an installation that has made payments."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from mpesa_mcp.app.core import open_core
from mpesa_mcp.app.local import add_simulator_access
from mpesa_mcp.identity.organizations import organization_by_slug
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.outcomes import Change, move
from mpesa_mcp.payments.requests import StkPushRequest
from mpesa_mcp.payments.states import PaymentEvent
from mpesa_mcp.settings import Settings
from mpesa_mcp.values import Environment, FrozenClock, Kes, Msisdn, Role

from .conftest import MASTER_KEY, Terminal


@pytest.fixture
def payment_id(terminal: Terminal) -> str:
    """One collection of KES 1,500, accepted and not sent yet."""
    assert terminal.run("org", "create", "Acme", "--slug", "acme").exit_code == 0
    settings = Settings(data_dir=terminal.data_dir, master_key=SecretStr(MASTER_KEY))

    async def make() -> str:
        async with open_core(settings, clock=FrozenClock(datetime(2026, 11, 16, 8, 30, tzinfo=UTC))) as core:
            return await _open(core)

    return asyncio.run(make())


async def _open(core: Core) -> str:
    organization = await organization_by_slug(core.store, "acme")
    await add_simulator_access(core, organization.organization_id, role=Role.MANAGER)
    principal = Principal(organization.organization_id, "key:test", Role.USER, Environment.SIMULATOR, None, "test")
    request = StkPushRequest(phone=Msisdn("254700000001"), amount=Kes.from_shillings(1500), reference="INV-1")
    return (await open_payment(core, principal, request)).payment.payment_id


def test_a_list_shows_payments_with_masked_phones(terminal: Terminal, payment_id: str) -> None:
    [listed] = terminal.run("payment", "list", "--org", "acme", "--json").value
    assert (listed["payment_id"], listed["status"], listed["amount"]) == (payment_id, "queued", "1500.00")
    assert (listed["phone"], listed["created_at"]) == ("2547*****001", "2026-11-16T08:30:00Z")
    shown = terminal.run("payment", "list", "--org", "acme").stdout
    assert "254700000001" not in shown


def test_a_status_narrows_the_list_and_a_wrong_one_is_named(terminal: Terminal, payment_id: str) -> None:
    assert terminal.run("payment", "list", "--org", "acme", "--status", "succeeded", "--json").value == []
    refused = terminal.run("payment", "list", "--org", "acme", "--status", "paid")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "status must be one of" in refused.stderr


def test_one_payment_is_shown_with_its_history(terminal: Terminal, payment_id: str) -> None:
    shown = terminal.run("payment", "show", "--org", "acme", payment_id, "--json").value
    assert [(line["event"], line["to"]) for line in shown["history"]] == [("allowed", "queued")]
    assert "allowed" in terminal.run("payment", "show", "--org", "acme", payment_id).stdout


def test_a_payment_is_shown_by_the_key_it_was_asked_for_with(terminal: Terminal, payment_id: str) -> None:
    with closing(sqlite3.connect(terminal.data_dir / "mpesa-mcp.db")) as connection, connection:
        connection.execute("UPDATE payments SET idempotency_key = 'Supplier-77'")
    assert terminal.ask("payment", "show", "--org", "acme", "Supplier-77")["payment_id"] == payment_id
    assert "No such payment" in terminal.run("payment", "show", "--org", "acme", "supplier-78").stderr


def test_another_organizations_payment_is_not_found(terminal: Terminal, payment_id: str) -> None:
    terminal.run("org", "create", "Other", "--slug", "other")
    unknown = terminal.run("payment", "show", "--org", "other", "pay_00000000000000000000000000")
    foreign = terminal.run("payment", "show", "--org", "other", payment_id)
    assert (foreign.exit_code, foreign.stdout, foreign.stderr) == (1, "", unknown.stderr)


def test_a_queued_payment_is_withdrawn_once(terminal: Terminal, payment_id: str) -> None:
    words = ("payment", "withdraw", payment_id, "--org", "acme", "--reason", "Ordered twice")
    assert terminal.ask(*words)["status"] == "expired"
    again = terminal.run(*words)
    assert (again.exit_code, again.stdout) == (1, "")
    assert "Nothing was changed" in again.stderr
    lines = terminal.ask("payment", "show", payment_id, "--org", "acme")["history"]
    assert (lines[-1]["source"], lines[-1]["note"]) == ("person", "Ordered twice")


def test_a_queued_payment_is_neither_listed_for_review_nor_resolved(terminal: Terminal, payment_id: str) -> None:
    assert terminal.ask("payment", "review", "--org", "acme") == []
    refused = terminal.run(
        "payment", "resolve", payment_id, "--org", "acme", "--as", "failed", "--reason", "Never came"
    )
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "queued" in refused.stderr


def test_what_needs_a_person_is_listed_and_resolved(terminal: Terminal, payment_id: str) -> None:
    asyncio.run(_become_unknown(terminal, payment_id))
    [item] = terminal.ask("payment", "review", "--org", "acme")
    assert (item["payment_id"], item["status"], item["amount"]) == (payment_id, "unknown", "1500.00")
    assert (item["phone"], item["last_code"], item["why"]) == ("2547*****001", "timeout", "Nobody can tell.")
    assert item["since"].endswith("Z")
    told = terminal.run("payment", "review", "--org", "acme").stderr
    assert f"mpesa-mcp payment resolve {payment_id} --org acme --as succeeded|failed --reason" in told
    words = ("payment", "resolve", payment_id, "--org", "acme", "--as", "succeeded", "--reason", "Seen in the portal")
    resolved = terminal.ask(*words, "--receipt", "SKE0000AA1")
    assert (resolved["status"], resolved["receipt"]) == ("succeeded", "SKE0000AA1")
    assert terminal.ask("payment", "review", "--org", "acme") == []


@pytest.mark.parametrize("words", [("--as", "maybe", "--reason", "No"), ("--as", "failed"), ("--reason", "No")])
def test_a_decision_needs_both_its_words(terminal: Terminal, words: tuple[str, ...]) -> None:
    assert terminal.run("payment", "resolve", "pay_1", "--org", "acme", *words).exit_code == 2


async def _become_unknown(terminal: Terminal, payment_id: str) -> None:
    """Its reply was lost, and there is nothing left to ask."""
    settings = Settings(data_dir=terminal.data_dir, master_key=SecretStr(MASTER_KEY))
    async with open_core(settings, clock=FrozenClock(datetime(2026, 11, 16, 9, 30, tzinfo=UTC))) as core:
        organization = await organization_by_slug(core.store, "acme")
        async with core.store.session(organization.organization_id) as session:
            payment = await session.get(Payment, payment_id)
            assert payment is not None
            reason = "Nobody can tell."
            await move(
                core, session, payment, Change(PaymentEvent.UNCLEAR, source="reply", code="timeout", reason=reason)
            )


def test_an_organization_chooses_from_which_amount_payouts_are_confirmed(terminal: Terminal) -> None:
    terminal.ask("org", "create", "Acme", "--slug", "acme")
    assert terminal.ask("org", "show", "--org", "acme")["confirm_payouts_from"] == "10000.00"
    changed = terminal.ask("org", "set", "--org", "acme", "--confirm-payouts-from", "0")
    assert (changed["slug"], changed["confirm_payouts_from"]) == ("acme", "0.00")
    assert terminal.ask("org", "show", "--org", "acme") == changed
    for amount in ("-1", "10.5", "1000001", "all"):
        assert terminal.run("org", "set", "--org", "acme", "--confirm-payouts-from", amount).exit_code == 2
