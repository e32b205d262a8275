"""Calls above the rate limit that repeat a refused one: the same answer, counted the same, without the SDK."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp

from mpesa_mcp.app.limited_calls import REMEMBERED_SECONDS
from mpesa_mcp.app.local import LocalPlatform, add_simulator_access
from mpesa_mcp.audit.reading import EntryFilter, list_entries
from mpesa_mcp.billing.subscriptions import set_rate_limits
from mpesa_mcp.billing.usage import CallsOfTool, month_of, usage_of
from mpesa_mcp.identity.organizations import create_organization
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.values import Role
from tests.clients import GENERATIONS, TLS

pytestmark = pytest.mark.anyio
OPERATOR = Actor("operator:tester", None)
VERSIONS = [version for _, version in GENERATIONS]
MODERN = VERSIONS[0]
CLIENT = {"name": "some desk", "version": "7.1"}
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": CLIENT,
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The methods of the requests that the SDK took up."""
    methods: list[str] = []
    taken_up = StreamableHTTPASGIApp.__call__

    async def noted(app: StreamableHTTPASGIApp, scope: Any, receive: Any, send: Any) -> None:
        methods.append(scope["method"])
        await taken_up(app, scope, receive, send)

    monkeypatch.setattr(StreamableHTTPASGIApp, "__call__", noted)
    yield methods


@dataclass(frozen=True)
class Wire:
    """A client that writes its own requests, in one generation of the protocol."""

    http: httpx2.AsyncClient
    organization_id: str
    meta: dict[str, Any]

    def body(self, call_id: object, tool: str = "list_payments", **more: Any) -> dict[str, Any]:
        params = {"name": tool, "arguments": {"limit": 5}, **self.meta, **more}
        return {"jsonrpc": "2.0", "id": call_id, "method": "tools/call", "params": params}

    async def call(self, call_id: object, tool: str = "list_payments", **more: Any) -> httpx2.Response:
        headers = {"Mcp-Method": "tools/call", "Mcp-Name": tool} if self.meta else {}
        return await self.http.post("/mcp", json=self.body(call_id, tool, **more), headers=headers)


@asynccontextmanager
async def wire(platform: LocalPlatform, slug: str, version: str, limit: int) -> AsyncIterator[Wire]:
    """A new organization whose keys may make so many calls a second, and one of them."""
    core = platform.core
    made = await create_organization(core.store, core.clock, name=slug, slug=slug, actor=OPERATOR.name)
    key = await add_simulator_access(core, made.organization_id, role=Role.MANAGER)
    await limited(platform, made.organization_id, limit)
    headers = ACCEPT | {"Authorization": f"Bearer {key.reveal()}"}
    async with httpx2.AsyncClient(verify=TLS, base_url=platform.url, headers=headers) as http:
        if version == MODERN:
            http.headers["MCP-Protocol-Version"] = version
        else:
            hello = {"protocolVersion": version, "capabilities": {}, "clientInfo": CLIENT}
            opened = await http.post("/mcp", json={"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello})
            http.headers |= {"MCP-Protocol-Version": version, "Mcp-Session-Id": opened.headers["mcp-session-id"]}
            await http.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"})
        yield Wire(http, made.organization_id, {"_meta": META} if version == MODERN else {})


async def limited(platform: LocalPlatform, organization_id: str, limit: int) -> None:
    core = platform.core
    await set_rate_limits(
        core.store,
        core.clock,
        organization_id=organization_id,
        calls_per_second=None,
        key_calls_per_second=limit,
        actor=OPERATOR,
    )


def told(answer: httpx2.Response) -> dict[str, Any]:
    """The message of an answer, bare or as an event."""
    assert answer.status_code == 200, answer.text
    message: dict[str, Any] = json.loads(answer.text[answer.text.index("{") :])
    return message


def is_refusal(answer: httpx2.Response) -> bool:
    return answer.status_code == 200 and "rate_limited" in answer.text


async def refused_twice(wire: Wire) -> None:
    """Until the refusal is remembered, and there is no room."""
    while not (is_refusal(await wire.call("fill")) and is_refusal(await wire.call("fill"))):
        pass


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_repeated_refusal_is_the_same_answer_and_counted_the_same(
    platform: LocalPlatform, reached: list[str], version: str
) -> None:
    async with wire(platform, f"repeating-{version}", version, 1) as client:
        reached.clear()
        begun = time.monotonic()
        ids = [n if n % 2 else f"ké {n}" for n in range(30)]
        answers = [await client.call(each, arguments={"limit": n + 1}) for n, each in enumerate(ids)]
        seconds = time.monotonic() - begun
    refused = [answer for answer in answers if is_refusal(answer)]
    allowed = len(answers) - len(refused)
    # Each call that was let in, and a refused one to learn from.
    assert allowed + 1 <= len(reached) <= allowed + 2 + seconds / REMEMBERED_SECONDS
    assert [told(answer)["id"] for answer in answers] == ids
    first, *others = refused
    assert all(told(answer)["result"] == told(first)["result"] for answer in others)
    one_answers = {"x-request-id", "content-length", "transfer-encoding", "date"}
    heads = [{name: value for name, value in each.headers.items() if name not in one_answers} for each in refused]
    assert heads == [heads[0]] * len(heads)
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)

    core = platform.core
    await core.billing.refusals.write()
    used = await usage_of(core.store, client.organization_id, month_of(core.clock.now()))
    [counted] = used.by_tool
    assert counted == CallsOfTool(counted.actor, "list_payments", allowed, len(refused))
    page = await list_entries(core.store, client.organization_id, EntryFilter(action="tool.called"), limit=100)
    entries = [entry for entry in page.entries if entry.reasons == "rate_limited"]
    assert sum(entry.detail["calls"] for entry in entries if entry.detail) == len(refused)
    assert {(entry.client, entry.address) for entry in entries} == {("some desk 7.1", "127.0.0.1")}


@pytest.mark.parametrize("version", VERSIONS)
async def test_whatever_differs_goes_the_way_of_every_call(
    platform: LocalPlatform, reached: list[str], version: str
) -> None:
    async with (
        wire(platform, f"differing-{version}", version, 1) as client,
        wire(platform, f"neighbour-{version}", version, 1_000) as neighbour,
    ):
        await refused_twice(client)
        reached.clear()
        # Another caller, another tool, what is no plain call, and what no client may send.
        assert "payments" in told(await neighbour.call(1))["result"]["structuredContent"]
        await client.call(2, "get_limits", arguments={})
        await client.call(3, arguments=[])
        await client.call(4, requestState="sealed")
        await client.call(None)
        assert (await client.http.post("/mcp", content=b"{")).status_code == 400
        for name, value in (("Accept", "text/html"), ("Host", "elsewhere.example"), ("Origin", "https://evil.example")):
            odd = await client.http.post("/mcp", json=client.body(5), headers={name: value})
            assert odd.status_code in {403, 406, 421}, name
        assert len(reached) == 9
        # And what there is room for again.
        await refused_twice(client)
        await limited(platform, client.organization_id, 1_000)
        assert "payments" in told(await client.call(6))["result"]["structuredContent"]


async def test_a_session_that_ended_is_not_answered_for(platform: LocalPlatform) -> None:
    async with wire(platform, "ended", VERSIONS[1], 1) as client:
        await refused_twice(client)
        assert (await client.http.delete("/mcp")).status_code == 200
        assert (await client.call(1)).status_code == 404
