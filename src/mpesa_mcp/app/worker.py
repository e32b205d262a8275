"""The worker: dispatch, inbox, reconciliation and feeder over rows that are due, the sealer of the audit, and a chore.

Any number of processes may run one.
"""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import structlog

from mpesa_mcp.app.chores import keep_tidy
from mpesa_mcp.app.sealer import keep_sealing
from mpesa_mcp.audit.models import TOPIC as AUDIT
from mpesa_mcp.callbacks.inbox import apply_callback, claim_stored
from mpesa_mcp.payments.approving import claim_unapproved, expire_unapproved
from mpesa_mcp.payments.batches.feeder import claim_batches, feed_batch
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.dispatch import claim_queued, send_payment
from mpesa_mcp.payments.inquiry_dispatch import (
    claim_queued_inquiries,
    claim_stale_inquiries,
    expire_inquiry,
    send_inquiry,
)
from mpesa_mcp.payments.reconciliation import ask_about, claim_silent
from mpesa_mcp.payments.schedule import TO_BE_ASKED_ABOUT
from mpesa_mcp.store.crossings import Claim, DueTable, next_due
from mpesa_mcp.store.engine import StoreUnavailable
from mpesa_mcp.store.wakeups import POLL_SECONDS

log = structlog.get_logger(__name__)

Claiming = Callable[[Core, int, Collection[str]], Awaitable[Sequence[Claim]]]
Doing = Callable[[Core, Claim], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Work:
    """How rows are found, what is done with one, and how many at a time; `wakes` says that there are some.

    An organization that has its share of them is passed over, so that its thousand do not delay another's one. What one
    look takes is a share at most: an organization can have two.
    """

    queue: DueTable
    claim: Claiming
    do: Doing
    at_once: int
    share: int
    wakes: str = ""

    @property
    def topic(self) -> str:
        """The wake-up that says that there is something to do."""
        return self.wakes or self.queue


# What no commit makes due is looked for with the slow poll.
_TIME_ALONE = "time alone"
# Sends wait for Safaricom, a minute at worst: so many organizations' must be slow before another's waits.
_WORK = (
    _Work(DueTable.CALLBACKS, claim_stored, apply_callback, at_once=128, share=64),
    _Work(DueTable.PAYMENTS, claim_queued, send_payment, at_once=512, share=64),
    _Work(DueTable.PAYMENTS, claim_unapproved, expire_unapproved, at_once=8, share=4, wakes=_TIME_ALONE),
    _Work(DueTable.PAYMENTS, claim_silent, ask_about, at_once=128, share=16, wakes=TO_BE_ASKED_ABOUT),
    _Work(DueTable.BATCHES, claim_batches, feed_batch, at_once=4, share=2),
    _Work(DueTable.INQUIRIES, claim_queued_inquiries, send_inquiry, at_once=128, share=16),
    _Work(DueTable.INQUIRIES, claim_stale_inquiries, expire_inquiry, at_once=8, share=4),
)
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
    task.add_done_callback(_tell_if_it_died)
    try:
        yield
    finally:
        stopping.set()
        core.store.wakeups.notify([AUDIT, *(kind.topic for kind in _WORK)])
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(_GRACE_SECONDS):
                await asyncio.wait([task])
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _tell_if_it_died(task: asyncio.Task[None]) -> None:
    """A server without its worker would take payments and send none: better it stops, and is started again."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("worker_died", exc_info=error)
        signal.raise_signal(signal.SIGTERM)


async def work(core: Core, stopping: asyncio.Event) -> None:
    """Dispatch, inbox, reconciliation, sealing and chores, until `stopping` is set.

    Any number of processes may do this at once.
    """
    async with anyio.create_task_group() as group:
        for kind in _WORK:
            group.start_soon(_keep_doing, core, stopping, kind)
        group.start_soon(keep_sealing, core, stopping)
        group.start_soon(keep_tidy, core, stopping)


async def _keep_doing(core: Core, stopping: asyncio.Event, kind: _Work) -> None:
    """Takes due rows and works on as many as it may; sleeps until a commit or the slow poll."""
    free = anyio.Semaphore(kind.at_once)
    busy: Counter[str] = Counter()

    async def one(item: Claim) -> None:
        try:
            await kind.do(core, item)
        except Exception:
            # The row keeps its lease and comes up again; one bad row does not stop the others.
            log.exception("work_failed", queue=kind.queue, row=item.id)
        finally:
            busy[item.organization_id] -= 1
            free.release()
            if busy[item.organization_id] == kind.share - 1:
                core.store.wakeups.notify([kind.topic])  # it was passed over until now

    async with anyio.create_task_group() as group:
        while not stopping.is_set():
            async with free:
                token = core.store.wakeups.token(kind.topic)
            if stopping.is_set():
                return
            have_their_share = [organization for organization, count in busy.items() if count >= kind.share]
            try:
                taken = await kind.claim(core, min(free.value, kind.share), have_their_share)
            except StoreUnavailable as away:
                log.warning("claim_failed", queue=kind.queue, error=away.why)
                await anyio.sleep(_AFTER_A_FAULT_SECONDS)
                continue
            except Exception:
                log.exception("claim_failed", queue=kind.queue)
                await anyio.sleep(_AFTER_A_FAULT_SECONDS)
                continue
            for item in taken:
                await free.acquire()
                busy[item.organization_id] += 1
                group.start_soon(one, item)
            if not taken:
                await core.store.wakeups.wait(token, await _idle_seconds(core, kind.queue))


async def _idle_seconds(core: Core, queue: DueTable) -> float:
    """Until the next row is due, and at most until the slow poll, which finds what nobody told of."""
    now = core.clock.now()
    try:
        due_at = await next_due(core.store, queue, after=now)
        return min(POLL_SECONDS, (due_at - now).total_seconds()) if due_at else POLL_SECONDS
    except StoreUnavailable:
        return POLL_SECONDS
    except Exception:
        # A row that cannot be read as a moment: this loop serves everybody, and goes on.
        log.exception("next_due_failed", queue=queue)
        return POLL_SECONDS
