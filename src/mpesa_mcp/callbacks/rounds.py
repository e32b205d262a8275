"""Rounds: what waits at one moment is done together, and what comes meanwhile is the next round.

No timer: a lone request starts a round at once. Nobody hears of a round before it has ended, and one that fails fails
for all its members. How much may wait is bounded, and so is how long.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from mpesa_mcp.errors import InternalFault

log = structlog.get_logger(__name__)

# A round that hangs longer than this many patiences, on a network that swallows everything, makes way for the next.
_GIVEN_UP_AFTER = 4

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class NotServed(InternalFault):
    """The round failed, took too long, or too many were waiting. Whether it was done is not known."""

    code = "not_served"
    http_status = 503

    def __init__(self) -> None:
        super().__init__("This cannot be done right now; try again in a moment.")


@dataclass(slots=True)
class _Member(Generic[Asked, Answer]):
    """One who waits; `until` is the moment of the loop's clock at which it stops waiting."""

    asked: Asked
    answer: asyncio.Future[Answer]
    until: float


class Rounds(Generic[Asked, Answer]):
    """Serves many at once through `work`, which gives one answer for each that it was given, in the same order.

    A round takes at most `most` of them, and closes earlier when it weighs `heaviest`; beyond `most_waiting` nobody may
    wait, and nobody waits longer than `patience_seconds`.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer]]],
        *,
        most: int,
        most_waiting: int,
        patience_seconds: float,
        weight: Callable[[Asked], int] = lambda _asked: 0,
        heaviest: int = 1,
    ) -> None:
        self._work = work
        self._most = most
        self._most_waiting = most_waiting
        self._patience_seconds = patience_seconds
        self._weight = weight
        self._heaviest = heaviest
        self._waiting: deque[_Member[Asked, Answer]] = deque()
        self._members: Sequence[_Member[Asked, Answer]] = ()
        self._task: asyncio.Task[None] | None = None

    async def ask(self, asked: Asked) -> Answer:
        """The answer of the round this was in. Raises NotServed.

        Whoever stops waiting is left out if the round has not begun; otherwise it is done and nobody hears of it.
        """
        if len(self._waiting) >= self._most_waiting:
            log.warning("too_many_waiting", waiting=len(self._waiting))
            raise NotServed
        loop = asyncio.get_running_loop()
        member: _Member[Asked, Answer] = _Member(asked, loop.create_future(), loop.time() + self._patience_seconds)
        self._waiting.append(member)
        if self._task is None:
            self._task = loop.create_task(self._serve())
        return await member.answer

    async def _serve(self) -> None:
        """One round after the other, until nobody waits."""
        watch = asyncio.get_running_loop().create_task(self._watch())
        try:
            while members := self._next():
                self._members = members
                await self._round(members)
        finally:
            watch.cancel()
            self._task = None
            for member in self._waiting:  # only when the program stops in the middle
                member.answer.cancel()
            self._waiting.clear()

    async def _watch(self) -> None:
        """Tells those whose patience is over. One clock for all: a timer for each would cost more than its wait."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._patience_seconds / 10)
            now = loop.time()
            for member in (*self._members, *self._waiting):
                if member.until <= now and not member.answer.done():
                    member.answer.set_exception(NotServed())

    def _next(self) -> list["_Member[Asked, Answer]"]:
        members: list[_Member[Asked, Answer]] = []
        weight = 0
        while self._waiting and len(members) < self._most and weight < self._heaviest:
            member = self._waiting.popleft()
            if not member.answer.done():
                members.append(member)
                weight += self._weight(member.asked)
        return members

    async def _round(self, members: Sequence["_Member[Asked, Answer]"]) -> None:
        answers: Sequence[Answer] = ()
        try:
            async with asyncio.timeout(_GIVEN_UP_AFTER * self._patience_seconds):
                answers = await self._work([member.asked for member in members])
        except Exception:
            # Like a worker's loop: whatever went wrong, its members are told, and the next round is begun.
            log.exception("round_failed", members=len(members))
        finally:
            for number, member in enumerate(members):
                if member.answer.done():
                    continue
                if len(answers) == len(members):
                    member.answer.set_result(answers[number])
                else:
                    member.answer.set_exception(NotServed())
