"""A shop with its fake Daraja, on the folder's frozen clock."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mpesa_mcp.values import FrozenClock

from .factories import Shop, open_shop


@pytest.fixture
async def shop(database: dict[str, Any], acme: str, clock: FrozenClock) -> AsyncIterator[Shop]:
    async with open_shop(database, clock, organization_id=acme) as opened:
        yield opened
