"""The embedded database in trouble: locked, full, read-only, gone, damaged, or of another version."""

import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from mpesa_mcp.app.local import LocalPlatform, local_platform

from .factories import Seen, through, under_load

pytestmark = pytest.mark.anyio

Trouble = Callable[[LocalPlatform], AbstractAsyncContextManager[None]]


@pytest.fixture(scope="module")
async def platform() -> AsyncIterator[LocalPlatform]:
    """One program for all troubles: each must leave it as it was."""
    async with local_platform(delay_ms=10, reconcile_speed=1000) as started:
        yield started


def path_of(platform: LocalPlatform) -> Path:
    path = platform.core.settings.sqlite_path
    assert path is not None
    return path


def opened(path: Path) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False))


async def in_file(path: Path, statement: str) -> list[tuple[str]]:
    """Runs it in a thread: the program, which may have a transaction open, goes on meanwhile and ends it."""

    def run() -> list[tuple[str]]:
        with opened(path) as connection:
            return connection.execute(statement).fetchall()

    return await anyio.to_thread.run_sync(run)


@asynccontextmanager
async def locked(platform: LocalPlatform) -> AsyncIterator[None]:
    """Another process writes and does not come to an end. The key's use waits to be noted, which holds up nobody."""
    await in_file(path_of(platform), "UPDATE api_keys SET last_used_at = NULL")
    with opened(path_of(platform)) as other:
        await anyio.to_thread.run_sync(other.execute, "BEGIN IMMEDIATE")
        yield


async def _set(platform: LocalPlatform, pragma: str) -> None:
    """Of the connection that writes."""
    await platform.core.store.in_one_visit(lambda writer: writer.execute(f"PRAGMA {pragma}"), writing=True)


@asynccontextmanager
async def full(platform: LocalPlatform) -> AsyncIterator[None]:
    """The file may not grow any more, and what was free in it is taken."""

    def fill(writer: sqlite3.Connection) -> None:
        writer.execute("CREATE TABLE IF NOT EXISTS filler (content BLOB)")
        writer.execute("PRAGMA max_page_count = 1")
        with contextlib.suppress(sqlite3.OperationalError):
            while True:
                writer.execute("INSERT INTO filler VALUES (zeroblob(3000))")

    await platform.core.store.in_one_visit(fill, writing=True)
    try:
        yield
    finally:
        await _set(platform, "max_page_count = 4294967294")


@asynccontextmanager
async def read_only(platform: LocalPlatform) -> AsyncIterator[None]:
    await _set(platform, "query_only = ON")
    try:
        yield
    finally:
        await _set(platform, "query_only = OFF")


def _move_away(path: Path, aside: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        if (there := Path(f"{path}{suffix}")).exists():
            there.rename(f"{aside}{suffix}")


def _move_back(path: Path, aside: Path) -> None:
    """The database last: whoever opens it finds its log."""
    for suffix in ("-shm", "-wal", ""):
        if (there := Path(f"{aside}{suffix}")).exists():
            there.rename(f"{path}{suffix}")


def _is_open(path: Path) -> bool:
    """In this process."""
    for opened in Path("/dev/fd").iterdir():
        with contextlib.suppress(OSError):
            if opened.samefile(path):
                return True
    return False


@asynccontextmanager
async def missing(platform: LocalPlatform) -> AsyncIterator[None]:
    """Somebody moved the files away, and moves them back."""
    path = path_of(platform)
    aside = path.with_name("aside.db")
    _move_away(path, aside)
    try:
        yield
    finally:
        assert not path.exists(), "an empty database was made in its place"
        _move_back(path, aside)


@asynccontextmanager
async def damaged(platform: LocalPlatform) -> AsyncIterator[None]:
    """What is there is no database, until the true one is put back."""
    path = path_of(platform)
    aside = path.with_name("aside.db")
    wrong = path.with_name("wrong.db")
    _move_away(path, aside)
    path.write_bytes(os.urandom(8192))
    try:
        yield
    finally:
        path.rename(wrong)
        # Whoever has the wrong file open would take the log that is put back for its own, and break it.
        while _is_open(wrong):  # noqa: ASYNC110 # nobody tells
            await anyio.sleep(0.01)
        _move_back(path, aside)


@asynccontextmanager
async def newer(platform: LocalPlatform) -> AsyncIterator[None]:
    """A newer program migrated it."""
    [(ours,)] = await in_file(path_of(platform), "SELECT version_num FROM alembic_version")
    await in_file(path_of(platform), "UPDATE alembic_version SET version_num = '9999'")
    try:
        yield
    finally:
        await in_file(path_of(platform), f"UPDATE alembic_version SET version_num = '{ours}'")


def nothing_was_done(seen: Seen) -> None:
    assert set(seen.callbacks) == {503}
    assert seen.call in {"store_unavailable", "503"}


@pytest.mark.parametrize("trouble", [locked, read_only], ids=lambda each: each.__name__)
async def test_a_database_that_cannot_be_written_takes_nothing_and_comes_back(
    platform: LocalPlatform, trouble: Trouble
) -> None:
    seen = await through(platform, trouble(platform))
    nothing_was_done(seen)
    assert seen.call == "store_unavailable", "the key could be read"
    assert not seen.stored_unsaid or trouble is locked


async def test_a_full_database_takes_no_callback_and_comes_back(platform: LocalPlatform) -> None:
    """A payment's row may still find room on a page that has some; a callback of this size does not."""
    seen = await through(platform, full(platform))
    assert (set(seen.callbacks), seen.stored_unsaid) == ({503}, 0)
    assert seen.call in {"store_unavailable", "503", "queued", "sending", "pending"}


@pytest.mark.parametrize("trouble", [missing, damaged], ids=lambda each: each.__name__)
async def test_a_database_that_is_not_there_is_a_503_to_everybody_and_comes_back(
    platform: LocalPlatform, trouble: Trouble
) -> None:
    seen = await through(platform, trouble(platform))
    nothing_was_done(seen)
    assert seen.other_call == "store_unavailable"
    assert seen.ready == 503


async def test_commands_on_a_damaged_database_say_so_in_a_line(platform: LocalPlatform) -> None:
    seen = await through(platform, damaged(platform), "payment", "list", "--org", "demo")
    code, said = seen.command
    assert (code, said.count("\n")) == (1, 1), said
    assert str(path_of(platform).parent) not in said


async def test_a_database_of_a_newer_program_is_said_to_whoever_asks(platform: LocalPlatform) -> None:
    seen = await through(platform, newer(platform), "payment", "list", "--org", "demo")
    assert seen.ready == 503
    code, said = seen.command
    assert (code, said.count("\n")) == (1, 1), said
    assert "newer version" in said


@pytest.mark.parametrize("trouble", [missing, read_only], ids=lambda each: each.__name__)
async def test_under_load_nothing_is_acknowledged_that_is_not_stored(platform: LocalPlatform, trouble: Trouble) -> None:
    told = await under_load(platform, trouble(platform))
    assert told["200"]
