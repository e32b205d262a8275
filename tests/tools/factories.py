"""Clients, phones and arguments for the tests of this folder."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult

from mpesa_mcp.app.local import LocalPlatform

# Made once: making it is slower than a whole call.
TLS = ssl.create_default_context()
# Both generations of the protocol.
GENERATIONS = ("auto", "legacy")
# Arguments each tool accepts as they are.
ACCEPTED: dict[str, dict[str, Any]] = {
    "stk_push": {"phone": "0700000001", "amount": 100, "reference": "INV-1", "wait_seconds": 0},
    "b2c_payment": {
        "phone": "0700000002",
        "amount": 100,
        "idempotency_key": "supplier-1",
        "remarks": "Tomatoes",
        "wait_seconds": 0,
    },
    "check_balance": {"max_age_seconds": 60, "wait_seconds": 0},
    "reverse": {
        "receipt": "UKN7Z8CJ88",
        "reason": "Ordered twice",
        "idempotency_key": "refund-1",
        "wait_seconds": 0,
    },
    "transaction_status": {"receipt": "UKN7Z8CJ88", "wait_seconds": 0},
    "get_payment": {"id": "supplier-1", "wait_seconds": 0},
    "list_payments": {"limit": 20},
    "transaction_report": {"from_date": "2026-01-01", "to_date": "2026-12-31"},
}


def phone(last_two: str, *, group: int = 0) -> str:
    """A number whose last two digits choose what happens to its payments."""
    return f"2547000{group:03d}{last_two}"


@asynccontextmanager
async def connected(platform: LocalPlatform, *, mode: Any = "auto") -> AsyncIterator[Client]:
    """An MCP client over HTTP, as the platform's manager."""
    headers = {"Authorization": f"Bearer {platform.key.reveal()}"}
    async with (
        httpx2.AsyncClient(verify=TLS, headers=headers, timeout=httpx2.Timeout(10, read=60)) as http,
        Client(streamable_http_client(f"{platform.url}/mcp", http_client=http), mode=mode) as client,
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


def text_of(result: CallToolResult) -> str:
    return "\n".join(getattr(part, "text", "") for part in result.content)


async def asked_of_simulator(platform: LocalPlatform, path: str) -> list[dict[str, Any]]:
    """`ledger` or `deliveries`, as the simulator keeps them."""
    async with httpx2.AsyncClient(verify=TLS, base_url=platform.simulator_url) as http:
        kept: list[dict[str, Any]] = (await http.get(f"/_sim/{path}")).json()
    return kept
