"""The gate every call to Daraja passes: the circuit of its app, then the pace of this process.

Who waits longer than two seconds is told when to come back instead: it holds a row under a lease.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import anyio

from mpesa_mcp.daraja.circuits import Circuits, Turn
from mpesa_mcp.daraja.conclusions import Held
from mpesa_mcp.daraja.operations import DarajaApp
from mpesa_mcp.daraja.pace import CALLS_PER_SECOND, Pace
from mpesa_mcp.daraja.tokens import app_id_of
from mpesa_mcp.daraja.trouble import Reason
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import DARAJA_TOKENS, Keyring
from mpesa_mcp.values import Clock

_LONGEST_WAIT_SECONDS: Final = 2.0

Sleep = Callable[[float], Awaitable[None]]


class Gate:
    """One for a process; the pace is the process's own, the circuits are everybody's."""

    def __init__(
        self,
        store: Store,
        keyring: Keyring,
        clock: Clock,
        *,
        calls_per_second: float = CALLS_PER_SECOND,
        sleep: Sleep = anyio.sleep,
    ) -> None:
        self._keyring = keyring
        self._clock = clock
        self._pace = Pace(clock, calls_per_second)
        self._circuits = Circuits(store, clock)
        self._sleep = sleep

    @asynccontextmanager
    async def turn(self, app: DarajaApp, *, refused_before: int = 0) -> AsyncIterator[Turn | Held]:
        """Leave to make one call of this app now, or when to come back. What came of it is learnt at the end."""
        app_id = app_id_of(await self._keyring.platform_key(DARAJA_TOKENS), app)
        turn = await self._enter(app_id, app, refused_before)
        if isinstance(turn, Held):
            yield turn
            return
        try:
            yield turn
        finally:
            with anyio.CancelScope(shield=True):
                await self._learn(turn)

    async def _enter(self, app_id: str, app: DarajaApp, refused_before: int) -> Turn | Held:
        if held := await self._circuits.held(app_id, refused_before):
            return held
        wait = self._pace.wait_seconds(app_id)
        if wait > _LONGEST_WAIT_SECONDS:
            until = self._clock.now() + timedelta(seconds=wait)
            return Held(until=until, others_until=until)
        if wait := self._pace.take(app_id):
            await self._sleep(wait)
        # Only now: while this one waited for its moment, another may have been turned away.
        return await self._circuits.enter(app_id, app.environment, refused_before)

    async def _learn(self, turn: Turn) -> None:
        paused = await self._circuits.learn(turn)
        if paused and turn.trouble is not None and turn.trouble.reason is Reason.RATE_LIMITED:
            self._pace.slow_down(turn.app_id)
        elif turn.called and turn.trouble is None:
            self._pace.speed_up(turn.app_id)
