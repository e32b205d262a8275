"""Fixtures every folder shares: a migrated database of its own, keys, a clock that stands still.

Whatever takes `database` (or anything made from it: `settings`, `store`, ...) runs on SQLite and on PostgreSQL. The
PostgreSQL server comes from a wheel and starts by itself, once for each process that runs tests.
"""

import asyncio
import functools
import gc
import json
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import structlog
import typer.main
import typer.testing
from argon2 import PasswordHasher
from fastapi import FastAPI
from mcp.client.session import ClientSession
from pydantic import SecretStr

from mpesa_mcp.identity import passwords
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store, open_store
from mpesa_mcp.store.keyring import Keyring, load_master_key
from mpesa_mcp.store.migrate import upgrade
from mpesa_mcp.values import FrozenClock

from .compiled import compiled_once
from .furnished import Furnished, begins_at, furnish
from .postgresql import Cluster, Rows, running_cluster

MASTER_KEY = "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210"
KINDS = ["sqlite", "postgresql"]
# The table of outcomes is not among them: beside a storm, one file as the database of forty payments would be too slow.
LONGEST = ("/storm/", "/crash/test_crash", "/property/", "/isolation/test_api", "/trouble/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The modules that take longest come first: several processes run the suite, and the last must not be alone."""
    items.sort(key=lambda item: next((n for n, name in enumerate(LONGEST) if name in item.nodeid), len(LONGEST)))


def pytest_configure() -> None:
    """Loading makes no garbage."""
    gc.disable()


def pytest_collection_finish() -> None:
    """What is loaded by now stays: looking through it for garbage, again and again, is a seventh of all work."""
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    """A traceback with all its variables in colours takes seconds to draw, and nobody looks at it."""
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, plain])


@pytest.fixture(scope="session", autouse=True)
def statements_compiled_once() -> Iterator[None]:
    with compiled_once():
        yield


@pytest.fixture(scope="session", autouse=True)
def cheap_passwords() -> Iterator[None]:
    """Argon2id with hardly any work: in earnest it takes a core and 64 MiB for each sign-in."""
    earnest = passwords._HASHER
    assert (earnest.memory_cost, earnest.time_cost, earnest.parallelism) == (65_536, 3, 4)
    with patch.object(passwords, "_HASHER", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)):
        yield


@pytest.fixture(scope="session", autouse=True)
def commands_made_once() -> Iterator[None]:
    """Typer makes every command of the program anew for each that is run, which takes longer than most of them."""
    with patch.object(typer.testing, "_get_command", functools.cache(typer.main.get_command)):
        yield


@pytest.fixture(scope="session", autouse=True)
def document_made_once() -> Iterator[None]:
    """The document of the API is the same on every server; making it takes longer than most tests."""
    earnest, made = FastAPI.openapi, dict[str, str]()

    def openapi(api: FastAPI) -> dict[str, Any]:
        if api.title not in made:
            made[api.title] = json.dumps(earnest(api))
        document: dict[str, Any] = json.loads(made[api.title])
        return document

    with patch.object(FastAPI, "openapi", openapi):
        yield


@pytest.fixture(scope="session", autouse=True)
def results_checked_by_one_validator() -> Iterator[None]:
    """Every MCP client checks the schemas of the tools anew before their results, which takes longer than a call."""
    made: dict[str, Any] = {}
    earnest = ClientSession._output_schema_validator

    def validator(session: ClientSession, name: str, schema: dict[str, Any]) -> Any:
        key = json.dumps(schema, sort_keys=True)
        if key not in made:
            made[key] = earnest(session, name, schema)
        return made[key]

    with patch.object(ClientSession, "_output_schema_validator", validator):
        yield


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that servers run on; it also takes less for each of the small steps that tests consist of."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def clock() -> FrozenClock:
    """Half past eleven in Nairobi on a Monday."""
    return begins_at()


@pytest.fixture(scope="session")
def held_port() -> Iterator[Callable[[], int]]:
    """Gives ports for programs that are yet to start, which nobody else on this machine is given until the end.

    Each stays bound, though nobody listens on it but whom it was given to: a port that was only looked up may be
    somebody else's by the time the program starts, or be called by who had it before.
    """
    holders: list[socket.socket] = []

    def hold() -> int:
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as `listen` does, or it could not
        holder.bind(("127.0.0.1", 0))
        holders.append(holder)
        return int(holder.getsockname()[1])

    yield hold
    for holder in holders:
        holder.close()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database at the newest migration, to be copied: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("migrated") / "mpesa-mcp.db"
    asyncio.run(upgrade(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL of this test process."""
    with running_cluster() as running:
        yield running


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Both databases, unless a test is marked as being about one of them."""
    marked = [kind for kind in KINDS if metafunc.definition.get_closest_marker(kind)]
    if "database" in metafunc.fixturenames:
        metafunc.parametrize("database", marked or KINDS, indirect=True)
    if "module_database" in metafunc.fixturenames:
        metafunc.parametrize("module_database", marked or KINDS, indirect=True, scope="module")


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The settings that name a database of this test alone, at the newest migration."""
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    if request.param == "sqlite":
        migrated: Path = request.getfixturevalue("migrated")
        shutil.copy(migrated, data_dir / migrated.name)
        yield {"data_dir": data_dir}
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    if request.node.get_closest_marker("own_database"):
        with cluster.database() as own:
            yield {"data_dir": data_dir, **own}
        return
    # One database for all, emptied: copying one takes ten times as long.
    cluster.empty()
    yield {"data_dir": data_dir, **cluster.settings("shared")}


@pytest.fixture(scope="session")
def furnished_file(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Furnished:
    data_dir = tmp_path_factory.mktemp("furnished")
    shutil.copy(migrated, data_dir)
    return Furnished(asyncio.run(furnish(Settings(data_dir=data_dir))), data_dir)


@pytest.fixture(scope="session")
def furnished_rows(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Furnished, Rows]:
    data_dir = tmp_path_factory.mktemp("furnished")
    cluster.empty()
    made = asyncio.run(furnish(Settings(data_dir=data_dir, **cluster.settings("shared"))))
    rows = cluster.rows()
    cluster.empty()
    return Furnished(made, data_dir), rows


@pytest.fixture
def acme(request: pytest.FixtureRequest, database: dict[str, Any]) -> str:
    """The id of an organization with a shortcode, which the database of this test has from the start."""
    if request.node.get_closest_marker("own_database"):
        return asyncio.run(furnish(Settings(**database)))
    if "database_url" in database:
        furnished, rows = request.getfixturevalue("furnished_rows")
        request.getfixturevalue("cluster").put(rows)
    else:
        furnished = request.getfixturevalue("furnished_file")
    furnished.copy_to(database["data_dir"])
    return str(furnished.organization_id)


@pytest.fixture(scope="module")
def module_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """As `database`, for a whole module."""
    data_dir = tmp_path_factory.mktemp("module")
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated"), data_dir)
        yield {"data_dir": data_dir}
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    with cluster.database() as own:
        yield {"data_dir": data_dir, **own}


@pytest.fixture
def settings(database: dict[str, Any]) -> Settings:
    return Settings(**database, master_key=SecretStr(MASTER_KEY), reconcile_speed=100)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    opened = open_store(settings.effective_database_url)
    yield opened
    await opened.close()


@pytest.fixture
def keyring(store: Store, settings: Settings) -> Keyring:
    return Keyring(store, load_master_key(settings))
