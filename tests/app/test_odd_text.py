"""A NUL, which PostgreSQL cannot store, in an argument of a tool or a client's name: refused, never a fault of ours."""

from typing import Any

import httpx2
import pytest

from mpesa_mcp.app.local import local_platform
from mpesa_mcp.tools.catalogue import all_tools
from tests.clients import TLS, call, connected, refusal
from tests.tools.factories import ACCEPTED

pytestmark = pytest.mark.anyio


async def test_a_nul_in_an_argument_is_refused_and_stores_nothing(module_database: dict[str, Any]) -> None:
    async with (
        local_platform(worker=False, **module_database) as platform,
        connected(platform.url, platform.key.reveal()) as client,
    ):
        for offered in all_tools():
            name, properties = offered.tool.name, offered.tool.parameters["properties"]
            for argument, schema in properties.items():
                if schema.get("type") == "string":
                    odd = f"{ACCEPTED[name].get(argument, 'aa')}\x00"
                    told = refusal(await client.call_tool(name, ACCEPTED[name] | {argument: odd}))
                    assert (told["advice"], told.get("field")) == ("fix_input", argument), name
        assert (await call(client, "list_payments"))["payments"] == []
        initialize = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "odd\x00client", "version": "1\x00"},
        }
        headers = {
            "Authorization": f"Bearer {platform.key.reveal()}",
            "Accept": "application/json, text/event-stream",
        }
        async with httpx2.AsyncClient(verify=TLS, headers=headers) as http:
            begun = await _ask(http, platform.url, "initialize", initialize)
            http.headers["Mcp-Session-Id"] = begun.headers["mcp-session-id"]
            await http.post(f"{platform.url}/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"})
            listed = await _ask(http, platform.url, "tools/call", {"name": "list_payments", "arguments": {}})
        assert '"payments":[]' in listed.text.replace(" ", "")


async def _ask(http: httpx2.AsyncClient, url: str, method: str, params: dict[str, Any]) -> httpx2.Response:
    asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = await http.post(f"{url}/mcp", json=asked)
    assert answer.status_code == 200, answer.text
    return answer
