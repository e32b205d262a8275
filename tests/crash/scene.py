"""One process at work: core, sidecar, worker, and a clock that leaps over the times in which nothing is due."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx2
from sqlmodel import select
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Scope_

from mpesa_mcp.app.core import open_core
from mpesa_mcp.app.http import port_of, serving
from mpesa_mcp.app.worker import working
from mpesa_mcp.callbacks.models import UNAPPLIED, Callback
from mpesa_mcp.callbacks.sidecar import create_sidecar
from mpesa_mcp.errors import MpesaMcpError
from mpesa_mcp.identity.organizations import create_organization
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.batches.models import Batch
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.models import Inquiry, Payment
from mpesa_mcp.payments.records import InquiryStatus
from mpesa_mcp.payments.requests import PaymentRequest
from mpesa_mcp.payments.schedule import TO_BE_ASKED_ABOUT
from mpesa_mcp.payments.states import PaymentStatus
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.crossings import DueTable, list_organizations
from mpesa_mcp.values import Environment, Role
from tests.shortcodes import give_shortcode

# Longer than a callback is on its way, so that nobody is asked about what is just being told.
QUIET_SECONDS = 0.06
_LOOK_SECONDS = 0.02
_LONGEST_SECONDS = 90
_QUEUES: Sequence[type[Any]] = (Payment, Inquiry, Callback, Batch)
Answer = dict[str, Any]
Until = Callable[[Payment], bool]


class LeapingClock:
    """A time of its own: it leaps, and hardly moves in between, so that a busy machine changes nothing."""

    def __init__(self, ahead: timedelta = timedelta(0)) -> None:
        self._began = datetime.now(UTC)
        self.ahead = ahead

    def now(self) -> datetime:
        return self._began + self.ahead + (datetime.now(UTC) - self._began) / 100


@dataclass
class Scene:
    """What a story is played with. `answers` are what the client was told, in order."""

    core: Core
    clock: LeapingClock
    principal: Principal
    simulator: httpx2.AsyncClient
    callbacks_at: str
    exchanges: Callable[[], int]
    answers: list[Answer] = field(default_factory=list)

    async def open(self, request: PaymentRequest) -> str:
        """Asks for a payment, as a tool call does; its id."""
        opened = await open_payment(self.core, self.principal, request)
        self.answers.append({"payment_id": opened.payment.payment_id, "replayed": opened.replayed})
        return opened.payment.payment_id

    async def decide(self, decision: Callable[..., Awaitable[object]], *arguments: Any, **more: Any) -> None:
        """What a person does at the command line; being refused is an answer, too."""
        try:
            await decision(self.core, self.principal.organization_id, *arguments, **more)
            self.answers.append({"refused": None})
        except MpesaMcpError as refused:
            self.answers.append({"refused": refused.code})

    async def fault(self, **ordered: Any) -> None:
        assert (await self.simulator.post("/_sim/faults", json=ordered)).status_code == 200

    async def ledger(self) -> list[dict[str, Any]]:
        movements: list[dict[str, Any]] = (await self.simulator.get("/_sim/ledger")).json()
        return movements

    async def payments(self) -> Sequence[Payment]:
        return await self.rows(Payment)

    async def rows(self, table: type[Any]) -> Sequence[Any]:
        async with self.core.store.reading(self.principal.organization_id) as session:
            return await session.all(select(table).order_by(table.id))

    async def work(self, until: Until | None = None, *, leaping: bool = True) -> None:
        """Runs a worker until a payment is as wished, or there is nothing left to do.

        Not `leaping`, it takes up only what is due already.
        """
        async with working(self.core):
            with anyio.fail_after(_LONGEST_SECONDS):
                await self._watch(until, leaping)

    async def _watch(self, until: Until | None, leaping: bool) -> None:
        seen, since, exchanged = None, 0.0, self.exchanges()
        while True:
            async with self.core.store.looking(self.principal.organization_id) as session:
                queues = [await session.all(select(table)) for table in _QUEUES]
            if until is not None and any(until(payment) for payment in queues[0]):
                return
            look = [(row.id, row.status, row.fence, row.next_action_at) for queue in queues for row in queue]
            # Nothing can be on its way to us if nothing has left.
            quiet_seconds = QUIET_SECONDS if self.exchanges() != exchanged else 0
            if look != seen:
                seen, since = look, anyio.current_time()
            elif anyio.current_time() - since > quiet_seconds:
                if until is None and _is_done(*queues):
                    return
                if leaping:
                    self._leap([row for queue in queues for row in queue])
                seen, exchanged = None, self.exchanges()
            await self.core.store.wakeups.wait(self.core.store.wakeups.token("a look"), _LOOK_SECONDS)

    def _leap(self, rows: Sequence[Any]) -> None:
        """To the moment when the next row is due that nobody holds, if none is due now."""
        now = self.clock.now()
        free = [row for row in rows if row.lease_until is None or row.lease_until <= now]
        due = min((row.next_action_at for row in free if row.next_action_at), default=now)
        if due > now:
            self.clock.ahead += due - now
            self.core.store.wakeups.notify([*DueTable, TO_BE_ASKED_ABOUT])


def _is_done(
    payments: Sequence[Payment], inquiries: Sequence[Inquiry], callbacks: Sequence[Callback], batches: Sequence[Batch]
) -> bool:
    return (
        all(
            PaymentStatus(payment.status).is_settled
            or (payment.status == PaymentStatus.UNKNOWN and payment.next_action_at is None)
            for payment in payments
        )
        and all(InquiryStatus(inquiry.status).is_final for inquiry in inquiries)
        and all(callback.status not in UNAPPLIED for callback in callbacks)
        and all(batch.next_action_at is None for batch in batches)
    )


@asynccontextmanager
async def playing(
    values: Mapping[str, Any], opened: socket.socket, clock: LeapingClock, exchanges: Callable[[], int]
) -> AsyncIterator[Scene]:
    """A process of the installation that `values` (settings) name, listening for callbacks on the socket `opened`.

    `exchanges` says how often it has called Daraja.
    """
    settings = Settings(**values, port=port_of(opened), daraja_calls_per_second=10_000)
    async with (
        open_core(settings, clock=clock) as core,
        serving(_for_one_request_each(create_sidecar(core.store, settings, clock)), opened),
        httpx2.AsyncClient(base_url=settings.simulator_url, trust_env=False) as simulator,
    ):
        principal = await _principal(core)
        yield Scene(core, clock, principal, simulator, settings.reached_at, exchanges)


def _for_one_request_each(app: ASGIApp) -> ASGIApp:
    """Closes connections: Safaricom's next callback must not go to one that the dead process has left behind."""

    async def closing(scope: Scope_, receive: Receive, send: Send) -> None:
        async def sends(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await app(scope, receive, sends)

    return closing


async def _principal(core: Core) -> Principal:
    """Who asks; with an organization made for it, when there is none yet."""
    known = await list_organizations(core.store)
    organization_id = known[0] if known else await _make_organization(core)
    return Principal(organization_id, "key:tester", Role.MANAGER, Environment.SIMULATOR, None, "tester")


async def _make_organization(core: Core) -> str:
    made = await create_organization(core.store, core.clock, name="Acme", slug="acme", actor="operator:tester")
    await give_shortcode(core, made.organization_id)
    return made.organization_id
