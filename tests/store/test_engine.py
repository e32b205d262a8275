"""The store: durable commits, readers that cannot write, private files, and one error when the database is away."""

import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.ext.asyncio import create_async_engine

from mpesa_mcp.errors import InternalFault
from mpesa_mcp.settings import Settings
from mpesa_mcp.store import engine as engine_module
from mpesa_mcp.store import sqlite_driver
from mpesa_mcp.store.engine import Store, StoreUnavailable, create_private_file, open_store
from mpesa_mcp.store.migrate import upgrade
from mpesa_mcp.values import FrozenClock

from .factories import OURS, THEIRS, a_key, an_organization, make_ours_and_theirs, names_of_keys
from .statements import ApiKey, Organization

pytestmark = pytest.mark.anyio


def url_of(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


async def test_what_a_block_wrote_is_there_when_it_ends(store: Store, clock: FrozenClock) -> None:
    await make_ours_and_theirs(store, clock)
    assert await names_of_keys(store, OURS) == ["secret of ours"]


async def test_what_a_block_wrote_is_gone_when_it_raises(store: Store, clock: FrozenClock) -> None:
    with pytest.raises(RuntimeError):
        async with store.session(OURS) as session:
            session.add(an_organization(clock, OURS))
            await session.flush()
            raise RuntimeError("it went wrong")
    async with store.reading(OURS) as session:
        assert await session.get(Organization, OURS) is None


async def test_what_a_constraint_refuses_takes_the_whole_block_with_it(store: Store, clock: FrozenClock) -> None:
    await make_ours_and_theirs(store, clock)
    with pytest.raises(IntegrityError):
        async with store.session(OURS) as session:
            session.add(a_key(clock, OURS, "key_new"))
            await session.flush()
            session.add(a_key(clock, OURS, "key_ours"))
    assert await names_of_keys(store, OURS) == ["secret of ours"]


async def test_a_caller_that_goes_away_does_not_tear_a_commit(store: Store, clock: FrozenClock) -> None:
    async with anyio.create_task_group() as tasks:

        async def write() -> None:
            async with store.session(OURS) as session:
                session.add(an_organization(clock, OURS))
                tasks.cancel_scope.cancel()
                await session.flush()

        tasks.start_soon(write)
    async with store.reading(OURS) as session:
        assert await session.get(Organization, OURS) is not None


async def test_a_reader_cannot_write(store: Store, clock: FrozenClock) -> None:
    await make_ours_and_theirs(store, clock)
    with pytest.raises(StoreUnavailable):
        async with store.reading(OURS) as session:
            await session.change(update(ApiKey).values(name="owned"))
    with pytest.raises(StoreUnavailable):
        async with store.reading(OURS) as session:
            session.add(a_key(clock, OURS, "key_new"))
            await session.flush()
    for view in (store.platform_reading, store.unbound_reading):
        with pytest.raises(InternalFault):
            async with view() as session:
                await session.execute(text("DELETE FROM api_keys"))
                await session.commit()
    assert await names_of_keys(store, OURS) == ["secret of ours"]


async def test_a_reader_sees_what_was_committed_before_it_and_not_what_is_under_way(
    store: Store, clock: FrozenClock
) -> None:
    await make_ours_and_theirs(store, clock)
    async with store.session(OURS) as writing:
        await writing.change(update(ApiKey).values(name="renamed"))
        assert await names_of_keys(store, OURS) == ["secret of ours"]
    assert await names_of_keys(store, OURS) == ["renamed"]


async def test_writers_take_turns(store: Store, clock: FrozenClock) -> None:
    await make_ours_and_theirs(store, clock)
    inside = 0

    async def append(letter: str) -> None:
        nonlocal inside
        async with store.session(OURS) as session:
            row = await session.lock(ApiKey, "key_ours")
            assert row is not None
            inside += 1
            assert inside == 1
            await anyio.lowlevel.checkpoint()
            row.name += letter
            inside -= 1

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for letter in "abcdefgh":
                tasks.start_soon(append, letter)
    [name] = await names_of_keys(store, OURS)
    assert sorted(name.removeprefix("secret of ours")) == list("abcdefgh")


async def test_processes_that_read_and_then_write_take_turns(store: Store, clock: FrozenClock, settings: Any) -> None:
    await make_ours_and_theirs(store, clock)
    stores = [store, open_store(settings.effective_database_url)]

    async def append(mine: Store, letter: str) -> None:
        async with mine.session(OURS) as session:
            row = await session.lock(ApiKey, "key_ours")
            assert row is not None
            # Time enough for the other one to read as well, if it were let in.
            await names_of_keys(mine, OURS)
            row.name += letter

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for number, letter in enumerate("abcdefgh"):
                tasks.start_soon(append, stores[number % 2], letter)
    await stores[1].close()
    [name] = await names_of_keys(store, OURS)
    assert sorted(name.removeprefix("secret of ours")) == list("abcdefgh")


View = Callable[[Store], AbstractAsyncContextManager[Any]]


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("view", "query_only"),
    [(Store.unbound, 0), (Store.unbound_reading, 1)],
    ids=["writer", "reader"],
)
async def test_every_connection_is_durable_and_checks_references(store: Store, view: View, query_only: int) -> None:
    async def pragma(session: Any, name: str) -> Any:
        return (await session.execute(text(f"PRAGMA {name}"))).scalar()

    # As many at once as there are connections, so that each of them is looked at.
    count = engine_module._READERS if query_only else 1
    everybody_looked = anyio.Event()
    looked = 0

    async def look() -> None:
        nonlocal looked
        async with view(store) as session:
            assert await pragma(session, "journal_mode") == "wal"
            assert await pragma(session, "synchronous") == 2
            assert await pragma(session, "foreign_keys") == 1
            assert await pragma(session, "busy_timeout") == (engine_module._BUSY_TIMEOUT_MS if query_only else 1)
            assert await pragma(session, "query_only") == query_only
            looked += 1
            if looked == count:
                everybody_looked.set()
            await everybody_looked.wait()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(look)


