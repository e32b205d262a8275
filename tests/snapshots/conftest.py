"""One platform for all snapshots, always with the same seed, and somebody who may approve."""

from collections.abc import AsyncIterator

import pytest
from mcp.client import Client

from mpesa_mcp.app.local import local_platform
from tests.clients import connected
from tests.payments.approvals import a_person


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[Client]:
    async with local_platform(delay_ms=20, seed=1) as platform:
        await a_person(platform.core, platform.organization.organization_id, "jane")
        async with connected(platform.url, platform.key.reveal()) as opened:
            yield opened
