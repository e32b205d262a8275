"""A token of a person on `/mcp`: the tools of the role, and from then on no acts that need a person."""

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from mpesa_mcp.app.local import LocalPlatform
from mpesa_mcp.audit.reading import EntryFilter, list_entries
from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.billing.usage import month_of, usage_of_all
from mpesa_mcp.identity.models import PLATFORM
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.identity.users import create_user, deactivate_user
from mpesa_mcp.values import Role, Secret
from tests.clients import TLS

pytestmark = pytest.mark.anyio
PASSWORD = "correct horse battery"
OPERATOR = Actor("operator:tester", None)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_token_opens_the_tools_of_its_role_and_its_session_approves_nothing_any_more(
    platform: LocalPlatform, mode: str
) -> None:
    core, organization_id = platform.core, platform.organization.organization_id
    email = f"{mode}@demo.example"
    user = await create_user(
        core.store,
        core.clock,
        organization_id=organization_id,
        email=email,
        role=Role.MANAGER,
        password=Secret(PASSWORD),
        actor=OPERATOR,
        seats=seats_of,
    )
    async with httpx2.AsyncClient(verify=TLS, base_url=f"{platform.url}/api/v1") as http:

        async def sign_in() -> dict[str, str]:
            tokens = (await http.post("/auth/login", json={"email": email, "password": PASSWORD})).json()
            return {"Authorization": f"Bearer {tokens['access_token']}"}

        at_the_desk, in_the_chat = await sign_in(), await sign_in()
        withdrawal = ("/payments/pay_none/withdraw", {"reason": "Not needed."})
        for elsewhere in ("/api/payments", "/MCP", "/mcp/sessions", "/.well-known/nothing"):
            assert (await http.get(f"{platform.url}{elsewhere}", headers=in_the_chat)).status_code == 404
        assert (await http.post(withdrawal[0], json=withdrawal[1], headers=in_the_chat)).status_code == 404
        async with (
            httpx2.AsyncClient(verify=TLS, headers=in_the_chat, timeout=httpx2.Timeout(10, read=60)) as chat,
            Client(streamable_http_client(f"{platform.url}/mcp", http_client=chat), mode=mode) as client,
        ):
            tools = {tool.name for tool in (await client.list_tools()).tools}
            assert {"stk_push", "b2c_payment", "reverse"} <= tools
            report = await client.call_tool(
                "transaction_report", {"from_date": "2026-01-01", "to_date": "2026-12-31", "group_by": "kind"}
            )
            assert report.structured_content is not None
            assert report.structured_content["environment"] == "simulator"
            refused = await http.post(withdrawal[0], json=withdrawal[1], headers=in_the_chat)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "person_needed")
            assert (await http.get("/payments", headers=in_the_chat)).status_code == 200
            assert (await http.post(withdrawal[0], json=withdrawal[1], headers=at_the_desk)).status_code == 404
            await deactivate_user(
                core.store, core.clock, organization_id=organization_id, user_id=user.user_id, actor=OPERATOR
            )
            assert (await chat.post(f"{platform.url}/mcp", json={})).status_code == 401


async def test_a_super_admin_is_told_to_use_a_key_of_the_organization_and_counts_as_nobodys_usage(
    platform: LocalPlatform,
) -> None:
    core, email = platform.core, "root@demo.example"
    await create_user(
        core.store,
        core.clock,
        organization_id=PLATFORM,
        email=email,
        role=Role.SUPER_ADMIN,
        password=Secret(PASSWORD),
        actor=OPERATOR,
        seats=seats_of,
    )
    async with httpx2.AsyncClient(verify=TLS, base_url=f"{platform.url}/api/v1") as http:
        tokens = (await http.post("/auth/login", json={"email": email, "password": PASSWORD})).json()
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    async with (
        httpx2.AsyncClient(verify=TLS, headers=headers) as chat,
        Client(streamable_http_client(f"{platform.url}/mcp", http_client=chat)) as client,
    ):
        assert (await client.list_tools()).tools == []
        answer = await client.call_tool("list_payments", {})
    assert answer.structured_content is not None
    error = answer.structured_content["error"]
    assert (answer.is_error, error["code"]) == (True, "no_organization")
    assert "an API key of the organization" in error["message"]
    used = await usage_of_all(core.store, month_of(core.clock.now()), limit=100)
    assert PLATFORM not in {each.organization_id for each in used.items}
    told = await list_entries(core.store, PLATFORM, EntryFilter(action="tool.called"), limit=3)
    assert [(each.subject, each.reasons) for each in told.entries] == [("list_payments", "no_organization")]
