"""The circuit breaker of each app, one row for all processes.

Closed: calls leave. Open: none leaves until the pause is over; pauses are 1, 2, 4 ... 60 s (4 s for a rate limit), or
what Daraja asked for.
Half open: one call leaves as a probe, chosen by a compare-and-set; the others wait for what it finds. What is proven
not to have been sent (a rate limit, no connection) opens at once: waiting a second costs less than one of a payment's
tries. What may have been sent opens after five in a row.

The breaker only holds calls back. It says nothing about a payment that has left.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import structlog
from sqlalchemy import Select
from sqlmodel import Field, col, select

from mpesa_mcp.daraja.conclusions import Held
from mpesa_mcp.daraja.trouble import Reason, Trouble
from mpesa_mcp.store.engine import Store, StoreUnavailable
from mpesa_mcp.store.tables import PlatformTable, insert_if_absent, moment
from mpesa_mcp.values import Clock, Environment
from mpesa_mcp.values.ids import jitter

log: Final = structlog.get_logger(__name__)

_OPENS_AFTER: Final = 5
_LONGEST_PAUSE_SECONDS: Final = 60
# Haste is forgiven in seconds, and a push lives for two minutes only: longer pauses would let a whole queue expire.
_LONGEST_FOR_RATE_LIMIT_SECONDS: Final = 4
# Daraja's own wish is followed further, but not for an hour: a mistaken header must not stop an organization.
_LONGEST_WISH_SECONDS: Final = 300
# Longer than most calls take. After that somebody else may probe: one whose process died must not hold up the rest.
_PROBE_LEASE: Final = timedelta(seconds=20)
_LOOK_EVERY: Final = timedelta(seconds=1)
# After a pause, who was turned away before lets others probe first, this many seconds for each time. With the pauses
# between, the five tries of a payment that waits alone last longer than a minute.
_LETS_OTHERS_GO: Final = (0.0, 0.5, 5.0, 15.0, 35.0)
# A pause that ended this long ago, with no call since, says nothing about the present.
_FORGOTTEN_AFTER: Final = timedelta(minutes=15)


class AppCircuit(PlatformTable, table=True):
    """How the calls of an app fare. `fence` grows whenever it opens, closes or gives a probe away."""

    __tablename__ = "daraja_apps"

    app_id: str = Field(primary_key=True, max_length=64)
    environment: str = Field(max_length=20)
    failures: int = 0  # in a row, while closed
    pauses: int = 0  # in a row
    reason: str | None = Field(default=None, max_length=20)
    opened_at: datetime | None = moment(nullable=True)
    paused_until: datetime | None = moment(nullable=True)  # None: closed
    probe_until: datetime | None = moment(nullable=True)
    updated_at: datetime = moment()
    fence: int = 0


class CircuitState(StrEnum):
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Outage:
    """Apps of one environment whose calls are held back for one reason; names neither apps nor organizations."""

    environment: Environment
    state: CircuitState
    reason: Reason
    retry_at: datetime


@dataclass(slots=True)
class Turn:
    """Leave to make one call, before `leaves_by` if that is said. The last three say what came of it.

    `has_left`: the request itself may have reached Daraja, whatever it needed before that.
    """

    app_id: str = ""
    environment: Environment = Environment.SIMULATOR
    fence: int = 0
    is_probe: bool = False
    leaves_by: datetime | None = None
    has_left: bool = False
    called: bool = False
    trouble: Trouble | None = None


@dataclass(slots=True)
class _Seen:
    row: AppCircuit | None
    at: datetime


class Circuits:
    """Gives leave to call, and learns from what came of it. A row is read once a second at most."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def held(self, app_id: str, refused_before: int) -> Held | None:
        """Whether a call that came now would be held; changes nothing. `refused_before`: how often it was already."""
        return self._held(await self._look(app_id), refused_before)

    async def enter(self, app_id: str, environment: Environment, refused_before: int) -> Turn | Held:
        """Leave to call: everybody's while closed, one caller's after a pause."""
        row = await self._look(app_id)
        if row is None or row.paused_until is None:
            return Turn(app_id, environment, row.fence if row else 0)
        async with self._lock(app_id):
            row = self._seen[app_id].row
            if held := self._held(row, refused_before):
                return held
            if row is not None and row.paused_until is not None:
                if await self._take_probe(app_id, row.fence):
                    return Turn(app_id, environment, row.fence + 1, is_probe=True)
                # Another process was faster.
                row = self._seen[app_id].row
                if row is not None and row.paused_until is not None:
                    return self._held(row, refused_before) or _hold(self._clock.now() + _LOOK_EVERY)
            return Turn(app_id, environment, row.fence if row else 0)

    async def learn(self, turn: Turn) -> bool:
        """Records what came of a turn; says whether that paused the app. A store that is away is no reason to fail."""
        seen = self._seen[turn.app_id].row
        all_well = turn.trouble is None and (seen is None or not seen.failures)
        if not turn.is_probe and (not turn.called or all_well):
            return False
        try:
            return await self._record(turn)
        except StoreUnavailable as away:
            log.warning("daraja_circuit_not_recorded", environment=turn.environment.value, error=away.why)
            return False

    def _held(self, row: AppCircuit | None, refused_before: int) -> Held | None:
        if row is None or row.paused_until is None:
            return None
        now = self._clock.now()
        may_probe_at = row.paused_until + timedelta(
            seconds=_LETS_OTHERS_GO[min(refused_before, len(_LETS_OTHERS_GO) - 1)]
        )
        if now < may_probe_at:
            return Held(until=may_probe_at, others_until=row.paused_until)
        if row.probe_until is not None and now < row.probe_until:
            return _hold(min(row.probe_until, now + _LOOK_EVERY))
        return None

    async def _look(self, app_id: str) -> AppCircuit | None:
        if seen := self._fresh(app_id):
            return seen.row
        async with self._lock(app_id):
            if seen := self._fresh(app_id):
                return seen.row
            async with self._store.platform_reading() as session:
                row = (await session.execute(_of_app(app_id))).scalars().first()
            return self._remember(app_id, row)

    def _lock(self, app_id: str) -> asyncio.Lock:
        return self._locks.setdefault(app_id, asyncio.Lock())

    def _fresh(self, app_id: str) -> _Seen | None:
        seen = self._seen.get(app_id)
        return seen if seen is not None and abs(self._clock.now() - seen.at) < _LOOK_EVERY else None

    def _remember(self, app_id: str, row: AppCircuit | None) -> AppCircuit | None:
        """Keeps a row as it is in the database: after the commit, not before."""
        self._seen[app_id] = _Seen(row, self._clock.now())
        return row

    async def _take_probe(self, app_id: str, fence: int) -> bool:
        now = self._clock.now()
        async with self._store.platform() as session:
            row = (await session.execute(_of_app(app_id).with_for_update())).scalars().one()
            taken = row.fence == fence
            if taken:
                row.fence += 1
                row.probe_until = now + _PROBE_LEASE
                row.updated_at = now
        self._remember(app_id, row)
        return taken

    async def _record(self, turn: Turn) -> bool:
        now = self._clock.now()
        named = {"app_id": turn.app_id, "environment": turn.environment, "updated_at": now}
        async with self._store.platform() as session:
            dialect = session.get_bind().dialect.name
            await session.execute(insert_if_absent(dialect, AppCircuit, **named, failures=0, pauses=0, fence=0))
            row = (await session.execute(_of_app(turn.app_id).with_for_update())).scalars().one()
            # With another fence this is news from before the last change.
            paused = row.fence == turn.fence and _apply(row, turn, now)
        self._remember(turn.app_id, row)
        return paused


