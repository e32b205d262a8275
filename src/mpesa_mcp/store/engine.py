"""Engines and sessions. One Store a process; transactions are short and never span a network call.

SQLite: write-ahead log, every commit reaches the disk (synchronous FULL), foreign keys on, writers start with
BEGIN IMMEDIATE and take turns on one connection, readers have their own, which cannot write (query_only).
PostgreSQL: READ COMMITTED, so whoever decides from a row he reads takes `OrganizationSession.lock` first; each
transaction names its organization to row-level security.
"""

import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import anyio
from sqlalchemy import URL, Connection, column, event, func, make_url, select, table
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util.concurrency import greenlet_spawn

from mpesa_mcp.store.bound_session import BoundSession, PlatformSession
from mpesa_mcp.store.roles import CallbacksRole, DatabaseRole, callbacks_roles, connected_role, missing_rights
from mpesa_mcp.store.sqlite_driver import VisitedConnection, begin_reading, begin_writing
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.store.together import Together
from mpesa_mcp.store.unavailable import StoreUnavailable
from mpesa_mcp.store.unavailable import spoken_as_unavailable as _spoken
from mpesa_mcp.store.wakeups import Wakeups, watch_postgresql, watch_sqlite

__all__ = ["Store", "StoreUnavailable", "open_store"]

Value = TypeVar("Value")

# How long a reader waits for what he needs of the file, and a writer for his turn behind others of this process, before
# the database counts as away. For the turns of other processes see `begin_writing`.
_BUSY_TIMEOUT_MS = 4_000
_TURN_SECONDS = 6
_READERS = 4
# Pages of 4 KiB that the write-ahead log may hold before they are copied into the file: four times SQLite's own, since
# callbacks and batches change the same pages again and again.
_CHECKPOINT_PAGES = 4_000
_FILE = "file"
_NO_TRANSACTION = "no_transaction"
# Connections of one process to PostgreSQL. One that hangs is given up: a lock or a statement takes milliseconds here.
_POSTGRESQL_CONNECTIONS = 20
_POSTGRESQL_SETTINGS = {
    "application_name": "mpesa-mcp",
    # A commit is on the disk when it is answered, whatever the server's default: callbacks are acknowledged after it.
    "synchronous_commit": "on",
    "lock_timeout": "4s",
    "statement_timeout": "6s",
    "idle_in_transaction_session_timeout": "60s",
}
# How long a connection may lie in the pool and be taken for alive.
_UNASKED_SECONDS = 10
_LAIN_SINCE = "lain_since"
_CONNECT_SECONDS = 5
_ANSWER_SECONDS = 7


