"""SQLite's driver for SQLAlchemy with one visit to the connection's thread for a statement, where aiosqlite makes four.

A visit costs as much as a small statement. A cursor is made, executed and read in one, and a transaction begins in the
visit of its first statement: whoever asks nothing visits nobody.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import aiosqlite

Value = TypeVar("Value")

# How long somebody waits for the turn to write of other processes before the database counts as away.
_PATIENCE_SECONDS = 4.0


def begin_writing(connection: sqlite3.Connection) -> None:
    """Begins a transaction that writes, as soon as no other process does. Raises OperationalError in the end.

    SQLite's own waiting sleeps longer each time, up to a tenth of a second, and whoever has just written begins again
    meanwhile: with two busy processes one would hardly come to write. So a writer's connection is to wait a millisecond
    at most (`busy_timeout`), and tries again here.
    """
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as refused:
            # Its lowest byte says what kind it is: one that waits for another's recovery is busy, too.
            if refused.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        else:
            return


def begin_reading(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")


class VisitedConnection(aiosqlite.Connection):
    """What SQLAlchemy's adapter for aiosqlite needs of a connection; how every transaction begins is `begin`.

    The file at `path` is not made anew when it is gone: an empty one in its place would keep the true one from coming
    back.
    """

    def __init__(self, path: Path, *, begin: Callable[[sqlite3.Connection], None]) -> None:
        super().__init__(lambda: sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True), iter_chunk_size=64)
        self._thread.daemon = True  # as SQLAlchemy has it
        self._begin = begin
        self._is_to_begin = self._has_begun = False

    def begin(self) -> None:
        """The next visit begins a transaction."""
        self._is_to_begin = True

    async def visit(self, work: Callable[[sqlite3.Connection], Value]) -> Value:
        begins, self._is_to_begin = self._is_to_begin, False
        self._has_begun |= begins

        def visited(connection: sqlite3.Connection) -> Value:
            if begins:
                self._begin(connection)
            return work(connection)

        done: Value = await self._execute(visited, self._conn)  # type: ignore[no-untyped-call] # it has no types
        return done

    def cursor(self) -> "_Cursor":  # type: ignore[override] # the adapter enters it, and enters aiosqlite's as well
        return _Cursor(self)

    async def commit(self) -> None:
        if self._ends():
            await super().commit()

    async def rollback(self) -> None:
        if self._ends():
            await super().rollback()

    def _ends(self) -> bool:
        """Whether there is a transaction to be ended: it began with its first statement, or was never to begin."""
        begun, self._is_to_begin, self._has_begun = self._has_begun, False, False
        return begun


class _Cursor:
    """One statement and everything it gave."""

    def __init__(self, connection: VisitedConnection) -> None:
        self._connection = connection
        self._rows: Sequence[Any] = ()
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> "_Cursor":
        return self

    async def execute(self, sql: str, parameters: Iterable[Any] = ()) -> None:
        await self._run(lambda cursor: cursor.execute(sql, parameters))  # type: ignore[arg-type] # any iterable does

    async def executemany(self, sql: str, parameters: Iterable[Iterable[Any]]) -> None:
        await self._run(lambda cursor: cursor.executemany(sql, parameters))  # type: ignore[arg-type] # as above

    async def fetchall(self) -> Sequence[Any]:
        return self._rows

    async def close(self) -> None:
        """It was closed in its visit."""

    async def _run(self, statement: Callable[[sqlite3.Cursor], object]) -> None:
        def visited(connection: sqlite3.Connection) -> None:
            cursor = connection.cursor()
            try:
                statement(cursor)
                self.description = cursor.description
                self._rows = cursor.fetchall() if cursor.description else ()
                self.rowcount, self.lastrowid = cursor.rowcount, cursor.lastrowid
            finally:
                cursor.close()

        await self._connection.visit(visited)
