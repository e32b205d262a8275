"""The storm: four workers, a sidecar, two processes that ask, a simulator; and somebody who kills a worker each second.

Workers that die are started again. When everything has been asked for the killing stops, and what was cut off waits for
its lease. Whenever nothing is due any more, the clock that all of them share leaps to what is due next: over the times
between two questions, and in a short storm over the leases, too. In all else both are the same.
"""

import json
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
from sqlalchemy import make_url

from mpesa_mcp.app.core import open_core
from mpesa_mcp.app.local import SANDBOX_SECRETS
from mpesa_mcp.credentials.vault import SecretField
from mpesa_mcp.identity.organizations import create_organization
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.states import PaymentStatus
from mpesa_mcp.settings import Settings
from mpesa_mcp.values import Secret
from tests.shortcodes import give_shortcode
from tests.spending import give_wide_rules

from .crew import Crew, Member, crew
from .facts import Facts, Told, Waiting, collect, miscounted_spending, unrest
from .orders import TWO_SHORTCODES, Order, make_orders

_SUBMITTERS = 2
_WORKERS = 4
_SIMULATOR_DELAY_MS = 30
_LONGER_THAN_A_LEASE_SECONDS = 92.0
_SPEED = 100
# How long nothing must have changed before the clock leaps: longer than a call takes.
_QUIET_SECONDS = 1.0
_LOOK_SECONDS = 0.25
_SHORTEST_LEAP_SECONDS = 1.0
_INITIATOR = {SecretField.INITIATOR_NAME, SecretField.INITIATOR_PASSWORD}
_AWAY = "StoreUnavailable"
_BAD_LEVELS = {"error", "exception", "critical"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`seconds` is over how long the payments are asked for."""

    payments: int
    seconds: float
    organizations: int
    waits_for_leases: bool
    seed: int
    rests_within_seconds: float


@dataclass
class Figures:
    """What is printed. Times in seconds."""

    kills: int = 0
    leaps: int = 0
    asked: float = 0
    whole: float = 0
    refusals: int = 0
    away: int = 0
    deliveries: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)


@dataclass
class Storm:
    plan: Plan
    env: Mapping[str, str]
    crew: Crew
    core: Core
    simulator: httpx2.AsyncClient
    organizations: Mapping[str, str]
    figures: Figures = field(default_factory=Figures)
    workers: list[Member] = field(default_factory=list)
    ahead: float = 0.0

    async def rage(self) -> Facts:
        """The whole storm, and what is to be seen after it."""
        began = time.monotonic()
        orders = make_orders(
            count=self.plan.payments,
            seconds=self.plan.seconds,
            organizations=self.plan.organizations,
            seed=self.plan.seed,
        )
        sidecar = await self._start_sidecar()
        self._start_workers()
        submitters = self._submit(orders)
        await self._kill_while(submitters)
        self.figures.asked = time.monotonic() - began
        await self._rest()
        self.figures.whole = time.monotonic() - began
        await self._stop_workers()
        await sidecar.stop()
        return await self._look(orders, submitters)

    async def _start_sidecar(self) -> Member:
        """On PostgreSQL it has a role of its own."""
        own = dict(self.env)
        if url := own.get("MPESA_MCP_DATABASE_URL"):
            own["MPESA_MCP_DATABASE_URL"] = make_url(url).set(username="shop_callbacks").render_as_string()
        started = self.crew.start("callbacks", "--json", env=own)
        await listening(int(own["MPESA_MCP_CALLBACK_PORT"]))
        return started

    def _start_workers(self) -> None:
        self.workers = [self.crew.start("worker", "--json", env=self.env) for _ in range(_WORKERS)]

    async def _stop_workers(self) -> None:
        async with anyio.create_task_group() as stopping:
            for worker in self.workers:
                stopping.start_soon(worker.stop)

    def _submit(self, orders: Sequence[Order]) -> list[Member]:
        plan = self.crew.directory / "plan.json"
        asked = {"orders": [asdict(order) for order in orders], "organizations": self.organizations}
        plan.write_text(json.dumps(asked | {"begins_at": time.time() + 1}))
        return [self.crew.start("submit", str(plan), env=self.env) for _ in range(_SUBMITTERS)]

    async def _kill_while(self, submitters: Sequence[Member]) -> None:
        """Kills one worker a second and starts another, until everything was asked for."""
        chosen = random.Random(self.plan.seed)
        due = time.monotonic() + 1
        while any(submitter.is_running for submitter in submitters):
            await self._note_deliveries()
            await anyio.sleep(max(0, due - time.monotonic()))
            due += 1
            number = chosen.randrange(_WORKERS)
            self.workers[number].kill()
            self.workers[number] = self.crew.start("worker", "--json", env=self.env)
            self.figures.kills += 1

    async def _rest(self) -> None:
        """Until nothing more will happen by itself."""
        may_leap_at = time.monotonic() + (_LONGER_THAN_A_LEASE_SECONDS if self.plan.waits_for_leases else 0)
        seen: list[tuple[str, str, int]] = []
        since = time.monotonic()
        try:
            with anyio.fail_after(self.plan.rests_within_seconds):
                while looked := await unrest(self.core, self.organizations):
                    now = time.monotonic()
                    changing = sorted(each.state for each in looked)
                    if changing != seen:
                        seen, since = changing, now
                    elif now - since > _QUIET_SECONDS and now > may_leap_at:
                        self._leap(looked)
                        since = now
                    await self._note_deliveries()
                    await anyio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            raise AssertionError(f"it does not come to rest: {seen}") from None

    def _leap(self, waiting: Sequence[Waiting]) -> None:
        """To the moment when all of this is due; what waits to be sent must not grow too old, so to its next moment."""
        queued = [each.until for each in waiting if each.status == PaymentStatus.QUEUED]
        until = min(queued) if queued else max(each.until for each in waiting)
        ahead = (until - datetime.now(UTC)).total_seconds()
        self.ahead = max(ahead, self.ahead + _SHORTEST_LEAP_SECONDS)
        self.crew.set_clock(self.ahead)
        self.figures.leaps += 1

    async def _note_deliveries(self) -> None:
        """The simulator remembers the last thousand."""
        for each in (await self.simulator.get("/_sim/deliveries")).json():
            self.figures.deliveries[f"{each['at']} {each['url']} {each['about']}"] = each

    async def _look(self, orders: Sequence[Order], submitters: Sequence[Member]) -> Facts:
        await self._note_deliveries()
        ledger = (await self.simulator.get("/_sim/ledger")).json()
        rows, strays = await collect(self.core, self.organizations, ledger)
        said = [json.loads(line) for submitter in submitters for line in submitter.said.splitlines()]
        self.figures.refusals = sum("refused" in each for each in said)
        told: dict[str, Told] = {}
        async with anyio.create_task_group() as asking:
            for slug in self.organizations:
                asking.start_soon(self._ask, slug, told)
        return Facts(
            rows=rows,
            strays=strays,
            answers=[each for each in said if "order" in each],
            told=told,
            complaints=self._complaints(),
            miscounted=await miscounted_spending(self.core, self.organizations),
            orders=len(orders),
        )

    async def _ask(self, slug: str, told: dict[str, Told]) -> None:
        today = datetime.now(UTC)
        period = ("--from", f"{today - timedelta(days=1):%Y-%m-%d}", "--to", f"{today + timedelta(days=1):%Y-%m-%d}")
        listed = await self.crew.ask("payment", "review", "--org", slug, env=self.env)
        compared = await self.crew.ask("reconcile", "--org", slug, *period, env=self.env)
        review: dict[str, set[str]] = {}
        for each in listed:
            review.setdefault(each["status"], set()).add(each["payment_id"])
        told[slug] = Told(review=review, reconcile=compared)

    def _complaints(self) -> list[str]:
        """Errors in any log, and processes that ended though nobody ended them.

        Who waits for his turn at the database longer than it allows says so and loses only time: that is counted.
        """
        complaints = []
        for member in self.crew.members:
            name = member.files.name
            for line in member.logged():
                if line.get("level") in _BAD_LEVELS and _AWAY in line.get("exception", ""):
                    self.figures.away += 1
                elif line.get("level") in _BAD_LEVELS:
                    complaints.append(f"{name}: {json.dumps(line)[:3000]}")
                elif line.get("level") == "warning":
                    event = f"{member.words[0]}: {line.get('event')}"
                    self.figures.warnings[event] = self.figures.warnings.get(event, 0) + 1
            if member.exit_code not in {None, 0} and member.words[0] != "reconcile":
                complaints.append(f"{name} ended with {member.exit_code}")
        return complaints


@asynccontextmanager
async def storm(
    plan: Plan, database: Mapping[str, Any], directory: Path, *, simulator_port: int, callback_port: int
) -> AsyncIterator[Storm]:
    """Everything that is needed for a storm on the database that these settings name."""
    values = {
        **database,
        "simulator_url": f"http://127.0.0.1:{simulator_port}",
        "public_url": f"http://127.0.0.1:{callback_port}",
        "callback_port": callback_port,
        "reconcile_speed": _SPEED,
        "daraja_calls_per_second": 10_000,
        "log_level": "WARNING",
    }
    env = {f"MPESA_MCP_{name.upper()}": str(value) for name, value in values.items()}
    with crew(directory) as started:
        words = ("--port", str(simulator_port), "--delay-ms", str(_SIMULATOR_DELAY_MS), "--seed", str(plan.seed))
        started.start("simulator", "--json", *words, env={})
        await listening(simulator_port)
        async with (
            open_core(Settings(**values)) as core,
            httpx2.AsyncClient(base_url=str(values["simulator_url"]), trust_env=False, timeout=30) as simulator,
        ):
            organizations = {
                slug: await _organization(core, slug, number)
                for number, slug in enumerate(f"shop-{number}" for number in range(plan.organizations))
            }
            yield Storm(plan, env, started, core, simulator, organizations)


async def _organization(core: Core, slug: str, number: int) -> str:
    """One with its own Daraja app; one of them collects and pays with a shortcode each."""
    made = await create_organization(core.store, core.clock, name=slug, slug=slug, actor="operator:storm")
    app = {SecretField.CONSUMER_KEY: Secret(f"key-{number}"), SecretField.CONSUMER_SECRET: Secret(f"secret-{number}")}
    secrets = {**SANDBOX_SECRETS, **app}
    shortcodes: dict[str, Mapping[SecretField, Secret]] = {f"60000{number}": secrets}
    if slug == TWO_SHORTCODES:
        collects: Mapping[SecretField, Secret] = {
            name: secret for name, secret in secrets.items() if name not in _INITIATOR
        }
        pays: Mapping[SecretField, Secret] = {
            name: secret for name, secret in secrets.items() if name is not SecretField.PASSKEY
        }
        shortcodes = {f"60000{number}": collects, f"70000{number}": pays}
    for shortcode, its in shortcodes.items():
        await give_shortcode(core, made.organization_id, shortcode=shortcode, secrets=its)
    await give_wide_rules(core, made.organization_id)
    return made.organization_id


async def listening(port: int) -> None:
    """Waits until somebody takes connections there."""
    with anyio.fail_after(30):
        while True:
            try:
                stream = await anyio.connect_tcp("127.0.0.1", port)
            except OSError:
                await anyio.sleep(0.02)
            else:
                await stream.aclose()
                return
