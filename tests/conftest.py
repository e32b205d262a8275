"""Fixtures every folder shares: a migrated database of its own, keys, a clock that stands still."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store, open_store
from mpesa_mcp.store.keyring import Keyring, load_master_key
from mpesa_mcp.store.migrate import upgrade
from mpesa_mcp.values import FrozenClock

MASTER_KEY = "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> FrozenClock:
    """Half past eleven in Nairobi on a Monday."""
    return FrozenClock(datetime(2026, 11, 16, 8, 30, tzinfo=UTC))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", master_key=SecretStr(MASTER_KEY), reconcile_speed=100)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database at the newest migration, to be copied: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("migrated") / "mpesa-mcp.db"
    asyncio.run(upgrade(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture
async def store(settings: Settings, migrated: Path) -> AsyncIterator[Store]:
    settings.data_dir.mkdir(mode=0o700)
    assert settings.sqlite_path is not None
    shutil.copy(migrated, settings.sqlite_path)
    opened = open_store(settings.effective_database_url)
    yield opened
    await opened.close()


@pytest.fixture
def keyring(store: Store, settings: Settings) -> Keyring:
    return Keyring(store, load_master_key(settings))
