"""The README's "Host your own", step by step, on both databases: from an organization to a verified audit."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from mpesa_mcp.app.core import open_core
from mpesa_mcp.app.http import listen, port_of, serving
from mpesa_mcp.app.web import create_web
from mpesa_mcp.app.worker import working
from mpesa_mcp.audit.verification import verify
from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.identity.invitations import invite, link_to
from mpesa_mcp.identity.organizations import create_organization
from mpesa_mcp.payments.core import Core
from mpesa_mcp.settings import Settings
from mpesa_mcp.simulator.app import create_simulator
from mpesa_mcp.values import Role
from tests.clients import TLS, connected
from tests.shortcodes import OPERATOR

pytestmark = pytest.mark.anyio
MASTER_KEY = "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210"
EMAIL, PASSWORD = "jane@acme.example", "correct horse battery"
CREDENTIALS = {
    "environment": "simulator",
    "shortcode": "174379",
    "type": "paybill",
    "consumer_key": "any",
    "consumer_secret": "any too",
    "passkey": "bfb279f9aa9bdbcf158e97dd71a467cd2e0c893059b10f78e6b72ada1ed2c919",
    "initiator_name": "testapi",
    "initiator_password": "Safaricom999!*!",
}


@pytest.fixture
async def server(database: dict[str, Any], tmp_path: Path) -> AsyncIterator[Core]:
    """`mpesa-mcp simulator` and `mpesa-mcp serve`, in this process."""
    opened, simulator = listen("127.0.0.1", 0), listen("127.0.0.1", 0)
    settings = Settings(
        **database,
        port=port_of(opened),
        simulator_url=f"http://127.0.0.1:{port_of(simulator)}",
        master_key=SecretStr(MASTER_KEY),
    )
    async with (
        serving(create_simulator(seed=1, delay_ms=20), simulator),
        open_core(settings) as core,
        serving(create_web(core), opened),
        working(core),
    ):
        yield core


async def test_an_organization_is_hosted_from_its_first_link_to_its_verified_audit(server: Core) -> None:
    acme = await create_organization(server.store, server.clock, name="Acme", slug="acme", actor=OPERATOR.name)
    invited = await invite(
        server.store,
        server.clock,
        organization_id=acme.organization_id,
        email=EMAIL,
        role=Role.ORG_ADMIN,
        actor=OPERATOR,
        seats=seats_of,
    )
    page, _, token = link_to(server.settings, invited.token).reveal().partition("#")
    async with httpx2.AsyncClient(verify=TLS, base_url=f"{server.settings.reached_at}/api/v1", timeout=20) as http:
        assert (await http.get(page)).status_code == 200
        accepted = await http.post("/auth/invitations/accept", json={"token": token, "password": PASSWORD})
        assert accepted.status_code == 201
        tokens = (await http.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})).json()
        http.headers["Authorization"] = f"Bearer {tokens['access_token']}"
        place = f"/organizations/{tokens['organization_id']}"
        assert (await http.put(f"{place}/credentials", json=CREDENTIALS)).status_code == 200
        made = (await http.post("/api-keys", json={"name": "my assistant", "role": "manager"})).json()
        async with connected(server.settings.reached_at, made["key"]) as client:
            push = {"phone": "254700000001", "amount": 1500, "reference": "INV-1042"}
            paid = (await client.call_tool("stk_push", push)).structured_content
        assert paid is not None
        assert (paid["status"], paid["amount"]) == ("succeeded", "1500.00")
        read = (await http.get(f"/payments/{paid['payment_id']}")).json()
        assert (read["receipt"], read["history"][-1]["after"]) == (paid["receipt"], "succeeded")
        entries = (await http.get("/audit", params={"limit": 200})).json()["items"]
        told = {(entry["action"], entry["actor"].partition(":")[0]) for entry in entries}
        assert {
            ("organization.created", "operator"),
            ("user.invited", "operator"),
            ("user.created", "invitation"),
            ("user.signed_in", "user"),
            ("credentials.set", "user"),
            ("key.created", "user"),
            ("payment.opened", "key"),
            ("tool.called", "key"),
        } <= told
    verdict = await verify(server.store, server.clock, acme.organization_id)
    assert verdict.intact
    assert verdict.entries >= len(entries)
