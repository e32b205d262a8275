"""What one organization at ten times its limit costs another. Run by `make bench-neighbours`.

Two organizations of one `mpesa-mcp serve`, on SQLite and on PostgreSQL. The quiet one calls at half its limit all the
time; in turns of a few seconds the noisy one is silent, calls as often as it may, or ten times as often. Both read
their payments over /mcp. A ratio is the quiet one's mean latency in one turn against that of the silent turn beside it,
so that whatever else the machine does hits both; the figure is the median of the ratios. `--write` puts the table into
bench/README.md; the run fails when the figure of the noisiest turns is above 1.2.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from bench.callbacks import OWNER, README, answering, free_port, postgresql, started
from mpesa_mcp.app.core import open_core
from mpesa_mcp.billing.plans import PlanRecord, create_plan
from mpesa_mcp.billing.subscriptions import SubscriptionChange, set_subscription
from mpesa_mcp.identity.api_keys import create_key
from mpesa_mcp.identity.organizations import create_organization
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.migrate import upgrade
from mpesa_mcp.values import Environment, Kes, Role, new_id

_WORDS = {0: "never", 1: "as often as it may", 10: "ten times as often"}
OPERATOR = Actor("operator:bench", None)
MASTER_KEY = "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210"
# How often the noisy one calls, in its limits; and what it may cost the quiet one at most.
NOISE, MOST = (0, 1, 10), 1.2
NOISY_CONNECTIONS, QUIET_CONNECTIONS = 8, 2


@dataclass
class Measured:
    """One database: by how often the other calls, in its limits, the quiet one's turns and what became of the noise."""

    name: str
    quiet: dict[int, list[dict[str, Any]]] = field(default_factory=lambda: {times: [] for times in NOISE})
    noise: dict[int, list[dict[str, Any]]] = field(default_factory=lambda: {times: [] for times in NOISE})

    def ratios(self, times: int) -> list[float]:
        alone = self.quiet[0]
        return [turn["mean_ms"] / silent["mean_ms"] for turn, silent in zip(self.quiet[times], alone, strict=True)]

    def figure(self, times: int) -> float:
        return statistics.median(self.ratios(times))


async def prepare(settings: Settings, limit: int) -> list[str]:
    """Two organizations with this limit and twenty payments each; a key of either."""
    keys = []
    async with open_core(settings) as core:
        plan = PlanRecord(slug="bench", monthly_fee=Kes(0), calls_per_second=limit)
        await create_plan(core.store, core.clock, name="Bench", plan=plan, actor=OPERATOR)
        for slug in ("quiet", "noisy"):
            made = await create_organization(core.store, core.clock, name=slug, slug=slug, actor=OPERATOR.name)
            organization_id = made.organization_id
            change = SubscriptionChange(plan=plan.slug)
            await set_subscription(
                core.store, core.clock, organization_id=organization_id, change=change, actor=OPERATOR
            )
            async with core.store.session(organization_id) as session:
                session.add(*(a_payment(organization_id, core.clock.now()) for _ in range(20)))
            key = await create_key(
                core.store,
                core.keyring,
                core.clock,
                organization_id=organization_id,
                name="bench",
                role=Role.USER,
                environment=Environment.SIMULATOR,
                expires_at=None,
                tools=None,
                actor=OPERATOR,
            )
            keys.append(key.key.reveal())
    return keys


def a_payment(organization_id: str, now: Any) -> Payment:
    return Payment(
        organization_id=organization_id,
        id=new_id("pay"),
        kind="stk_push",
        status="succeeded",
        environment="simulator",
        shortcode_id="sc_bench",
        shortcode="174379",
        phone="254700000001",
        amount_cents=100_00,
        reference="BENCH",
        created_by="key:bench",
        created_at=now,
        updated_at=now,
    )


def calling(port: int, key: str, per_second: float, seconds: float, connections: int) -> "subprocess.Popen[bytes]":
    words = [str(each) for each in (port, per_second, seconds, connections)]
    env = os.environ | {"MPESA_MCP_API_KEY": key}
    return subprocess.Popen([sys.executable, "-m", "bench.calls", *words], env=env, stdout=subprocess.PIPE)  # noqa: S603 - our own words


