"""A shop with its fake Daraja, on the folder's frozen clock."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mpesa_mcp.values import FrozenClock

from .factories import Shop, open_shop


@pytest.fixture
async def shop(tmp_path: Path, migrated: Path, clock: FrozenClock) -> AsyncIterator[Shop]:
    (tmp_path / "data").mkdir(mode=0o700)
    shutil.copy(migrated, tmp_path / "data" / migrated.name)
    async with open_shop(tmp_path / "data", clock) as opened:
        yield opened
