"""A server that listens, with people of every role in one organization and a stranger's beside it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mpesa_mcp.app.local import local_platform

from .office import Office, open_office


@pytest.fixture(scope="module")
async def office(module_database: dict[str, Any]) -> AsyncIterator[Office]:
    async with local_platform(worker=False, delay_ms=10, **module_database) as platform:
        yield await open_office(platform)
