"""Wake-ups: an optimisation over the slow poll, never a promise.

A topic is the name of a queue or the id of a row. A session that commits wakes the topics it touched, in this process
at once. On SQLite, commits of other processes are noticed by reading `PRAGMA data_version` (a number that changes with
every commit of another connection) a few times a second, and wake everybody. It changes with our own commits too: while
this process commits, it says nothing about the others, and whoever waits looks again by itself.
"""

import asyncio
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import anyio

_POLL_SECONDS = 0.2


class Wakeups:
    """Waiting for "something was committed that may concern you"."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}
        self._watch: asyncio.Task[None] | None = None
        self._path: Path | None = None
        self._committed_here = False

    @classmethod
    def of_sqlite(cls, path: Path) -> "Wakeups":
        wakeups = cls()
        wakeups._path = path
        return wakeups

    def notify(self, topics: Iterable[str]) -> None:
        """Wakes whoever waits for one of these; call after the commit."""
        self._committed_here = True
        for topic in topics:
            if event := self._events.pop(topic, None):
                event.set()

    def token(self, topic: str) -> asyncio.Event:
        """Take it BEFORE looking at the rows, then wait on it: a commit in between is not missed."""
        self._start_watching()
        return self._events.setdefault(topic, asyncio.Event())

    async def wait(self, token: asyncio.Event, timeout_seconds: float) -> None:
        """Returns at the next commit that touches the token's topic, or after the timeout."""
        with anyio.move_on_after(timeout_seconds):
            await token.wait()

    def forget(self, topic: str) -> None:
        """Nobody waits for this any more: what waits for rows lets go of their ids."""
        self._events.pop(topic, None)

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None

    def _start_watching(self) -> None:
        if self._path is not None and (self._watch is None or self._watch.done()):
            self._watch = asyncio.get_running_loop().create_task(self._watch_other_processes(self._path))

    async def _watch_other_processes(self, path: Path) -> None:
        # The pragma reads one page of shared memory (microseconds), so it runs on the loop.
        connection = sqlite3.connect(path, isolation_level=None, timeout=0)
        try:
            seen = _data_version(connection)
            while True:
                await asyncio.sleep(_POLL_SECONDS)
                now = _data_version(connection)
                ours, self._committed_here = self._committed_here, False
                if now != seen and not ours:
                    self.notify(list(self._events))
                    self._committed_here = False
                seen = now
        finally:
            connection.close()


def _data_version(connection: sqlite3.Connection) -> int:
    try:
        return int(connection.execute("PRAGMA data_version").fetchone()[0])
    except sqlite3.OperationalError:
        return -1  # locked for a moment: counts as a change, which costs one look
