"""MCP clients over HTTP, in both generations of the protocol."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult

# Made once: making it is slower than a whole call.
TLS = ssl.create_default_context()
# How a client opens, and the version it then speaks.
GENERATIONS = (("auto", "2026-07-28"), ("legacy", "2025-11-25"))
MODES = tuple(mode for mode, _ in GENERATIONS)


@asynccontextmanager
async def connected(url: str, key: str, *, mode: Any = "auto", answers: Any = None) -> AsyncIterator[Client]:
    """An MCP client of the server at `url`; `answers` is its user, whom a server may ask questions."""
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        httpx2.AsyncClient(verify=TLS, headers=headers, timeout=httpx2.Timeout(10, read=60)) as http,
        Client(
            streamable_http_client(f"{url}/mcp", http_client=http), mode=mode, elicitation_callback=answers
        ) as client,
    ):
        yield client


async def call(client: Client, tool: str, /, **arguments: Any) -> dict[str, Any]:
    """The structured result of a call that must not be an error."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result
    structure: dict[str, Any] | None = result.structured_content
    assert structure is not None
    return structure


def refusal(result: CallToolResult) -> dict[str, Any]:
    """The machine-readable half of an error result."""
    assert result.is_error, result
    assert result.structured_content is not None
    error: dict[str, Any] = result.structured_content["error"]
    return error
