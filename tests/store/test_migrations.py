"""Migrations: from nothing to what the models say, once, whoever else does the same."""

import importlib
import pkgutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import SQLModel

import mpesa_mcp
from mpesa_mcp.store.migrate import RevisionState, revision_state, state_of, upgrade
from mpesa_mcp.store.tables import OrganizationTable, PlatformTable

pytestmark = pytest.mark.anyio

UPGRADE = """
import sys, anyio
from mpesa_mcp.store.migrate import upgrade
anyio.run(upgrade, sys.argv[1])
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def load_all_models() -> None:
    for module in pkgutil.walk_packages(mpesa_mcp.__path__, "mpesa_mcp."):
        if ".migrations" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def schema(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return sorted(str(row) for row in connection.execute("SELECT type, name, sql FROM sqlite_master"))


def test_the_files_are_numbered_as_they_follow_each_other() -> None:
    followed = ScriptDirectory(str(Path(mpesa_mcp.__file__).parent / "store/migrations")).walk_revisions()
    newest, *older = [script.revision for script in followed]
    assert state_of(newest) is RevisionState.CURRENT
    assert {state_of(revision) for revision in older} == {RevisionState.BEHIND}
    assert [newest, *older] == sorted([newest, *older], reverse=True)
    assert state_of("9999") is RevisionState.NEWER


async def test_the_migrations_make_what_the_models_say(url: str) -> None:
    load_all_models()
    await upgrade(url)

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return list(compare_metadata(context, SQLModel.metadata))

    engine = create_async_engine(url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_the_migrations_make_the_keys_and_references_of_the_models(url: str) -> None:
    """What the comparison above leaves out: primary keys, and what foreign keys do."""
    load_all_models()
    await upgrade(url)

    def compare(connection: Connection) -> None:
        found = inspect(connection)
        for table in SQLModel.metadata.sorted_tables:
            keys = found.get_pk_constraint(table.name)["constrained_columns"]
            assert sorted(keys) == sorted(column.name for column in table.primary_key), table.name
            references = {tuple(one["constrained_columns"]) for one in found.get_foreign_keys(table.name)}
            assert references == {tuple(one.column_keys) for one in table.foreign_key_constraints}, table.name
            nullable = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
            assert nullable == {column.name: column.nullable for column in table.columns}, table.name

    engine = create_async_engine(url)
    async with engine.connect() as connection:
        await connection.run_sync(compare)
    await engine.dispose()


def test_every_table_belongs_to_an_organization_or_to_the_installation() -> None:
    load_all_models()
    mapped = {mapper.class_: mapper.local_table for mapper in SQLModel._sa_registry.mappers}
    assert len(mapped) > 10
    for model, table in mapped.items():
        keys = [column.name for column in inspect(model).primary_key]
        if issubclass(model, OrganizationTable):
            assert "organization_id" in keys
            for reference in table.foreign_key_constraints:  # type: ignore[attr-defined] # a table
                assert "organization_id" in reference.column_keys, table
        else:
            assert issubclass(model, PlatformTable), model
            assert "organization_id" not in table.columns


async def test_upgrading_twice_changes_nothing(url: str, path: Path) -> None:
    await upgrade(url)
    first = schema(path)
    await upgrade(url)
    assert schema(path) == first
    assert any("payments" in line for line in first)


def upgrade_in_three_processes(url: str) -> None:
    command = [sys.executable, "-c", UPGRADE, url]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=60)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], said


async def test_processes_that_upgrade_together_all_succeed(url: str, path: Path, tmp_path: Path) -> None:
    await anyio.to_thread.run_sync(upgrade_in_three_processes, url)
    await upgrade(f"sqlite+aiosqlite:///{tmp_path / 'alone.db'}")
    assert schema(path) == schema(tmp_path / "alone.db")
    assert await revision_state(url) is RevisionState.CURRENT


async def test_a_migration_that_fails_leaves_nothing_behind(url: str, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE payments (id TEXT)")
        connection.commit()
    with pytest.raises(Exception, match="already exists"):
        await upgrade(url)
    with closing(sqlite3.connect(path)) as connection:
        assert [row[0] for row in connection.execute("SELECT name FROM sqlite_master")] == ["payments"]


async def test_a_database_that_is_not_there_is_behind_and_not_made_by_looking(url: str, path: Path) -> None:
    assert await revision_state(url) is RevisionState.BEHIND
    assert not await anyio.Path(path).exists()


async def test_an_empty_database_is_behind(url: str, path: Path) -> None:
    await anyio.Path(path).touch()
    assert await revision_state(url) is RevisionState.BEHIND


async def test_an_upgraded_database_is_current(url: str) -> None:
    await upgrade(url)
    assert await revision_state(url) is RevisionState.CURRENT


@pytest.mark.parametrize(
    ("revision", "state"), [("0001", RevisionState.BEHIND), ("9999", RevisionState.NEWER)], ids=["older", "newer"]
)
async def test_a_database_of_another_version_is_told_from_ours(
    url: str, path: Path, revision: str, state: RevisionState
) -> None:
    await upgrade(url)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.commit()
    assert await revision_state(url) is state


async def test_a_file_that_is_no_database_is_unreachable(url: str, path: Path) -> None:
    await anyio.Path(path).write_bytes(b"no database at all " * 100)
    assert await revision_state(url) is RevisionState.UNREACHABLE
