"""Wake-ups: an optimisation over the slow poll, never a promise.

A topic is the name of a queue or the id of a row. A session that commits wakes the topics it touched, in this process
at once. Commits of other processes: on PostgreSQL each says its topics by NOTIFY; on SQLite they are noticed by reading
`PRAGMA data_version` (a number that changes with every commit of another connection) a few times a second, and wake
everybody. That number changes with our own commits too: while this process commits, it says nothing about the others,
and whoever waits looks again by itself.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import structlog
from sqlalchemy import URL

log = structlog.get_logger(__name__)

CHANNEL = "mpesa_mcp"
# The slow poll: how often whoever works on a queue looks by itself.
POLL_SECONDS = 1.0
_WATCH_SECONDS = 0.2
_RECONNECT_SECONDS = 1.0
# How often the listening connection is asked whether it still lives: a silent network would never tell.
_HEARTBEAT_SECONDS = 10.0

Watch = Callable[["Wakeups"], Awaitable[None]]


class Wakeups:
    """Waiting for "something was committed that may concern you". `watch` brings what other processes commit."""

    def __init__(self, watch: Watch | None = None) -> None:
        self._events: dict[str, asyncio.Event] = {}
        self._watch = watch
        self._watching: asyncio.Task[None] | None = None
        self.committed_here = False

    def notify(self, topics: Iterable[str]) -> None:
        """Wakes whoever waits for one of these; call after the commit."""
        self.committed_here = True
        for topic in topics:
            if event := self._events.pop(topic, None):
                event.set()

    def notify_all(self) -> None:
        """Wakes everybody: something was committed, and nobody knows what."""
        self.notify(list(self._events))

    def token(self, topic: str) -> asyncio.Event:
        """Take it BEFORE looking at the rows, then wait on it: a commit in between is not missed."""
        self._start_watching()
        return self._events.setdefault(topic, asyncio.Event())

    async def wait(self, token: asyncio.Event, timeout_seconds: float) -> None:
        """Returns at the next commit that touches the token's topic, or after the timeout."""
        with anyio.move_on_after(timeout_seconds):
            await token.wait()

    def forget(self, topic: str) -> None:
        """Lets go of a topic that is of no use any more; should somebody wait for it all the same, they look again."""
        if event := self._events.pop(topic, None):
            event.set()

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None

    def _start_watching(self) -> None:
        if self._watch is not None and (self._watching is None or self._watching.done()):
            self._watching = asyncio.get_running_loop().create_task(_run(self._watch, self))


async def _run(watch: Watch, wakeups: Wakeups) -> None:
    await watch(wakeups)


def watch_sqlite(path: Path) -> Watch:
    """Watches the file for commits of other processes."""

    async def watch(wakeups: Wakeups) -> None:
        # The pragma reads one page of shared memory (microseconds), so it runs on the loop.
        connection = _connected(path)
        if connection is None:
            return  # begun again by whoever waits next
        try:
            seen = _data_version(connection)
            while True:
                await asyncio.sleep(_WATCH_SECONDS)
                now = _data_version(connection)
                ours, wakeups.committed_here = wakeups.committed_here, False
                if now != seen and not ours:
                    wakeups.notify_all()
                    wakeups.committed_here = False
                seen = now
        finally:
            connection.close()

    return watch


def watch_postgresql(url: URL) -> Watch:
    """Listens on a connection of its own; while it is away, the slow poll finds what nobody told of."""
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)

    async def watch(wakeups: Wakeups) -> None:
        import asyncpg

        def heard(_connection: Any, _pid: int, _channel: str, payload: str) -> None:
            wakeups.notify(payload.split())

        while True:
            try:
                connection = await asyncpg.connect(address, timeout=_RECONNECT_SECONDS * 5)
                try:
                    await connection.add_listener(CHANNEL, heard)
                    wakeups.notify_all()  # what was said while nobody listened
                    while True:
                        await asyncio.sleep(_HEARTBEAT_SECONDS)
                        await connection.fetchval("SELECT 1", timeout=_RECONNECT_SECONDS * 5)
                finally:
                    connection.terminate()
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as gone:
                log.warning("not_listening", error=type(gone).__name__)
                await asyncio.sleep(_RECONNECT_SECONDS)

    return watch


def _connected(path: Path) -> sqlite3.Connection | None:
    """A connection, unless the file is gone; it is not made here."""
    try:
        return sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None, timeout=0)
    except sqlite3.Error:
        return None


def _data_version(connection: sqlite3.Connection) -> int:
    try:
        return int(connection.execute("PRAGMA data_version").fetchone()[0])
    except sqlite3.DatabaseError:
        return -1  # locked for a moment, or damaged: counts as a change, which costs one look
