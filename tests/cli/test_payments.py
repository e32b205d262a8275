"""`payment list` and `payment show`, on an installation that has made payments."""

import asyncio
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from mpesa_mcp.app.core import open_core
from mpesa_mcp.app.local import add_simulator_access
from mpesa_mcp.identity.organizations import organization_by_slug
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.requests import StkPushRequest
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


def test_another_organizations_payment_is_not_found(terminal: Terminal, payment_id: str) -> None:
    terminal.run("org", "create", "Other", "--slug", "other")
    unknown = terminal.run("payment", "show", "--org", "other", "pay_00000000000000000000000000")
    foreign = terminal.run("payment", "show", "--org", "other", payment_id)
    assert (foreign.exit_code, foreign.stdout, foreign.stderr) == (1, "", unknown.stderr)
