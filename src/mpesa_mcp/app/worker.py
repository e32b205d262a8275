"""The worker: dispatch, inbox and reconciliation over rows that are due. Any number of processes may run one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import structlog

from mpesa_mcp.callbacks.inbox import apply_callback, claim_stored
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.dispatch import claim_queued, send_payment
from mpesa_mcp.payments.inquiries import (
    claim_queued_inquiries,
    claim_stale_inquiries,
    expire_inquiry,
    send_inquiry,
)
from mpesa_mcp.payments.reconciliation import ask_about, claim_silent
from mpesa_mcp.store.crossings import Claim, DueTable, next_due
from mpesa_mcp.store.engine import StoreUnavailable

log = structlog.get_logger(__name__)

Claiming = Callable[[Core, int], Awaitable[Sequence[Claim]]]
Doing = Callable[[Core, Claim], Awaitable[None]]

# What a worker does: how it finds its rows, what it does with one, and how many at a time.
_WORK: tuple[tuple[DueTable, Claiming, Doing, int], ...] = (
    (DueTable.CALLBACKS, claim_stored, apply_callback, 8),
    (DueTable.PAYMENTS, claim_queued, send_payment, 32),
    (DueTable.PAYMENTS, claim_silent, ask_about, 16),
    (DueTable.INQUIRIES, claim_queued_inquiries, send_inquiry, 16),
    (DueTable.INQUIRIES, claim_stale_inquiries, expire_inquiry, 8),
)
_POLL_SECONDS = 1.0
_AFTER_A_FAULT_SECONDS = 1.0
# How long calls under way may finish when a process stops.
_GRACE_SECONDS = 10.0


@asynccontextmanager
async def working(core: Core) -> AsyncIterator[None]:
    """Runs the worker beside the block. When the block ends nothing new is taken, and what is under way may finish.

    What does not finish in time is left to its lease: it is asked about later, never sent again.
    """
    stopping = asyncio.Event()
    task = asyncio.get_running_loop().create_task(work(core, stopping))
    try:
        yield
    finally:
        stopping.set()
        core.store.wakeups.notify(DueTable)
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(_GRACE_SECONDS):
                await asyncio.wait([task])
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def work(core: Core, stopping: asyncio.Event) -> None:
    """Dispatch, inbox and reconciliation, until `stopping` is set. Any number of processes may do this at once."""
    async with anyio.create_task_group() as group:
        for queue, claim, do, at_once in _WORK:
            group.start_soon(_keep_doing, core, stopping, queue, claim, do, at_once)


async def _keep_doing(
    core: Core, stopping: asyncio.Event, queue: DueTable, claim: Claiming, do: Doing, at_once: int
) -> None:
    """Takes due rows and works on up to `at_once` of them; sleeps until a commit or the slow poll."""
    free = anyio.Semaphore(at_once)

    async def one(item: Claim) -> None:
        try:
            await do(core, item)
        except Exception:
            # The row keeps its lease and comes up again; one bad row does not stop the others.
            log.exception("work_failed", queue=queue, row=item.id)
        finally:
            free.release()

    async with anyio.create_task_group() as group:
        while not stopping.is_set():
            async with free:
                token = core.store.wakeups.token(queue)
            if stopping.is_set():
                return
            try:
                taken = await claim(core, free.value)
            except Exception:
                log.exception("claim_failed", queue=queue)
                await anyio.sleep(_AFTER_A_FAULT_SECONDS)
                continue
            for item in taken:
                await free.acquire()
                group.start_soon(one, item)
            if not taken:
                await core.store.wakeups.wait(token, await _idle_seconds(core, queue))


async def _idle_seconds(core: Core, queue: DueTable) -> float:
    """Until the next row is due, and at most until the slow poll, which finds what nobody told of."""
    now = core.clock.now()
    try:
        due_at = await next_due(core.store, queue, after=now)
    except StoreUnavailable:
        return _POLL_SECONDS
    return min(_POLL_SECONDS, (due_at - now).total_seconds()) if due_at else _POLL_SECONDS
