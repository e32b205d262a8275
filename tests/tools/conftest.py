"""One platform per module, and a client of it in each generation of the protocol."""

from collections.abc import AsyncIterator

import pytest
from mcp.client import Client

from mpesa_mcp.app.local import LocalPlatform, local_platform
from tests.clients import connected
from tests.rates import ask_without_limit


@pytest.fixture(scope="module")
async def platform() -> AsyncIterator[LocalPlatform]:
    async with local_platform(delay_ms=30) as started:
        await ask_without_limit(started.core, started.organization.organization_id)
        yield started


@pytest.fixture(scope="module")
async def client(platform: LocalPlatform) -> AsyncIterator[Client]:
    async with connected(platform.url, platform.key.reveal()) as opened:
        yield opened