class Store:
    """The database of this process. Made by `open_store`, closed by `close`."""

    def __init__(self, writer: AsyncEngine, reader: AsyncEngine, wakeups: Wakeups) -> None:
        self._writer = writer
        self._reader = reader
        self._looker = reader.execution_options(**{_NO_TRANSACTION: True})
        self.wakeups = wakeups
        self.together = Together(alone=self.is_postgresql)

    @property
    def is_postgresql(self) -> bool:
        return self._writer.dialect.name == "postgresql"

    @asynccontextmanager
    async def session(self, organization_id: str) -> AsyncIterator[OrganizationSession]:
        """One writing transaction of an organization; commits when the block ends, rolls back when it raises.

        Shielded from cancellation: a client that goes away does not tear a commit in two.
        """
        with anyio.CancelScope(shield=True), _spoken():
            async with self._open(self._writer, BoundSession, organization_id) as session, session.begin():
                bound = OrganizationSession(session, organization_id)
                yield bound
                await bound.end()
        self.wakeups.notify(bound.topics | bound.topics_here)

    @asynccontextmanager
    async def reading(self, organization_id: str) -> AsyncIterator[OrganizationSession]:
        """One read-only view of an organization; writing in it fails."""
        with _spoken():
            async with self._open(self._reader, BoundSession, organization_id) as session:
                yield OrganizationSession(session, organization_id)

    @asynccontextmanager
    async def looking(self, organization_id: str) -> AsyncIterator[OrganizationSession]:
        """As `reading`, but each statement sees what is committed at its own moment, on SQLite too.

        There it is cheaper: nothing is to be begun and ended.
        """
        with _spoken():
            async with self._open(self._looker, BoundSession, organization_id) as session:
                yield OrganizationSession(session, organization_id)

    @asynccontextmanager
    async def platform(self) -> AsyncIterator[AsyncSession]:
        """One writing transaction on the installation's own tables (keys, tokens); no organization's table."""
        with anyio.CancelScope(shield=True), _spoken():
            async with (
                AsyncSession(self._writer, sync_session_class=PlatformSession, expire_on_commit=False) as session,
                session.begin(),
            ):
                yield session

    @asynccontextmanager
    async def platform_reading(self) -> AsyncIterator[AsyncSession]:
        """One read-only view of the installation's own tables."""
        with _spoken():
            async with AsyncSession(
                self._reader, sync_session_class=PlatformSession, expire_on_commit=False
            ) as session:
                yield session

    @asynccontextmanager
    async def unbound(self) -> AsyncIterator[AsyncConnection]:
        """One writing transaction across organizations: for `crossings` and `callback_log` alone; a test checks it."""
        with anyio.CancelScope(shield=True), _spoken():
            async with self._writer.begin() as connection:
                yield connection

    @asynccontextmanager
    async def unbound_reading(self) -> AsyncIterator[AsyncConnection]:
        """Views across organizations, one for each statement: for the same two."""
        with _spoken():
            async with self._looker.connect() as connection:
                yield connection

    async def in_one_visit(self, work: Callable[[sqlite3.Connection], Value], *, writing: bool) -> Value:
        """Runs whole SQLite transactions in one visit to a connection's thread: for `store.callback_log` alone.

        Each visit costs as much as a small statement; a session makes about ten.
        """
        pool = (self._writer if writing else self._reader).sync_engine.pool
        with anyio.CancelScope(shield=True), _spoken():
            lent = await greenlet_spawn(pool.connect)  # waits for its turn, as a session does
            try:
                driver = lent.driver_connection
                assert isinstance(driver, VisitedConnection)
                done = await driver.visit(work)
            finally:
                await greenlet_spawn(lent.close)
        return done

    async def revision(self) -> str | None:
        """The migration the database is at. Raises StoreUnavailable."""
        version = table("alembic_version", column("version_num"))
        with _spoken():
            async with self._reader.connect() as connection:
                found: str | None = (await connection.execute(select(version.c.version_num))).scalars().first()
        return found

    async def role(self) -> DatabaseRole | None:
        """Who this process is to PostgreSQL; None on SQLite, which has no roles. Raises StoreUnavailable."""
        if not self.is_postgresql:
            return None
        with _spoken():
            async with self._reader.connect() as connection:
                return await connection.run_sync(connected_role)

    async def missing_rights(self) -> Sequence[str]:
        """What this process may not do and must be able to; nothing on SQLite. Raises StoreUnavailable."""
        if not self.is_postgresql:
            return []
        with _spoken():
            async with self._reader.connect() as connection:
                return await connection.run_sync(missing_rights)

    async def callbacks_roles(self) -> Sequence[CallbacksRole]:
        """The roles that `callbacks` may have, by what they were granted; none on SQLite. Raises StoreUnavailable."""
        if not self.is_postgresql:
            return []
        with _spoken():
            async with self._reader.connect() as connection:
                return await connection.run_sync(callbacks_roles)

    async def now(self) -> datetime | None:
        """PostgreSQL's own time; None on SQLite, which has this machine's. Raises StoreUnavailable."""
        if not self.is_postgresql:
            return None
        with _spoken():
            async with self._reader.connect() as connection:
                at: datetime = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
        return at

    async def close(self) -> None:
        await self.wakeups.close()
        await self._writer.dispose()
        if self._reader is not self._writer:
            await self._reader.dispose()

    def _open(self, engine: AsyncEngine, kind: type[BoundSession], organization_id: str) -> AsyncSession:
        return AsyncSession(
            engine, sync_session_class=kind, expire_on_commit=False, info={"organization_id": organization_id}
        )


