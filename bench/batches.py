"""How fast a batch is checked and paid, and in how much memory. Run by `make bench-batches`.

One process on SQLite (synchronous FULL): worker, sidecar and feeder, as `mpesa-mcp serve` runs them; the simulator is
another process on the same cores. The Daraja limiter is set high, so that our own cost shows. The run fails unless the
simulator's ledger has every row once. `--write` puts the table into bench/README.md; `--profile F` writes where the
process's own time goes.
"""

import argparse
import asyncio
import cProfile
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx2
from pydantic import SecretStr
from uvicorn.loops.auto import auto_loop_factory

from bench.callbacks import README, answering, free_port, started
from mpesa_mcp.app.core import open_core
from mpesa_mcp.app.http import collect_seldom, listen, port_of, serving
from mpesa_mcp.app.local import add_simulator_access
from mpesa_mcp.app.worker import working
from mpesa_mcp.callbacks.sidecar import create_sidecar
from mpesa_mcp.identity.organizations import create_organization
from mpesa_mcp.identity.principal import Actor, Principal
from mpesa_mcp.logs import configure_logs
from mpesa_mcp.payments.batches.files import rows_of_csv
from mpesa_mcp.payments.batches.reading import find_batch
from mpesa_mcp.payments.batches.states import Outcome
from mpesa_mcp.payments.batches.submission import BatchRequest, submit_batch
from mpesa_mcp.payments.core import Core
from mpesa_mcp.policy.changes import set_rule
from mpesa_mcp.policy.rules import ORGANIZATION, Rule
from mpesa_mcp.settings import Settings
from mpesa_mcp.values import Environment, Kes, Role

OPERATOR = Actor("operator:bench", None)
MASTER_KEY = "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210"


@dataclass(frozen=True)
class Measured:
    """Seconds and megabytes of one run; `busy` are the seconds of processor that paying took in this process."""

    rows: int
    checked_in: float
    paid_in: float
    busy: float
    mb_at_start: float
    mb_checked: float
    mb_at_the_end: float

    @property
    def rate(self) -> float:
        return self.rows / self.paid_in


def a_file(rows: int) -> bytes:
    """A payroll whose every row succeeds: phones that end in 00 to 79."""
    lines = ["phone,amount,reference,remarks"]
    for number in range(rows):
        phone = f"07{number // 80:06d}{number % 80:02d}"
        lines.append(f"{phone},{100 + number % 900},SAL-{number % 1000:03d},November salary")
    return "\n".join(lines).encode()


@asynccontextmanager
async def installation(simulator_url: str, directory: Path) -> AsyncIterator[tuple[Core, Principal]]:
    opened = listen("127.0.0.1", 0)
    settings = Settings(
        data_dir=directory,
        master_key=SecretStr(MASTER_KEY),
        port=port_of(opened),
        simulator_url=simulator_url,
        daraja_calls_per_second=10_000,
    )
    async with AsyncExitStack() as stack:
        core = await stack.enter_async_context(open_core(settings))
        await stack.enter_async_context(serving(create_sidecar(core.store, settings, core.clock), opened))
        made = await create_organization(core.store, core.clock, name="Bench", slug="bench", actor="operator:bench")
        await add_simulator_access(core, made.organization_id, role=Role.MANAGER)
        # Nothing is held for a person, and nothing is declined.
        wide = Rule(per_day=Kes.from_shillings(1_000_000_000))
        await set_rule(
            core.store, core.clock, organization_id=made.organization_id, scope=ORGANIZATION, rule=wide, actor=OPERATOR
        )
        await stack.enter_async_context(working(core))
        collect_seldom()
        principal = Principal(
            made.organization_id, "operator:bench", Role.MANAGER, Environment.SIMULATOR, None, "operator:bench"
        )
        yield core, principal


async def measure(rows: int, simulator_url: str, directory: Path, profile: str | None) -> Measured:
    content = a_file(rows)
    async with installation(simulator_url, directory) as (core, principal):
        at_start = resident_mb()
        began = time.perf_counter()
        request = BatchRequest(name="Payroll", rows=rows_of_csv(content), idempotency_key="payroll")
        batch = (await submit_batch(core, principal, request)).batch
        checked_in, checked_mb = time.perf_counter() - began, resident_mb()
        with profiled(profile):
            began, busy = time.perf_counter(), time.process_time()
            while not batch.status.is_at_rest:
                await anyio.sleep(1)
                batch = await find_batch(core, principal, batch.batch_id)
            paid_in, busy = time.perf_counter() - began, time.process_time() - busy
        if batch.totals[Outcome.SUCCEEDED].count != rows:
            raise SystemExit(f"not every row was paid: {batch.totals}")
        async with httpx2.AsyncClient(base_url=simulator_url, trust_env=False) as http:
            ledger = (await http.get("/_sim/ledger")).json()
        paid = {movement["originator_conversation_id"] for movement in ledger}
        if len(ledger) != rows or len(paid) != rows:
            raise SystemExit(f"{len(ledger)} movements at the simulator for {rows} rows")
        return Measured(rows, checked_in, paid_in, busy, at_start, checked_mb, resident_mb())


@contextmanager
def profiled(path: str | None) -> Iterator[None]:
    if path is None:
        yield
        return
    profile = cProfile.Profile()
    profile.enable()
    yield
    profile.disable()
    profile.dump_stats(path)


def resident_mb() -> float:
    said = subprocess.check_output(["ps", "-o", "rss=", "-p", str(os.getpid())])  # noqa: S603, S607 - our own words
    return int(said) / 1024


def write(measured: Measured) -> None:
    lines = [
        f"{measured.rows:,} rows; Python {platform.python_version()}, 2 cores shared with the simulator.",
        "",
        "| checked and stored in s | paid in s | rows/s | processor ms/row | MB at start | checked | at the end |",
        "|---|---|---|---|---|---|---|",
        f"| {measured.checked_in:.1f} | {measured.paid_in:.0f} | {measured.rate:.0f} "
        f"| {1000 * measured.busy / measured.rows:.1f} | {measured.mb_at_start:.0f} "
        f"| {measured.mb_checked:.0f} | {measured.mb_at_the_end:.0f} |",
    ]
    table = "\n".join(("<!-- batches -->", *lines, "<!-- end of batches -->"))
    text = re.sub(r"<!-- batches -->.*<!-- end of batches -->", table, README.read_text(), flags=re.DOTALL)
    README.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--profile")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    configure_logs("WARNING")
    port = free_port()
    words = ("-c", "from mpesa_mcp.cli import main; main()", "simulator", "--port", str(port), "--delay-ms", "1000")
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, started("simulator", *words, port=port) as server:
        asyncio.run(answering(server.port))
        url = f"http://127.0.0.1:{port}"
        # On the loop that `serve` runs on.
        with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
            measured = runner.run(measure(asked.rows, url, Path(directory), asked.profile))
    sys.stdout.write(f"{measured}\n{measured.rate:.1f} rows/s\n")
    if asked.write:
        write(measured)


if __name__ == "__main__":
    main()
