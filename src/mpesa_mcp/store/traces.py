"""Traces of life: each process that needs keys or does work writes down, four times a minute, that it runs.

It says that the process lives and reaches the database, not that its work gets done: whether work lies undone is seen
in the queues. A trace tells also which master keys the process has, so that a rotation waits for all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import CursorResult, delete, update
from sqlmodel import Field, col, select

from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.tables import PlatformTable, moment

BEAT: Final = timedelta(seconds=15)
# Two beats may be missed.
_DEAD_AFTER: Final = BEAT * 3
_FORGOTTEN_AFTER: Final = timedelta(days=1)


class ProcessTrace(PlatformTable, table=True):
    """A process that ran at `seen_at`. `master_keys` are the ids of the keys it has, separated by spaces."""

    __tablename__ = "process_traces"

    id: str = Field(primary_key=True, max_length=40)
    kind: str = Field(max_length=20)
    works: bool
    place: str = Field(max_length=120)
    master_keys: str = Field(max_length=80)
    started_at: datetime = moment()
    seen_at: datetime = moment()


@dataclass(frozen=True, slots=True)
class Living:
    """A process that was seen lately. `works`: it sends, applies callbacks and reconciles. `place` is for people."""

    kind: str
    works: bool
    place: str
    master_keys: frozenset[str]
    seen_at: datetime


async def leave_trace(store: Store, trace: ProcessTrace, now: datetime) -> None:
    """Writes down that it runs. The traces of the long dead are removed by newcomers."""
    again = update(ProcessTrace).where(col(ProcessTrace.id) == trace.id)
    async with store.platform() as session:
        seen = await session.execute(
            again.values(seen_at=now, master_keys=trace.master_keys), execution_options={"synchronize_session": False}
        )
        assert isinstance(seen, CursorResult)
        if not seen.rowcount:
            await session.execute(delete(ProcessTrace).where(col(ProcessTrace.seen_at) < now - _FORGOTTEN_AFTER))
            session.add(ProcessTrace(**trace.model_dump() | {"seen_at": now}))


async def remove_trace(store: Store, trace_id: str) -> None:
    """The process ends in good order."""
    async with store.platform() as session:
        await session.execute(delete(ProcessTrace).where(col(ProcessTrace.id) == trace_id))


async def living(store: Store, now: datetime) -> Sequence[Living]:
    """The processes that were seen within three beats."""
    lately = select(ProcessTrace).where(col(ProcessTrace.seen_at) > now - _DEAD_AFTER).order_by(col(ProcessTrace.id))
    async with store.platform_reading() as session:
        return [
            Living(row.kind, row.works, row.place, frozenset(row.master_keys.split()), row.seen_at)
            for row in (await session.execute(lately)).scalars()
        ]
