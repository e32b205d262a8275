"""A core on a frozen clock, and a merchant in it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mpesa_mcp.app.core import open_core
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.core import Core
from mpesa_mcp.settings import Settings
from mpesa_mcp.values import FrozenClock

from .factories import merchant_of


@pytest.fixture
async def core(database: dict[str, Any], acme: str, clock: FrozenClock) -> AsyncIterator[Core]:
    async with open_core(Settings(**database), clock=clock) as opened:
        yield opened


@pytest.fixture
def merchant(acme: str) -> Principal:
    return merchant_of(acme)
