"""Calls that the rate limits refused: gathered in the process, and written together every few seconds.

One by one they would cost more than they were refused for: each a commit, and on SQLite the one writer's turn. So what
a flood leaves is one entry in the audit for each key and tool, saying how many, and their number in the usage. A
process that is killed takes at most GATHERING_SECONDS of these numbers with it, and nothing else: what was carried out,
and what was refused for any other reason, is counted and audited in its own transaction.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

import anyio
import structlog
from sqlalchemy.exc import SQLAlchemyError

from mpesa_mcp import audit
from mpesa_mcp.audit import Circumstances, circumstances, under
from mpesa_mcp.billing.usage import count_calls, month_of
from mpesa_mcp.store.engine import Store, StoreUnavailable
from mpesa_mcp.values import Clock

log = structlog.get_logger(__name__)

GATHERING_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Who:
    month: str
    actor: str
    tool: str


@dataclass(slots=True)
class _Refused:
    """How many calls; where the last one came from."""

    calls: int
    last: Circumstances


_Gathered = dict[_Who, _Refused]


class Refusals:
    """What the rate limits refused and nobody has written down yet. One a process; `close` it."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._gathered: defaultdict[str, _Gathered] = defaultdict(dict)
        self._writing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def note(self, organization_id: str, actor: str, tool: str) -> None:
        """Takes note of one refused call."""
        who = _Who(month_of(self._clock.now()), actor, tool)
        self._add(organization_id, who, 1, circumstances())
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write_later())

    async def write(self) -> None:
        """Writes what was gathered; what cannot be written now is kept for the next time."""
        gathered, self._gathered = self._gathered, defaultdict(dict)
        for organization_id, refused in gathered.items():
            try:
                await self._write(organization_id, refused)
            except (StoreUnavailable, SQLAlchemyError):
                log.warning("refusals_not_written", organization_id=organization_id)
                for who, each in refused.items():
                    self._add(organization_id, who, each.calls, each.last)

    async def close(self) -> None:
        """Writes what is left."""
        self._closing.set()
        if self._writing is not None:
            await self._writing

    def _add(self, organization_id: str, who: _Who, calls: int, last: Circumstances) -> None:
        refused = self._gathered[organization_id].setdefault(who, _Refused(0, last))
        refused.calls += calls
        refused.last = last

    async def _write_later(self) -> None:
        while self._gathered:
            with anyio.move_on_after(GATHERING_SECONDS):
                await self._closing.wait()
            await self.write()
            if self._closing.is_set():
                return

    async def _write(self, organization_id: str, gathered: _Gathered) -> None:
        async with self._store.session(organization_id) as session:
            for who, refused in gathered.items():
                count_calls(session, who.month, actor=who.actor, tool=who.tool, refused=refused.calls)
                with under(refused.last):
                    audit.record(
                        session,
                        self._clock,
                        actor=who.actor,
                        action="tool.called",
                        subject=who.tool,
                        decision="refused",
                        reasons="rate_limited",
                        detail={"calls": refused.calls},
                    )
