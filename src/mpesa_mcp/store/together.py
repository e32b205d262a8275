"""What several ask for at the same moment about one thing is done together, in one transaction.

No timer: a lone request is done at once, and those that come meanwhile are the next round. SQLite has one writer, and
a transaction costs it as much as a dozen statements; PostgreSQL has many, and there everybody does his own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, TypeVar

from mpesa_mcp.store.unavailable import StoreUnavailable

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
Work = Callable[[Sequence[Asked]], Awaitable[Sequence[Answer]]]

_Member = tuple[Any, asyncio.Future[Any]]
_MOST = 64


class Together:
    """The rounds of one process."""

    def __init__(self, *, alone: bool) -> None:
        """`alone`: nothing is done together."""
        self._alone = alone
        self._waiting: dict[Hashable, list[_Member]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, about: Hashable, work: Work[Asked, Answer], asked: Asked) -> Answer:
        """What `work` answers for `asked`, in the same order; `work` is the same for everybody who asks `about` this.

        A round that fails is done again, one by one: what is wrong with one is no other's fault. Whoever is cancelled
        meanwhile is not heard of, and what he asked for is done. `work` runs in the
        circumstances of who began the round.
        """
        if self._alone:
            [answer] = await work([asked])
            return answer
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if about in self._waiting:
            self._waiting[about].append((asked, future))
        else:
            self._waiting[about] = [(asked, future)]
            task = asyncio.get_running_loop().create_task(self._serve(about, work))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _serve(self, about: Hashable, work: Work[Any, Any]) -> None:
        members: Sequence[_Member] = ()
        try:
            while members := self._waiting[about][:_MOST]:
                del self._waiting[about][:_MOST]
                await _round(work, members)
        finally:
            for _, future in (*members, *self._waiting.pop(about)):  # only when the program stops in the middle
                future.cancel()


async def _round(work: Work[Any, Any], members: Sequence[_Member]) -> None:
    try:
        answers = await work([asked for asked, _ in members])
    except Exception as fault:
        # A database that is away is so for everybody.
        if len(members) > 1 and not isinstance(fault, StoreUnavailable):
            for member in members:
                await _round(work, [member])
            return
        answers = [fault] * len(members)
    for number, (_, future) in enumerate(members):
        # Too few answers are a fault of ours: what was done is not done again, and nobody waits for ever.
        answer = answers[number] if number < len(answers) else RuntimeError("a round gave too few answers")
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
