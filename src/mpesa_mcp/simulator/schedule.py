"""What a simulator will do later: callbacks and decisions, all cancelled when it stops or is reset."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import structlog
from anyio.abc import TaskGroup

log = structlog.get_logger(__name__)


class Schedule:
    def __init__(self) -> None:
        self._group: TaskGroup | None = None
        self._scopes: set[anyio.CancelScope] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            self._group = group
            try:
                yield
            finally:
                self._group = None
                group.cancel_scope.cancel()

    def start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Begins the work beside the request that asked for it."""
        if self._group is None:
            raise RuntimeError("the simulator has not been started (its lifespan did not run)")
        scope = anyio.CancelScope()
        self._scopes.add(scope)
        self._group.start_soon(self._run, work, scope)

    def cancel_all(self) -> None:
        for scope in self._scopes:
            scope.cancel()

    async def _run(self, work: Callable[[], Awaitable[None]], scope: anyio.CancelScope) -> None:
        try:
            with scope:
                await work()
        except Exception:
            # One broken story must not end the task group, and with it every other callback.
            log.exception("simulator.scheduled_work_failed")
        finally:
            self._scopes.discard(scope)


async def pause(seconds: float) -> None:
    """Waits within scheduled work; returns only if the work still counts, so that money may move next.

    Work that is cancelled in the very turn of the loop in which it wakes would otherwise go on to its next wait,
    and pay into the books of the simulator that has just been reset.
    """
    await anyio.sleep(seconds)
    await anyio.lowlevel.checkpoint_if_cancelled()
