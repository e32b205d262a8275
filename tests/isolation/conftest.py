"""One platform for each module and database: the asking organization, and the other one beside it. No worker runs."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mpesa_mcp.app.local import LocalPlatform, local_platform
from tests.rates import ask_without_limit
from tests.spending import give_wide_rules

from .factories import Theirs, make_theirs


@pytest.fixture(scope="module")
async def platform(module_database: dict[str, Any]) -> AsyncIterator[LocalPlatform]:
    async with local_platform(worker=False, delay_ms=10, **module_database) as started:
        await ask_without_limit(started.core, started.organization.organization_id)
        await give_wide_rules(started.core, started.organization.organization_id)
        yield started


@pytest.fixture(scope="module")
async def theirs(platform: LocalPlatform) -> Theirs:
    return await make_theirs(platform.core)
