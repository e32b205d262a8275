"""Two workers on one database, and everybody who hands something in; each step is one of the program's own functions.

A step whose request hangs is set aside, so that anything else can happen meanwhile; then its answer comes, or it dies.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx2
from pydantic import SecretStr
from sqlmodel import col, select

from mpesa_mcp.audit import AuditEntry
from mpesa_mcp.billing.core import Billing
from mpesa_mcp.billing.models import PaymentUsage
from mpesa_mcp.billing.rates import RateLimiter
from mpesa_mcp.billing.refusals import Refusals
from mpesa_mcp.billing.terms import TermsBook
from mpesa_mcp.callbacks.inbox import apply_callback, claim_stored
from mpesa_mcp.callbacks.models import UNAPPLIED, Callback
from mpesa_mcp.callbacks.sidecar import create_sidecar
from mpesa_mcp.credentials.opening import OpenedShortcodes
from mpesa_mcp.daraja.client import DarajaClient
from mpesa_mcp.daraja.credential import Certificates
from mpesa_mcp.daraja.gate import Gate
from mpesa_mcp.daraja.tokens import AccessTokens
from mpesa_mcp.identity.authentication import Authentication
from mpesa_mcp.identity.organizations import create_organization
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.desk import payments_to_review
from mpesa_mcp.payments.dispatch import claim_queued, send_payment
from mpesa_mcp.payments.inquiries import OPEN
from mpesa_mcp.payments.inquiry_dispatch import (
    claim_queued_inquiries,
    claim_stale_inquiries,
    expire_inquiry,
    send_inquiry,
)
from mpesa_mcp.payments.models import Attempt, Inquiry, Payment, PaymentHistory
from mpesa_mcp.payments.reconciliation import ask_about, claim_silent
from mpesa_mcp.policy.models import Spending
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.crossings import Claim, DueTable, next_due
from mpesa_mcp.store.engine import open_store
from mpesa_mcp.store.keyring import Keyring, load_master_key
from mpesa_mcp.values import Environment, FrozenClock, Role
from tests.shortcodes import give_shortcode
from tests.spending import give_rule

from .bodies import answer
from .books import Books
from .safaricom import URL, URL_OF_OURS, Fate, Safaricom

Claiming = Callable[[Core, int], Awaitable[Sequence[Claim]]]
Doing = Callable[[Core, Claim], Awaitable[None]]
WORK: dict[str, tuple[Claiming, Doing]] = {
    "dispatch": (claim_queued, send_payment),
    "inbox": (claim_stored, apply_callback),
    "reconciliation": (claim_silent, ask_about),
    "questions": (claim_queued_inquiries, send_inquiry),
    "expiry": (claim_stale_inquiries, expire_inquiry),
}
_AFTER_ANY_LEASE = timedelta(seconds=91)
_LEAST_LEAP = timedelta(seconds=10)
# A payment is asked about twenty-two times, and there are a dozen of them; nothing takes more looks than this.
_MOST_ROUNDS = 1500


@dataclass
class Office:
    settings: Settings
    clock: FrozenClock
    daraja: Safaricom
    http: httpx2.AsyncClient
    cores: list[Core]
    principal: Principal
    sidecar: httpx2.AsyncClient
    hanging: list[tuple[int, asyncio.Task[None], asyncio.Event]]
    taken: list[tuple[str, Claim]]

    async def work(self, worker: int, kind: str) -> None:
        """One due row, as a worker does it."""
        claim, do = WORK[kind]
        for item in await claim(self.cores[worker], 1):
            await self._carry_on(worker, asyncio.ensure_future(do(self.cores[worker], item)))

    async def take(self, worker: int, kind: str) -> None:
        """A worker takes a row, and is slow to begin."""
        self.taken += [(kind, item) for item in await WORK[kind][0](self.cores[worker], 1)]

    async def begin(self, number: int, worker: int) -> None:
        if self.taken:
            kind, item = self.taken.pop(number % len(self.taken))
            await self._carry_on(worker, asyncio.ensure_future(WORK[kind][1](self.cores[worker], item)))

    async def together(self, kinds: Sequence[str]) -> None:
        """Both workers at the same moment."""
        begun = []
        for worker, kind in enumerate(kinds):
            claim, do = WORK[kind]
            begun += [do(self.cores[worker], item) for item in await claim(self.cores[worker], 1)]
        await asyncio.gather(*begun)

    async def let_go(self, number: int) -> None:
        """The answer that one hanging request waits for."""
        if self.hanging:
            worker, task, gate = self.hanging.pop(number % len(self.hanging))
            gate.set()
            await self._carry_on(worker, task)

    async def kill(self, number: int) -> None:
        """The process of one hanging request dies."""
        if self.hanging:
            _, task, _ = self.hanging.pop(number % len(self.hanging))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def restart(self, worker: int) -> None:
        """With all that it was waiting for; what it had taken and not begun is left to its lease."""
        self.taken.clear()
        while hanging := [number for number, (whose, *_) in enumerate(self.hanging) if whose == worker]:
            await self.kill(hanging[0])
        old = self.cores[worker]
        self.cores[worker] = _core(self.settings, self.clock, self.http)
        await old.store.close()

    async def post(self, path: str, body: bytes) -> None:
        """At the sidecar: stored, or refused because too many came."""
        replied = await self.sidecar.post(path, content=body)
        assert replied.status_code in {200, 429}

    async def books(self) -> Books:
        async with self.cores[0].store.reading(self.principal.organization_id) as session:
            return Books(
                payments=await session.all(select(Payment).order_by(col(Payment.id))),
                attempts=await session.all(select(Attempt).order_by(col(Attempt.id))),
                history=await session.all(select(PaymentHistory).order_by(col(PaymentHistory.id))),
                usage=await session.all(select(PaymentUsage)),
                spending=await session.all(select(Spending)),
                audit=await session.all(select(AuditEntry).order_by(col(AuditEntry.id))),
            )

    async def to_review(self) -> set[str]:
        items = await payments_to_review(self.cores[0], self.principal.organization_id)
        return {item.payment.payment_id for item in items}

    async def come_to_rest(self) -> None:
        """All faults end and the clock runs, until nothing is due any more."""
        while self.hanging:
            await self.kill(0)
        self.taken.clear()
        self.daraja.fate, self.daraja.hangs = Fate.ACCEPTED, False
        for _ in range(_MOST_ROUNDS):
            if await self._one_round():
                continue
            if not await self._waits():
                return
            now = self.clock.now()
            moments = [await next_due(self.cores[0].store, queue, after=now) for queue in DueTable]
            due_at = min([moment for moment in moments if moment], default=now + _AFTER_ANY_LEASE)
            self.clock.at = max(due_at, now + _LEAST_LEAP)
        waiting = [(each.id, each.status, each.next_action_at) for each in (await self.books()).payments]
        raise AssertionError(f"something waits for ever: {waiting}")

    async def _one_round(self) -> int:
        done = 0
        for order in self.daraja.orders:
            order.decide("0" if order.number % 4 else "1")
        for claim, do in WORK.values():
            for item in await claim(self.cores[0], 10):
                await do(self.cores[0], item)
                done += 1
        for question in self.daraja.questions:
            if not question.answered:
                question.answered = True
                await self.post(question.path, answer(self.daraja, question, may_not_ask=False))
                done += 1
        return done

    async def _waits(self) -> bool:
        """Whether anything would be looked at some day."""
        async with self.cores[0].store.reading(self.principal.organization_id) as session:
            for waiting in (
                select(Payment.id).where(col(Payment.next_action_at).is_not(None)),
                select(Inquiry.id).where(col(Inquiry.status).in_(OPEN)),
                select(Callback.id).where(col(Callback.status).in_(UNAPPLIED)),
            ):
                if await session.first(waiting) is not None:
                    return True
        return False

    async def _carry_on(self, worker: int, task: asyncio.Future[None]) -> None:
        assert isinstance(task, asyncio.Task)
        self.daraja.hanging.clear()
        hangs = asyncio.ensure_future(self.daraja.hanging.wait())
        await asyncio.wait({task, hangs}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            hangs.cancel()
            self.daraja.hangs = False
            await task
        else:
            self.hanging.append((worker, task, self.daraja.held.pop()))


@asynccontextmanager
async def open_office(settings: Settings, clock: FrozenClock) -> AsyncIterator[Office]:
    daraja = Safaricom()
    async with httpx2.AsyncClient(transport=daraja, trust_env=False) as http:
        cores = [_core(settings, clock, http) for _ in range(2)]
        principal = await _organization(cores[0])
        store = open_store(settings.effective_database_url)
        transport = httpx2.ASGITransport(create_sidecar(store, settings, clock))
        async with httpx2.AsyncClient(transport=transport, base_url=URL_OF_OURS, trust_env=False) as sidecar:
            office = Office(settings, clock, daraja, http, cores, principal, sidecar, [], [])
            try:
                yield office
            finally:
                while office.hanging:
                    await office.kill(0)
                for each in (store, *(core.store for core in office.cores)):
                    await each.close()


def office_settings(master_key: str, **database: Any) -> Settings:
    return Settings(
        **database,
        master_key=SecretStr(master_key),
        public_url=URL_OF_OURS,
        simulator_url=URL,
        daraja_calls_per_second=1000,
    )


def _core(settings: Settings, clock: FrozenClock, http: httpx2.AsyncClient) -> Core:
    store = open_store(settings.effective_database_url)
    keyring = Keyring(store, load_master_key(settings))
    gate = Gate(store, keyring, clock, calls_per_second=settings.daraja_calls_per_second, sleep=_at_once)
    certificates = Certificates(production=None, http=http)
    daraja = DarajaClient(http, AccessTokens(store, keyring, clock), certificates, clock, gate=gate)
    shortcodes = OpenedShortcodes(store, keyring, settings)
    authentication = Authentication(store, keyring, settings, clock)
    billing = Billing(TermsBook(store, clock), RateLimiter(None), Refusals(store, clock))
    return Core(settings, store, keyring, shortcodes, clock, daraja, authentication, billing, URL_OF_OURS)


async def _at_once(_seconds: float) -> None:
    return


async def _organization(core: Core) -> Principal:
    made = await create_organization(core.store, core.clock, name="Acme", slug="acme", actor="operator:tester")
    await give_shortcode(core, made.organization_id)
    # Two payouts of the larger sort in a day, and what has failed of them makes room again.
    await give_rule(core, made.organization_id, per_day=25_000)
    return Principal(made.organization_id, "key:tester", Role.MANAGER, Environment.SIMULATOR, None, "tester")
