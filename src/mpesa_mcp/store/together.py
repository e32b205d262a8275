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

_MOST = 64


class Together:
    """The rounds of one process."""

    def __init__(self, *, alone: bool) -> None:
        """`alone`: nothing is done together."""
        self._alone = alone
        self._waiting: dict[Hashable, list[tuple[Any, asyncio.Future[Any]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, about: Hashable, work: Work[Asked, Answer], asked: Asked) -> Answer:
        """What `work` answers for `asked`, in the same order; `work` is the same for everybody who asks `about` this.

        A round that fails is done again, one by one: what is wrong with one is no other's fault. Whoever is cancelled
        meanwhile is not heard of, and what he asked for is done.
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
        try:
            while members := self._waiting[about][:_MOST]:
                del self._waiting[about][:_MOST]
                await _round(work, members)
        finally:
            for _, future in self._waiting.pop(about):  # only when the program stops in the middle
                future.cancel()


async def _round(work: Work[Any, Any], members: Sequence[tuple[Any, asyncio.Future[Any]]]) -> None:
    try:
        answers = await work([asked for asked, _ in members])
    except asyncio.CancelledError:
        for _, future in members:
            future.cancel()
        raise
    except Exception as fault:
        # A database that is away is so for everybody.
        if isinstance(fault, StoreUnavailable):
            for _, future in members:
                _tell(future, fault)
            return
        if len(members) > 1:
            for member in members:
                await _round(work, [member])
            return
        [(_, future)] = members
        _tell(future, fault)
        return
    for (_, future), answer in zip(members, answers, strict=True):
        if not future.done():
            future.set_result(answer)


def _tell(future: asyncio.Future[Any], fault: Exception) -> None:
    if not future.done():
        future.set_exception(fault)
