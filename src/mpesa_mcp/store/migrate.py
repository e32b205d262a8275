"""Migrations: one way, small, the same on both databases.

`upgrade` runs them with the owner's rights; `revision_state` says whether the database is where this program expects.
"""

from contextlib import suppress
from enum import StrEnum
from functools import cache
from pathlib import Path

import anyio
from sqlalchemy import Connection, column, func, inspect, make_url, select, table
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from mpesa_mcp.store.engine import create_private_file
from mpesa_mcp.store.roles import grant, protect, roles_of_callbacks
from mpesa_mcp.store.unavailable import sqlstate_of

# PostgreSQL's lock for migrating: any number, the same in every version of this program.
_ONE_AT_A_TIME = 7_305_419

# Alembic's own table.
_VERSION = table("alembic_version", column("version_num"))
_SCRIPTS = Path(__file__).parent / "migrations"


class RevisionState(StrEnum):
    """Where the database stands against this program's migrations."""

    CURRENT = "current"
    BEHIND = "behind"
    NEWER = "newer"
    UNREACHABLE = "unreachable"
    NOT_LET_IN = "not_let_in"
    NO_SUCH_DATABASE = "no_such_database"
    NO_RIGHTS = "no_rights"

    @property
    def is_readable(self) -> bool:
        """Whether its migration could be read at all."""
        return self in {RevisionState.CURRENT, RevisionState.BEHIND, RevisionState.NEWER}


async def upgrade(url: str, *, application_url: str | None = None, callbacks_role: str | None = None) -> list[str]:
    """Brings the database at `url` to the newest migration; does nothing when it is there. Safe to run twice.

    `url` is the owner's. On PostgreSQL the user of `application_url`, and `callbacks_role`, are granted what they need
    and returned; a role of `callbacks` that is not named keeps what it has. Raises RoleMissing.
    """
    granted: list[str] = []
    if make_url(url).get_backend_name() == "sqlite":
        create_private_file(Path(make_url(url).database or ""))
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_upgrade)
            if connection.dialect.name == "postgresql":
                callbacks_roles = [callbacks_role] if callbacks_role else await connection.run_sync(roles_of_callbacks)
                await connection.run_sync(protect)
                granted = await connection.run_sync(
                    grant, application_url=application_url, callbacks_roles=callbacks_roles
                )
    finally:
        await engine.dispose()
    return granted


async def revision_state(url: str) -> RevisionState:
    """Compares the database with the migrations of this program."""
    if make_url(url).get_backend_name() == "sqlite" and not await anyio.Path(make_url(url).database or "").exists():
        return RevisionState.BEHIND
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            found = await connection.run_sync(_revision_of)
    except (SQLAlchemyError, OSError) as away:
        return state_after(away)
    finally:
        await engine.dispose()
    return state_of(found)


def state_after(error: BaseException) -> RevisionState:
    """What an operator can put right, where PostgreSQL said what it is: the password, the name, the grants."""
    match sqlstate_of(error):
        case "28P01" | "28000":
            return RevisionState.NOT_LET_IN
        case "3D000":
            return RevisionState.NO_SUCH_DATABASE
        case "42501":
            return RevisionState.NO_RIGHTS
        case _:
            return RevisionState.UNREACHABLE


def state_of(revision: str | None) -> RevisionState:
    """Where a database at this revision stands; None is one without any tables of ours."""
    known = _revisions()
    if revision == known[0]:
        return RevisionState.CURRENT
    return RevisionState.BEHIND if revision is None or revision in known else RevisionState.NEWER


@cache
def _revisions() -> tuple[str, ...]:
    """All revisions of this program, newest first: the numbers that the files begin with.

    Alembic would say so too, by running them all, at every start of every command.
    """
    return tuple(sorted((path.name[:4] for path in (_SCRIPTS / "versions").glob("[0-9]*.py")), reverse=True))


def _revision_of(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_VERSION.name):
        return None
    found: str | None = connection.execute(select(_VERSION.c.version_num)).scalar()
    return found


def _upgrade(connection: Connection) -> None:
    # Here alone, for it takes longer to import than most commands take.
    from alembic import command
    from alembic.config import Config

    if connection.dialect.name == "sqlite":
        # The write-ahead log belongs to the file from the start: switching to it later needs the file for oneself.
        with suppress(OperationalError):  # another process is at it
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        # One process migrates at a time; the driver alone would begin too late, after looking at the version.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(select(func.pg_advisory_xact_lock(_ONE_AT_A_TIME)))
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
