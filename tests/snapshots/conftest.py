"""One platform for all snapshots, always with the same seed."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from mpesa_mcp.app.local import local_platform


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[Client]:
    async with local_platform(delay_ms=20, seed=1) as platform:
        headers = {"Authorization": f"Bearer {platform.key.reveal()}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(10, read=60)) as http,
            Client(streamable_http_client(f"{platform.url}/mcp", http_client=http)) as opened,
        ):
            yield opened
