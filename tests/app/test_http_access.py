"""Who is let in over HTTP, as whom, and what one organization can learn about another: nothing."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from mpesa_mcp.app.local import LocalPlatform, add_simulator_access
from mpesa_mcp.app.web import create_web
from mpesa_mcp.identity.api_keys import revoke_key
from mpesa_mcp.identity.organizations import create_organization
from mpesa_mcp.values import Role, eat_today
from tests.clients import GENERATIONS, TLS, call, connected, refusal
from tests.shortcodes import OPERATOR

from .factories import key_for, phone

pytestmark = pytest.mark.anyio

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
ACCEPT = {"Accept": "application/json, text/event-stream"}
FOR_USERS = [
    "stk_push",
    "get_payment",
    "list_payments",
    "get_batch",
    "transaction_report",
    "get_limits",
    "list_approvals",
]
FOR_MANAGERS = ["b2c_payment", "bulk_payment", "check_balance", "reverse", "transaction_status"]
MANAGER_CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("b2c_payment", {"phone": "0700000001", "amount": 100, "idempotency_key": "k-1", "remarks": "Tomatoes"}),
    ("check_balance", {}),
    ("reverse", {"receipt": "UKN7Z8CJ88", "reason": "Ordered twice", "idempotency_key": "k-2"}),
    ("transaction_status", {"receipt": "UKN7Z8CJ88"}),
)


@pytest.fixture
async def http(platform: LocalPlatform) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(verify=TLS, base_url=platform.url, headers=ACCEPT) as client:
        yield client


async def test_without_a_usable_key_the_answer_is_401_and_says_where_to_look(
    platform: LocalPlatform, http: httpx2.AsyncClient
) -> None:
    organization_id = platform.organization.organization_id
    expired = await key_for(platform, organization_id, expired=True)
    revoked = await key_for(platform, organization_id)
    await revoke_key(
        platform.core.store,
        platform.core.clock,
        organization_id=organization_id,
        key_id=revoked.record.key_id,
        actor=OPERATOR,
    )
    good = platform.key.reveal()
    credentials = {
        "nothing": {},
        "another scheme": {"Authorization": f"Basic {good}"},
        "something else": {"Authorization": "Bearer x"},
        "a key with a typing error": {"Authorization": f"Bearer {good[:-1]}{'a' if good[-1] != 'a' else 'b'}"},
        "a key of nobody": {"Authorization": "Bearer mpk_sim_00000000000000000000000000000000000000"},
        "another environment's prefix": {"Authorization": f"Bearer {good.replace('mpk_sim_', 'mpk_live_')}"},
        "expired": {"Authorization": f"Bearer {expired.key.reveal()}"},
        "revoked": {"Authorization": f"Bearer {revoked.key.reveal()}"},
    }
    for what, headers in credentials.items():
        answer = await http.post("/mcp", json=INITIALIZE, headers=headers)
        assert answer.status_code == 401, what
        error = answer.json()["error"]
        assert (error["code"], error["request_id"]) == ("unauthenticated", answer.headers["x-request-id"]), what
        challenge = answer.headers["www-authenticate"]
        assert challenge.startswith("Bearer "), what
        assert f'resource_metadata="{platform.url}/.well-known/oauth-protected-resource/mcp"' in challenge, what
        assert good not in answer.text + challenge


async def test_the_bare_address_says_where_everything_is(platform: LocalPlatform, http: httpx2.AsyncClient) -> None:
    told = (await http.get("/")).json()
    assert (told["name"], told["mcp"]) == ("mpesa-mcp", f"{platform.url}/mcp")
    assert (await http.get(told["documentation"])).status_code == 200


async def test_a_key_works_until_it_is_revoked(platform: LocalPlatform, http: httpx2.AsyncClient) -> None:
    made = await key_for(platform, platform.organization.organization_id)
    headers = {"Authorization": f"Bearer {made.key.reveal()}"}
    assert (await http.post("/mcp", json=INITIALIZE, headers=headers)).status_code == 200
    await revoke_key(
        platform.core.store,
        platform.core.clock,
        organization_id=platform.organization.organization_id,
        key_id=made.record.key_id,
        actor=OPERATOR,
    )
    assert (await http.post("/mcp", json=INITIALIZE, headers=headers)).status_code == 401


async def test_a_key_is_read_from_the_header_only(platform: LocalPlatform, http: httpx2.AsyncClient) -> None:
    # One of its own: the address flags it.
    key = (await key_for(platform, platform.organization.organization_id)).key.reveal()
    in_path = await http.post(f"/mcp?access_token={key}&api_key={key}", json=INITIALIZE)
    in_cookie = await http.post("/mcp", json=INITIALIZE, headers={"Cookie": f"session={key}; Authorization={key}"})
    assert (in_path.status_code, in_cookie.status_code) == (400, 401)


async def test_the_metadata_names_the_resource_and_issuer_without_trailing_slashes(
    platform: LocalPlatform, http: httpx2.AsyncClient
) -> None:
    document = (await http.get("/.well-known/oauth-protected-resource/mcp")).json()
    assert document["resource"] == f"{platform.url}/mcp"
    assert document["authorization_servers"] == [platform.url]


@pytest.mark.parametrize("base_url", ["https://pay.example", "https://pay.example/", "https://example.org/mpesa"])
async def test_behind_another_address_the_metadata_names_that_address(platform: LocalPlatform, base_url: str) -> None:
    settings = platform.core.settings.model_copy(update={"base_url": base_url})
    web = create_web(replace(platform.core, settings=settings))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(web), base_url="https://inside") as http:
        wanted = urlsplit(f"{base_url.rstrip('/')}/mcp").path
        document = (await http.get(f"/.well-known/oauth-protected-resource{wanted}")).json()
    assert document["resource"] == f"{base_url.rstrip('/')}/mcp"
    assert document["authorization_servers"] == [base_url.rstrip("/")]


async def test_foreign_hosts_and_pages_are_refused(platform: LocalPlatform, http: httpx2.AsyncClient) -> None:
    headers = {"Authorization": f"Bearer {platform.key.reveal()}"}
    foreign_host = await http.post("/mcp", json=INITIALIZE, headers=headers | {"Host": "evil.example"})
    foreign_page = await http.post("/mcp", json=INITIALIZE, headers=headers | {"Origin": "https://evil.example"})
    local_page = await http.post("/mcp", json=INITIALIZE, headers=headers | {"Origin": "http://localhost:3000"})
    own_page = await http.post("/mcp", json=INITIALIZE, headers=headers | {"Origin": platform.url})
    assert foreign_host.status_code == 421
    assert (foreign_page.status_code, local_page.status_code, own_page.status_code) == (403, 403, 200)


@pytest.mark.parametrize(("mode", "version"), GENERATIONS)
async def test_a_user_sees_and_calls_only_what_users_may(platform: LocalPlatform, mode: str, version: str) -> None:
    made = await key_for(platform, platform.organization.organization_id, role=Role.USER)
    async with connected(platform.url, made.key.reveal(), mode=mode) as client:
        assert client.protocol_version == version
        assert [tool.name for tool in (await client.list_tools()).tools] == FOR_USERS
        unknown = await client.call_tool("no_such_tool", {})
        assert refusal(unknown)["code"] == "not_allowed"
        for name, arguments in MANAGER_CALLS:
            # Whether a tool exists is not for everybody to know; what it was given is not even looked at.
            for given in (arguments, {"nonsense": 1}):
                assert (await client.call_tool(name, given)).model_dump_json() == unknown.model_dump_json(), name
    async with connected(platform.url, platform.key.reveal(), mode=mode) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == {*FOR_USERS, *FOR_MANAGERS}


async def test_a_key_limited_to_some_tools_has_only_those(platform: LocalPlatform) -> None:
    organization_id = platform.organization.organization_id
    limited = await key_for(platform, organization_id, tools=["get_payment", "check_balance"])
    # What a key names and its role does not allow stays closed.
    user = await key_for(platform, organization_id, role=Role.USER, tools=["get_payment", "b2c_payment"])
    async with connected(platform.url, limited.key.reveal()) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["check_balance", "get_payment"]
        refused = await client.call_tool("stk_push", {"phone": phone("01"), "amount": 1, "reference": "A"})
        assert refusal(refused)["code"] == "not_allowed"
        assert (await call(client, "check_balance", wait_seconds=20))["status"] == "answered"
    async with connected(platform.url, user.key.reveal()) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["get_payment"]


async def test_another_organizations_payments_are_as_unknown_as_what_does_not_exist(platform: LocalPlatform) -> None:
    store, clock = platform.core.store, platform.core.clock
    other = await create_organization(store, clock, name="Other Traders", slug="other", actor="operator:test")
    key = await add_simulator_access(platform.core, other.organization_id, role=Role.ORG_ADMIN)
    async with connected(platform.url, platform.key.reveal()) as ours:
        push = {"phone": phone("11", group=3), "amount": 210, "reference": "INV-11", "wait_seconds": 20}
        paid = await call(ours, "stk_push", **push, idempotency_key="mine-11")
        assert paid["status"] == "succeeded"
        prompts = await _prompt_ids(platform, phone("11", group=3))
    async with connected(platform.url, key.reveal()) as theirs:
        unknown = (await theirs.call_tool("get_payment", {"id": "pay_00000000000000000000000000"})).model_dump_json()
        for named in (paid["payment_id"], paid["receipt"], "mine-11", *prompts):
            assert (await theirs.call_tool("get_payment", {"id": named})).model_dump_json() == unknown, named
        refund = {"reason": "Ordered twice", "idempotency_key": "steal-1"}
        mine = await theirs.call_tool("reverse", {"receipt": paid["receipt"], **refund})
        nobodys = await theirs.call_tool("reverse", {"receipt": "AAAAAAAAAA", **refund})
        assert refusal(mine)["code"] == "not_found"
        assert mine.model_dump_json() == nobodys.model_dump_json()
        pages = [
            await theirs.call_tool("list_payments", {"cursor": cursor})
            for cursor in (paid["payment_id"], "pay_00000000000000000000000000")
        ]
        assert refusal(pages[0])["code"] == "invalid_input"
        assert pages[0].model_dump_json() == pages[1].model_dump_json()
        assert (await call(theirs, "list_payments"))["payments"] == []
        today = eat_today(clock).isoformat()
        report = await call(theirs, "transaction_report", from_date=today, to_date=today)
        assert report["totals"]["count"] == 0
        # The same idempotency key and the same request are theirs alone.
        own = await call(theirs, "stk_push", **push, idempotency_key="mine-11")
        assert (own["replayed"], own["status"]) == (False, "succeeded")
        assert own["payment_id"] != paid["payment_id"]
        assert [each["payment_id"] for each in (await call(theirs, "list_payments"))["payments"]] == [own["payment_id"]]
    async with connected(platform.url, platform.key.reveal()) as ours:
        listed = await call(ours, "list_payments", limit=100)
        assert own["payment_id"] not in {each["payment_id"] for each in listed["payments"]}


async def test_health_needs_no_key_and_tells_nothing_else(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/healthz")).json() == {"ok": True}
    ready = await http.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "database": "current", "daraja": []})


async def _prompt_ids(platform: LocalPlatform, number: str) -> list[str]:
    """The ids Safaricom gave the customer's payments, as the simulator tells them."""
    async with httpx2.AsyncClient(verify=TLS, base_url=platform.simulator_url) as page:
        ledger = (await page.get("/_sim/ledger")).json()
    return [each["checkout_request_id"] for each in ledger if each["party"] == number]
