"""How a process is made to die at a point: from outside, by wrapping what commits and what sends.

Before a commit means: all its statements have run, and it is not committed. After a call means: the answer has come,
and nobody has seen it.
"""

import os
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from types import FrameType
from typing import Any

from mpesa_mcp.daraja import client, credential
from mpesa_mcp.daraja.transport import exchange
from mpesa_mcp.store.engine import Store

from .places import points_on

_in_one_visit = Store.in_one_visit
_sessions = {name: getattr(Store, name) for name in ("session", "platform", "unbound")}


class Side(StrEnum):
    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True)
class Death:
    """The `nth` time that the process comes to this side of this point it is killed."""

    point: str
    side: Side
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.side} {self.point}" + (f" ({self.nth})" if self.nth > 1 else "")


class Reaper:
    """Counts the points a process passes, and kills it at one of them. What `last_words` gives it says on `told`."""

    def __init__(self, told: int, last_words: Callable[[Death], str]) -> None:
        self._told = told
        self._last_words = last_words
        self._death: Death | None = None
        self._passed: Counter[tuple[str, Side]] = Counter()
        self.exchanges = 0

    def arm(self, death: Death | None) -> None:
        self._death = death
        self._passed.clear()

    def pass_by(self, points: Sequence[str], side: Side) -> None:
        for point in points:
            self._passed[point, side] += 1
            if self._death == (death := Death(point, side, self._passed[point, side])):
                os.write(self._told, self._last_words(death).encode())
                os.kill(os.getpid(), signal.SIGKILL)

    def attach(self) -> None:
        """Wraps the store's transactions and the client's exchanges of this process."""
        for name, opened in _sessions.items():
            setattr(Store, name, self._committing(opened, only_if_rows=name == "unbound"))
        setattr(Store, "in_one_visit", self._visiting())  # noqa: B010
        for module in (client, credential):
            setattr(module, "exchange", self._exchanging())  # noqa: B010

    def _committing(self, opened: Callable[..., AbstractAsyncContextManager[Any]], *, only_if_rows: bool) -> Any:
        def commits(*arguments: Any) -> AbstractAsyncContextManager[Any]:
            return within(opened(*arguments), _here())

        @asynccontextmanager
        async def within(transaction: AbstractAsyncContextManager[Any], points: Sequence[str]) -> AsyncIterator[Any]:
            async with transaction as session:
                crossing = _Crossing(session)
                yield crossing if only_if_rows else session
                # A crossing that took or stored nothing is not worth dying at.
                counts = crossing.has_rows or not only_if_rows
                if counts:
                    self.pass_by(points, Side.BEFORE)
            if counts:
                self.pass_by(points, Side.AFTER)

        return commits

    def _visiting(self) -> Any:
        async def visits(store: Store, work: Callable[[Any], Any], *, writing: bool) -> Any:
            if not writing:
                return await _in_one_visit(store, work, writing=False)
            points = _here()

            def watched(connection: sqlite3.Connection) -> Any:
                return work(_Visited(connection, lambda: self.pass_by(points, Side.BEFORE)))

            done = await _in_one_visit(store, watched, writing=True)
            self.pass_by(points, Side.AFTER)
            return done

        return visits

    def _exchanging(self) -> Any:
        async def exchanges(*arguments: Any, **more: Any) -> Any:
            points = _here()
            self.exchanges += 1
            self.pass_by(points, Side.BEFORE)
            reply = await exchange(*arguments, **more)
            self.pass_by(points, Side.AFTER)
            return reply

        return exchanges


def _here() -> Sequence[str]:
    """The points that whoever called one of the wrappers is at; for a commit only its own."""
    wrapper = sys._getframe(1)
    frame: FrameType | None = wrapper.f_back
    points = list(dict.fromkeys(points_on(frame)))
    return points if wrapper.f_code.co_name == "exchanges" else points[:1]


class _Crossing:
    """A session across organizations that knows whether its statement gave any rows."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.has_rows = False

    async def execute(self, statement: Any, *values: Any) -> Any:
        frozen = (await self._session.execute(statement, *values)).freeze()
        self.has_rows = self.has_rows or frozen().first() is not None
        return frozen()


class _Visited:
    """A connection of SQLite that says when it is about to commit."""

    def __init__(self, connection: sqlite3.Connection, before_commit: Callable[[], None]) -> None:
        self._connection = connection
        self._before_commit = before_commit

    def execute(self, statement: str, *values: Any) -> Any:
        if statement == "COMMIT":
            self._before_commit()
        return self._connection.execute(statement, *values)

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction
