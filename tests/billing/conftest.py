"""A process's core on the folder's frozen clock."""

from collections.abc import AsyncIterator

import pytest

from mpesa_mcp.app.core import open_core
from mpesa_mcp.payments.core import Core
from mpesa_mcp.settings import Settings
from mpesa_mcp.values import FrozenClock


@pytest.fixture
async def core(settings: Settings, clock: FrozenClock) -> AsyncIterator[Core]:
    async with open_core(settings, clock=clock) as opened:
        yield opened