def open_store(url: str) -> Store:
    """Opens the database at `url` (SQLAlchemy form). Tables must be there: see `store.migrate`."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(parsed.database or "")
        create_private_file(path)
        writer = _sqlite_engine(path, begin=begin_writing, connections=1)
        reader = _sqlite_engine(path, begin=begin_reading, connections=_READERS, query_only=True)
        return Store(writer, reader, Wakeups(watch_sqlite(path)))
    writer = _postgresql_engine(parsed)
    # The same connections, but what is read through it cannot write.
    reader = writer.execution_options(postgresql_readonly=True)
    return Store(writer, reader, Wakeups(watch_postgresql(parsed)))


def _postgresql_engine(url: URL) -> AsyncEngine:
    engine = create_async_engine(
        url,
        # An error that is logged says no values: they may be addresses and hashes.
        hide_parameters=True,
        pool_size=_POSTGRESQL_CONNECTIONS,
        max_overflow=0,
        pool_timeout=8,
        connect_args={
            "timeout": _CONNECT_SECONDS,
            # Of a server that hangs, or a network that swallows everything, nobody else would ever tell.
            "command_timeout": _ANSWER_SECONDS,
            "server_settings": _POSTGRESQL_SETTINGS,
        },
    )

    @event.listens_for(engine.sync_engine, "checkin")
    def _lies_from_now(_connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info[_LAIN_SINCE] = time.monotonic()

    @event.listens_for(engine.sync_engine, "checkout")
    def _still_there(connection: DBAPIConnection, record: ConnectionPoolEntry, _lent: object) -> None:
        # A connection that died while it lay in the pool costs a look, not a request. Of a server that closed it the
        # driver has heard; of a network that forgot it only a question tells, which would be too dear each time.
        if connection.driver_connection.is_closed():
            raise DisconnectionError("the server closed this connection")
        if time.monotonic() - record.info.get(_LAIN_SINCE, time.monotonic()) > _UNASKED_SECONDS:
            try:
                engine.dialect.do_ping(connection)
            except Exception as away:
                raise DisconnectionError("the server does not answer on this connection") from away

    return engine


def _sqlite_engine(
    path: Path, *, begin: Callable[[sqlite3.Connection], None], connections: int, query_only: bool = False
) -> AsyncEngine:
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{path}",
        connect_args={"async_creator_fn": lambda *_, **__: VisitedConnection(path, begin=begin)},
        hide_parameters=True,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=_TURN_SECONDS,
        # Whoever begins a transaction ends it; another rollback would be one more visit to the connection's thread.
        pool_reset_on_return=None,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _set_up(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info[_FILE] = _identity(path)
        # Transactions begin where we say, not where the driver guesses.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={_BUSY_TIMEOUT_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            f"wal_autocheckpoint={_CHECKPOINT_PAGES}",
            "foreign_keys=ON",
            f"query_only={'ON' if query_only else 'OFF'}",
            f"busy_timeout={_BUSY_TIMEOUT_MS if query_only else 1}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "checkout")
    def _same_file(_connection: DBAPIConnection, record: ConnectionPoolEntry, _lent: object) -> None:
        # A connection goes on writing into a file that was moved, deleted or replaced; what it stores there is lost.
        if record.info[_FILE] != _identity(path):
            raise DisconnectionError("the database file is another one")

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get(_NO_TRANSACTION):
            return
        driver = connection.connection.driver_connection
        assert isinstance(driver, VisitedConnection)
        driver.begin()

    return engine


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file this is, whatever it is called; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def create_private_file(path: Path) -> None:
    """Makes the database file readable by its owner alone before anything is in it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
