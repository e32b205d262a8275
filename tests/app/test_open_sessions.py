"""MCP sessions are one pool of the server: one caller cannot take it from the others."""

import httpx2
import pytest

from mpesa_mcp.app import open_sessions
from mpesa_mcp.app.local import LocalPlatform
from mpesa_mcp.identity.api_keys import create_key
from mpesa_mcp.identity.organizations import create_organization
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.values import Environment, Role
from tests.clients import GENERATIONS, TLS

pytestmark = pytest.mark.anyio
VERSION = GENERATIONS[1][1]
HELLO = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "some desk", "version": "7.1"}}


class Caller:
    def __init__(self, http: httpx2.AsyncClient, key: str) -> None:
        self._http = http
        self._headers = {"Authorization": f"Bearer {key}", "Accept": "application/json, text/event-stream"}

    async def open(self) -> str:
        said = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": HELLO}
        opened = await self._http.post("/mcp", json=said, headers=self._headers)
        assert opened.status_code == 200, opened.text
        session: str = opened.headers["mcp-session-id"]
        await self._in(session, {"jsonrpc": "2.0", "method": "notifications/initialized"})
        return session

    async def may_use(self, session: str) -> bool:
        answer = await self._in(session, {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}})
        assert answer.status_code in {200, 404}
        return answer.status_code == 200

    async def end(self, session: str) -> None:
        await self._http.delete("/mcp", headers=self._named(session))

    async def _in(self, session: str, said: object) -> httpx2.Response:
        return await self._http.post("/mcp", json=said, headers=self._named(session))

    def _named(self, session: str) -> dict[str, str]:
        return self._headers | {"MCP-Protocol-Version": VERSION, "Mcp-Session-Id": session}


async def test_who_opens_more_sessions_than_he_may_loses_the_one_he_used_least_lately_and_nobody_else_does(
    platform: LocalPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_sessions, "MOST", 3)
    core = platform.core
    made = await create_organization(core.store, core.clock, name="Greedy", slug="greedy", actor="operator:tester")
    keys = [
        await create_key(
            core.store,
            core.keyring,
            core.clock,
            organization_id=made.organization_id,
            name=name,
            role=Role.USER,
            environment=Environment.SIMULATOR,
            expires_at=None,
            tools=None,
            actor=Actor("operator:tester", None),
        )
        for name in ("greedy", "other")
    ]
    async with httpx2.AsyncClient(verify=TLS, base_url=platform.url) as http:
        greedy, other = (Caller(http, key.key.reveal()) for key in keys)
        theirs = await other.open()
        first, second, third = [await greedy.open() for _ in range(3)]
        assert await greedy.may_use(first)
        fourth = await greedy.open()
        assert [await greedy.may_use(each) for each in (first, second, third, fourth)] == [True, False, True, True]
        # One that is ended makes room.
        await greedy.end(third)
        fifth = await greedy.open()
        assert [await greedy.may_use(each) for each in (first, third, fourth, fifth)] == [True, False, True, True]
        assert await other.may_use(theirs)