async def test_a_second_store_on_the_same_file_sees_the_same_rows(
    store: Store, clock: FrozenClock, settings: Any
) -> None:
    await make_ours_and_theirs(store, clock)
    second = open_store(settings.effective_database_url)
    assert await names_of_keys(second, THEIRS) == ["secret of theirs"]
    await second.close()


@pytest.mark.parametrize("act", ["session", "reading"])
async def test_a_database_without_tables_is_unavailable(tmp_path: Path, act: str) -> None:
    store = open_store(url_of(tmp_path / "empty.db"))
    with pytest.raises(StoreUnavailable) as away:
        async with getattr(store, act)(OURS) as session:
            await session.get(ApiKey, "key_ours")
    await store.close()
    assert "api_keys" not in away.value.message
    assert str(tmp_path) not in away.value.message
    assert away.value.http_status == 503


@pytest.mark.sqlite
async def test_a_locked_database_is_unavailable_to_writers_and_readable(
    store: Store, clock: FrozenClock, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_ours_and_theirs(store, clock)
    monkeypatch.setattr(sqlite_driver, "_PATIENCE_SECONDS", 0.05)
    second = open_store(settings.effective_database_url)
    with closing(sqlite3.connect(settings.sqlite_path, isolation_level=None)) as other_process:
        other_process.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            async with second.session(OURS) as session:
                await session.change(update(ApiKey).values(name="owned"))
        assert await names_of_keys(second, OURS) == ["secret of ours"]
        other_process.execute("ROLLBACK")
    async with second.session(OURS) as session:
        assert await session.change(update(ApiKey).values(name="renamed")) == 1
    await second.close()


@pytest.mark.sqlite
async def test_of_two_processes_that_write_all_the_time_each_has_its_share(
    store: Store, clock: FrozenClock, settings: Any
) -> None:
    """SQLite's own waiting lets one of them starve: it sleeps longer and longer, and is overtaken meanwhile."""
    await make_ours_and_theirs(store, clock)
    second = open_store(settings.effective_database_url)
    wrote = {store: 0, second: 0}

    async def write(by: Store) -> None:
        while min(wrote.values()) < 15:
            async with by.session(OURS) as session:
                for _ in range(10):
                    await session.change(update(ApiKey).values(name="renamed"))
            wrote[by] += 1

    async with anyio.create_task_group() as group:
        group.start_soon(write, store)
        group.start_soon(write, second)
    await second.close()
    assert max(wrote.values()) <= 3 * min(wrote.values())


@pytest.mark.sqlite
async def test_a_store_whose_connections_are_all_taken_is_unavailable(
    store: Store, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_ours_and_theirs(store, clock)
    monkeypatch.setattr(store._writer.pool, "_timeout", 0.01)
    async with store.session(OURS) as writing:
        await writing.all(select(Organization))
        with pytest.raises(StoreUnavailable):
            async with store.session(THEIRS) as session:
                await session.all(select(Organization))


THROWN_OUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"
)


@pytest.mark.postgresql
@pytest.mark.parametrize("is_asked", [False, True], ids=["closed, as the driver heard", "not heard of, but asked"])
async def test_a_connection_that_died_in_the_pool_costs_nobody_a_request(
    store: Store, settings: Settings, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch, is_asked: bool
) -> None:
    await make_ours_and_theirs(store, clock)
    async with store.unbound_reading() as connection:
        lying = (await connection.get_raw_connection()).driver_connection
    assert lying is not None
    other = create_async_engine(settings.effective_database_url)
    async with other.connect() as connection:
        await connection.execute(text(THROWN_OUT))
    await other.dispose()
    if is_asked:
        monkeypatch.setattr(engine_module, "_UNASKED_SECONDS", -1)
    else:
        with anyio.fail_after(5):
            while not lying.is_closed():
                await anyio.lowlevel.checkpoint()
    assert await names_of_keys(store, OURS) == ["secret of ours"]


@pytest.mark.sqlite
async def test_a_database_that_refuses_writing_is_unavailable(store: Store, clock: FrozenClock) -> None:
    await make_ours_and_theirs(store, clock)
    async with store.unbound() as session:
        await session.execute(text("PRAGMA query_only = ON"))
    with pytest.raises(StoreUnavailable):
        async with store.session(OURS) as session:
            await session.change(update(ApiKey).values(name="owned"))


def test_the_database_file_and_its_directory_are_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "deeper" / "store.db"
    before = os.umask(0)
    try:
        create_private_file(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.sqlite
async def test_the_files_beside_the_database_are_private_too(store: Store, clock: FrozenClock, settings: Any) -> None:
    await make_ours_and_theirs(store, clock)
    files = sorted(settings.data_dir.glob("mpesa-mcp.db*"))
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_database_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"kept")
    create_private_file(path)
    assert path.read_bytes() == b"kept"


async def test_upgrading_makes_the_file_private(tmp_path: Path) -> None:
    await upgrade(url_of(tmp_path / "data" / "store.db"))
    assert stat.S_IMODE((tmp_path / "data" / "store.db").stat().st_mode) == 0o600


async def test_a_moment_comes_back_aware_and_in_utc(store: Store, clock: FrozenClock) -> None:
    nairobi = datetime(2026, 11, 16, 11, 30, 0, 123456, tzinfo=timezone(timedelta(hours=3)))
    await make_ours_and_theirs(store, clock)
    async with store.session(OURS) as session:
        await session.change(update(ApiKey).values(last_used_at=nairobi))
    async with store.reading(OURS) as session:
        row = await session.get(ApiKey, "key_ours")
        assert row is not None
        assert row.last_used_at == nairobi
        assert row.last_used_at.tzinfo is UTC


async def test_a_moment_without_its_zone_is_refused(store: Store) -> None:
    with pytest.raises(StatementError, match="time zone"):
        async with store.session(OURS) as session:
            await session.change(update(ApiKey).values(last_used_at=datetime(2026, 11, 16)))  # noqa: DTZ001 - the point


@pytest.mark.postgresql
async def test_a_commit_is_on_the_disk_when_it_is_answered_whatever_the_server_does_otherwise(store: Store) -> None:
    async with store.unbound_reading() as session:
        assert (await session.execute(text("SHOW synchronous_commit"))).scalar_one() == "on"
