"""Engines and sessions. One Store a process; transactions are short and never span a network call.

SQLite: write-ahead log, every commit reaches the disk (synchronous FULL), foreign keys on, writers start with
BEGIN IMMEDIATE and take turns on one connection, readers have their own, which cannot write (query_only).
"""

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from sqlalchemy import Connection, column, event, make_url, select, table
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from mpesa_mcp.errors import InternalFault
from mpesa_mcp.store.tenancy import BoundSession, OrganizationSession, PlatformSession
from mpesa_mcp.store.wakeups import Wakeups

_BUSY_TIMEOUT_MS = 10_000
_READERS = 4


class StoreUnavailable(InternalFault):
    """The database cannot be reached, is locked, full or read-only. Nothing was changed by this request."""

    code = "store_unavailable"
    http_status = 503

    def __init__(self) -> None:
        super().__init__("The database is not available right now. Nothing was changed; try again in a moment.")


class Store:
    """The database of this process. Made by `open_store`, closed by `close`."""

    def __init__(self, writer: AsyncEngine, reader: AsyncEngine, wakeups: Wakeups) -> None:
        self._writer = writer
        self._reader = reader
        self.wakeups = wakeups

    @asynccontextmanager
    async def session(self, organization_id: str) -> AsyncIterator[OrganizationSession]:
        """One writing transaction of an organization; commits when the block ends, rolls back when it raises.

        Shielded from cancellation: a client that goes away does not tear a commit in two.
        """
        with anyio.CancelScope(shield=True), _spoken():
            async with self._open(self._writer, BoundSession, organization_id) as session, session.begin():
                bound = OrganizationSession(session, organization_id)
                yield bound
        self.wakeups.notify(bound.topics)

    @asynccontextmanager
    async def reading(self, organization_id: str) -> AsyncIterator[OrganizationSession]:
        """One read-only view of an organization; writing in it fails."""
        with _spoken():
            async with self._open(self._reader, BoundSession, organization_id) as session:
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
    async def unbound(self) -> AsyncIterator[AsyncSession]:
        """One writing transaction across organizations: for `store.crossings` alone, which a test checks."""
        with anyio.CancelScope(shield=True), _spoken():
            async with AsyncSession(self._writer, expire_on_commit=False) as session, session.begin():
                yield session

    @asynccontextmanager
    async def unbound_reading(self) -> AsyncIterator[AsyncSession]:
        """One view across organizations: for `store.crossings` alone."""
        with _spoken():
            async with AsyncSession(self._reader, expire_on_commit=False) as session:
                yield session

    async def revision(self) -> str | None:
        """The migration the database is at. Raises StoreUnavailable."""
        version = table("alembic_version", column("version_num"))
        with _spoken():
            async with self._reader.connect() as connection:
                found: str | None = (await connection.execute(select(version.c.version_num))).scalars().first()
        return found

    async def close(self) -> None:
        await self.wakeups.close()
        await self._writer.dispose()
        if self._reader is not self._writer:
            await self._reader.dispose()

    def _open(self, engine: AsyncEngine, kind: type[BoundSession], organization_id: str) -> AsyncSession:
        return AsyncSession(
            engine, sync_session_class=kind, expire_on_commit=False, info={"organization_id": organization_id}
        )


class _spoken:  # noqa: N801 - reads as a word at its uses
    """Turns a database that is away into StoreUnavailable; every other error passes."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(
            error, OperationalError | sqlite3.OperationalError | PoolTimeout | ConnectionError | TimeoutError
        ):
            raise StoreUnavailable from error


def open_store(url: str) -> Store:
    """Opens the database at `url` (SQLAlchemy form). Tables must be there: see `store.migrate`."""
    if make_url(url).get_backend_name() == "sqlite":
        path = Path(make_url(url).database or "")
        create_private_file(path)
        writer = _sqlite_engine(url, begin="BEGIN IMMEDIATE", connections=1)
        reader = _sqlite_engine(url, begin="BEGIN", connections=_READERS, query_only=True)
        return Store(writer, reader, Wakeups.of_sqlite(path))
    engine = create_async_engine(url, pool_pre_ping=True)
    return Store(engine, engine, Wakeups())


def _sqlite_engine(url: str, *, begin: str, connections: int, query_only: bool = False) -> AsyncEngine:
    engine = create_async_engine(url, pool_size=connections, max_overflow=0, pool_timeout=30)

    @event.listens_for(engine.sync_engine, "connect")
    def _set_up(connection: DBAPIConnection, _record: Any) -> None:
        # Transactions begin where we say, not where the driver guesses.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={_BUSY_TIMEOUT_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"query_only={'ON' if query_only else 'OFF'}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def create_private_file(path: Path) -> None:
    """Makes the database file readable by its owner alone before anything is in it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