def told(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit("a load ended before its time")
    answer: dict[str, Any] = json.loads(said)
    return answer


def turn(measured: Measured, port: int, keys: list[str], limit: int, seconds: float, times: int) -> None:
    quiet, loud = keys
    noise = calling(port, loud, times * limit, seconds, NOISY_CONNECTIONS) if times else None
    answer = told(calling(port, quiet, limit / 2, seconds, QUIET_CONNECTIONS))
    if answer["refused"]:
        raise SystemExit("the quiet organization was refused")
    measured.quiet[times].append(answer)
    if noise is not None:
        measured.noise[times].append(told(noise))


async def run(limit: int, rounds: int, seconds: float) -> list[Measured]:
    found = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        address = stack.enter_context(postgresql(directory / "postgresql"))
        await upgrade(address(OWNER))
        for name, database_url in (("SQLite", None), ("PostgreSQL", address(OWNER))):
            data_dir, port = directory / name, free_port()
            data_dir.mkdir(mode=0o700)
            given = {"DATA_DIR": str(data_dir), "MASTER_KEY": MASTER_KEY, "PORT": str(port)}
            settings = Settings(data_dir=data_dir, master_key=SecretStr(MASTER_KEY), database_url=database_url)
            keys = await prepare(settings, limit)
            if database_url:
                given["DATABASE_URL"] = database_url
            words = ("-c", "from mpesa_mcp.cli import main; main()", "serve", "--no-callbacks")
            with started(name, *words, port=port, **given):
                await answering(port)
                measured = Measured(name)
                turn(Measured("to warm up"), port, keys, limit, 2, NOISE[-1])
                for number in range(rounds):
                    # In the one order and then in the other, so that what grows over time favours neither.
                    for times in NOISE[:: -1 if number % 2 else 1]:
                        turn(measured, port, keys, limit, seconds, times)
                found.append(measured)
    return found


def table(found: list[Measured]) -> str:
    lines = [
        "| database | the other calls | quiet: mean ms | p50 | p95 | noise: calls/s | of them refused | ratio "
        "| of the rounds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in found:
        for times in NOISE:
            quiet = _medians(each.quiet[times])
            line = f"| {each.name} | {_WORDS[times]} "
            line += f"| {quiet['mean_ms']:.1f} | {quiet['p50_ms']:.1f} | {quiet['p95_ms']:.1f} |"
            if times:
                noise, ratios = _medians(each.noise[times]), each.ratios(times)
                line += (
                    f" {noise['per_second']:.0f} | {noise['refused'] / noise['calls']:.0%} | {each.figure(times):.2f} |"
                )
                line += f" {min(ratios):.2f} to {max(ratios):.2f} |"
            else:
                line += " | | | |"
            lines.append(line)
    return "\n".join(lines)


def _medians(turns: list[dict[str, Any]]) -> dict[str, float]:
    return {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=5, help="calls a second of each organization")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--write", action="store_true", help="put the table into bench/README.md")
    wanted = parser.parse_args()
    found = asyncio.run(run(wanted.limit, wanted.rounds, wanted.seconds))
    text = (
        f"{wanted.rounds} rounds of three turns of {wanted.seconds:.0f} s; limit {wanted.limit} calls a second of each "
        f"organization; Python {platform.python_version()}, {os.cpu_count()} cores shared by the loads, the "
        f"server and the database.\n\n{table(found)}"
    )
    sys.stdout.write(f"{text}\n")
    if wanted.write:
        between = re.compile(r"(?<=<!-- neighbours -->\n).*?(?=<!-- end of neighbours -->)", re.DOTALL)
        README.write_text(between.sub(f"{text}\n", README.read_text()))
    if (worst := max(each.figure(NOISE[-1]) for each in found)) > MOST:
        raise SystemExit(f"the quiet organization was slowed by {worst - 1:.0%}, more than a fifth")


if __name__ == "__main__":
    main()
