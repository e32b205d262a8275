"""Leaving traces of life while a process runs; see `store.traces`."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import structlog
from sqlalchemy.exc import SQLAlchemyError

from mpesa_mcp.payments.core import Core
from mpesa_mcp.store.engine import StoreUnavailable
from mpesa_mcp.store.traces import BEAT, ProcessTrace, leave_trace, remove_trace
from mpesa_mcp.values import new_id

log = structlog.get_logger(__name__)

_LONGEST_PLACE = 120


@asynccontextmanager
async def leaving_traces(core: Core, kind: str, *, works: bool) -> AsyncIterator[None]:
    """While the block runs, the database says so. A database that is away keeps nobody from running."""
    now = core.clock.now()
    trace = ProcessTrace(
        id=new_id("prc"),
        kind=kind,
        works=works,
        place=f"{kind} {os.getpid()} on {socket.gethostname()}"[:_LONGEST_PLACE],
        master_keys="",
        started_at=now,
        seen_at=now,
    )
    await _beat(core, trace)
    beating = asyncio.get_running_loop().create_task(_keep_beating(core, trace))
    try:
        yield
    finally:
        beating.cancel()
        with anyio.CancelScope(shield=True), suppress(StoreUnavailable, SQLAlchemyError):
            await asyncio.gather(beating, return_exceptions=True)
            await remove_trace(core.store, trace.id)


async def _keep_beating(core: Core, trace: ProcessTrace) -> None:
    while True:
        await asyncio.sleep(BEAT.total_seconds())
        await _beat(core, trace)


async def _beat(core: Core, trace: ProcessTrace) -> None:
    # A key file may have another key by now: with this beat everybody knows that this process has it.
    core.keyring.read_again()
    trace.master_keys = " ".join(core.keyring.keys.ids)
    try:
        await leave_trace(core.store, trace, core.clock.now())
    except (StoreUnavailable, SQLAlchemyError) as away:
        log.warning("no_trace_left", error=getattr(away, "why", type(away).__name__))
