"""A core on a frozen clock, and a merchant in it."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mpesa_mcp.app.core import open_core
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.core import Core
from mpesa_mcp.settings import Settings
from mpesa_mcp.values import FrozenClock

from .factories import make_merchant


@pytest.fixture
async def core(tmp_path: Path, migrated: Path, clock: FrozenClock) -> AsyncIterator[Core]:
    (tmp_path / "data").mkdir(mode=0o700)
    shutil.copy(migrated, tmp_path / "data" / migrated.name)
    async with open_core(Settings(data_dir=tmp_path / "data"), clock=clock) as opened:
        yield opened


@pytest.fixture
async def merchant(core: Core) -> Principal:
    return await make_merchant(core)