def _of_app(app_id: str) -> Select[AppCircuit]:
    return select(AppCircuit).where(AppCircuit.app_id == app_id)


def _apply(row: AppCircuit, turn: Turn, now: datetime) -> bool:
    """Changes the row by what came of a turn; says whether the app is paused now because of it."""
    row.updated_at = now
    if not turn.called:
        row.probe_until = None  # somebody else may probe
    elif turn.trouble is None:
        _close(row)
    else:
        return _fail(row, turn.trouble, now)
    return False


def _hold(until: datetime) -> Held:
    return Held(until=until, others_until=until)


def _close(row: AppCircuit) -> None:
    if row.paused_until is not None:
        row.fence += 1
        log.info("daraja_resumed", environment=row.environment)
    row.failures = row.pauses = 0
    row.reason = row.opened_at = row.paused_until = row.probe_until = None


def _fail(row: AppCircuit, trouble: Trouble, now: datetime) -> bool:
    row.failures += 1
    row.reason = trouble.reason
    if row.paused_until is None and not trouble.proven_unsent and row.failures < _OPENS_AFTER:
        return False
    row.pauses += 1
    seconds = pause_seconds(row.pauses, trouble)
    row.opened_at = row.opened_at or now
    row.paused_until = now + timedelta(seconds=seconds)
    row.probe_until = None
    row.fence += 1
    log.warning("daraja_paused", environment=row.environment, reason=trouble.reason.value, seconds=round(seconds))
    return True


def pause_seconds(pauses: int, trouble: Trouble) -> float:
    """How long pause number `pauses` in a row lasts."""
    is_haste = trouble.reason is Reason.RATE_LIMITED
    longest = _LONGEST_FOR_RATE_LIMIT_SECONDS if is_haste else _LONGEST_PAUSE_SECONDS
    backed_off = min(2.0 ** min(pauses - 1, 10), longest) * jitter(0.1)
    return max(backed_off, min(trouble.retry_after_seconds or 0, _LONGEST_WISH_SECONDS))


async def outages(store: Store, now: datetime) -> Sequence[Outage]:
    """Which environments' calls are held back. Of several apps with one reason, the one that tries next speaks."""
    wanted = select(AppCircuit).where(col(AppCircuit.paused_until) > now - _FORGOTTEN_AFTER)
    async with store.platform_reading() as session:
        rows = (await session.execute(wanted.order_by(col(AppCircuit.paused_until)))).scalars().all()
    found: dict[tuple[str, str, str], Outage] = {}
    for row in rows:
        assert row.paused_until is not None
        assert row.reason is not None
        state = CircuitState.OPEN if now < row.paused_until else CircuitState.HALF_OPEN
        outage = Outage(Environment(row.environment), state, Reason(row.reason), row.paused_until)
        found.setdefault((row.environment, state, row.reason), outage)
    return list(found.values())
