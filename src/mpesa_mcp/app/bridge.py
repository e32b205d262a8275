"""A bridge for desktop clients: MCP over stdio here, the server's own `/mcp` there.

Tools, results and refusals pass through unchanged; there is no database and no master key on the desktop.
"""

from typing import Any

import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server
from mcp.types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams

from mpesa_mcp import __version__
from mpesa_mcp.errors import InputError, ProviderError
from mpesa_mcp.settings import Settings, is_loopback
from mpesa_mcp.tools.server import INSTRUCTIONS


class ServerUnreachable(ProviderError):
    """The server behind the bridge does not answer, or does not take the key."""

    code = "server_unreachable"

    def __init__(self) -> None:
        super().__init__("The server at --url cannot be reached, or does not accept MPESA_MCP_API_KEY.")


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
        Client(streamable_http_client(endpoint, http_client=http)) as remote,
        stdio_server() as (read, write),
    ):
        server = _relay(remote)
        await server.run(read, write, server.create_initialization_options())


def _relay(remote: Client) -> Server[Any]:
    async def list_tools(_ctx: Any, _params: PaginatedRequestParams | None) -> ListToolsResult:
        return await remote.list_tools()

    async def call_tool(ctx: Any, params: CallToolRequestParams) -> CallToolResult:
        async def tell(progress: float, total: float | None, message: str | None) -> None:
            await ctx.session.report_progress(progress, total, message)

        return await remote.call_tool(params.name, params.arguments or {}, progress_callback=tell)

    return Server(
        name="mpesa-mcp",
        title="M-PESA",
        version=__version__,
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
