"""A bridge for desktop clients: MCP over stdio here, the server's own `/mcp` there.

Tools, results and refusals pass through unchanged; there is no database and no master key on the desktop. Each request
makes its own connection to the server, so one that was away and came back is used again.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams

from mpesa_mcp import __version__
from mpesa_mcp.errors import InputError, ProviderError
from mpesa_mcp.identity.principal import Unauthenticated
from mpesa_mcp.settings import Settings, is_loopback
from mpesa_mcp.tools.refusals import refused
from mpesa_mcp.tools.server import INSTRUCTIONS

log = logging.getLogger(__name__)


class ServerUnreachable(ProviderError):
    """The server behind the bridge does not answer, or stopped answering."""

    code = "server_unreachable"

    def __init__(self) -> None:
        super().__init__(
            "The server at --url does not answer. A payment that was being asked for may have been made: look with "
            "list_payments before asking again."
        )


async def run_bridge(settings: Settings, url: str) -> None:
    """Serves one desktop client from the server at `url` until it closes stdin. Raises InputError."""
    if settings.api_key is None:
        raise InputError("Set MPESA_MCP_API_KEY to a key of the server at --url.", field="api_key")
    if not url.startswith("https://") and not is_loopback(url):
        raise InputError("--url must be https: the key travels with every call.", field="url")
    endpoint = url.rstrip("/") if url.rstrip("/").endswith("/mcp") else f"{url.rstrip('/')}/mcp"
    headers = {"Authorization": f"Bearer {settings.api_key.get_secret_value()}"}
    timeout = httpx2.Timeout(10, read=120)
    async with (
        httpx2.AsyncClient(headers=headers, timeout=timeout, follow_redirects=False) as http,
        stdio_server() as (read, write),
    ):
        server = _relay(endpoint, http)
        await server.run(read, write, server.create_initialization_options())


def _relay(endpoint: str, http: httpx2.AsyncClient) -> Server[Any]:
    async def list_tools(_ctx: Any, _params: PaginatedRequestParams | None) -> ListToolsResult:
        try:
            async with _connected(endpoint, http) as remote:
                return await remote.list_tools()
        except (ServerUnreachable, Unauthenticated) as away:
            raise MCPError(away.http_status, away.message) from away

    async def call_tool(ctx: Any, params: CallToolRequestParams) -> CallToolResult:
        async def tell(progress: float, total: float | None, message: str | None) -> None:
            await ctx.session.report_progress(progress, total, message)

        try:
            async with _connected(endpoint, http) as remote:
                return await remote.call_tool(params.name, params.arguments or {}, progress_callback=tell)
        except (ServerUnreachable, Unauthenticated) as away:
            return refused(away)

    return Server(
        name="mpesa-mcp",
        title="M-PESA",
        version=__version__,
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


@asynccontextmanager
async def _connected(endpoint: str, http: httpx2.AsyncClient) -> AsyncIterator[Client]:
    """A connection for one request. Raises Unauthenticated or ServerUnreachable, whatever broke it."""
    try:
        async with Client(streamable_http_client(endpoint, http_client=http)) as remote:
            yield remote
    except Exception as broken:
        # The client wraps what happened in groups, and says no more than that the connection is gone.
        log.warning("server_unreachable", extra={"kind": type(broken).__name__, "endpoint": endpoint})
        if await _refuses_key(endpoint, http):
            raise Unauthenticated from broken
        raise ServerUnreachable from broken


async def _refuses_key(endpoint: str, http: httpx2.AsyncClient) -> bool:
    try:
        return (await http.post(endpoint, json={})).status_code == 401
    except httpx2.HTTPError:
        return False
