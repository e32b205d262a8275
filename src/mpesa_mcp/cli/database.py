"""`mpesa-mcp db`: bringing the database to the newest migration."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from mpesa_mcp.cli.output import Document, JsonOption, emit, quiet_settings, refusals
from mpesa_mcp.errors import Advice, InternalFault

if TYPE_CHECKING:
    from mpesa_mcp.settings import Settings
    from mpesa_mcp.store.migrate import RevisionState

commands = typer.Typer(no_args_is_help=True, help="The database.")


def trouble(state: "RevisionState", variable: str) -> tuple[str, str]:
    """What is wrong with a database whose migration cannot be read, and what to do; `variable` names its URL."""
    match state.value:
        case "not_let_in":
            return "The database refuses the user or the password.", f"Correct them in {variable}."
        case "no_such_database":
            return "The server has no database of that name.", f"Create it, or correct its name in {variable}."
        case "no_rights":
            return (
                "The user may not read the tables.",
                "Run: mpesa-mcp db upgrade, with MPESA_MCP_DATABASE_OWNER_URL set to the owner of the tables.",
            )
        case _:
            return "The database cannot be reached.", f"Check that it runs, and its address in {variable}."


class DatabaseNotUpgraded(InternalFault):
    """The migrations did not run; what was there is as it was."""

    code = "database_not_upgraded"
    advice = Advice.ASK_A_PERSON


@commands.callback()
def _group() -> None:
    """Keeps `db upgrade` two words while there is one command."""


@commands.command()
def upgrade(
    callbacks_role: Annotated[
        str | None,
        typer.Option(
            "--callbacks-role",
            metavar="ROLE",
            help="PostgreSQL: the role of `mpesa-mcp callbacks`; it may look a token up and store callbacks, no more.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the database to the newest migration, and grant what the program needs.

    On PostgreSQL this runs as the owner, MPESA_MCP_DATABASE_OWNER_URL; the grants go to the user of
    MPESA_MCP_DATABASE_URL. Safe to run again.
    """
    with refusals():
        result = asyncio.run(_upgrade(quiet_settings(), callbacks_role))
    emit(result, as_json=as_json)


async def _upgrade(settings: "Settings", callbacks_role: str | None) -> Document:
    from sqlalchemy.exc import SQLAlchemyError

    from mpesa_mcp.store.migrate import RevisionState, revision_state, state_after
    from mpesa_mcp.store.migrate import upgrade as run_migrations

    url = settings.owner_database_url
    variable = f"MPESA_MCP_DATABASE_{'OWNER_' if settings.database_owner_url else ''}URL"
    try:
        before = await revision_state(url)
        if before is RevisionState.NEWER:
            raise DatabaseNotUpgraded(
                "The database belongs to a newer version of mpesa-mcp. Install that version; nothing was changed."
            )
        if not before.is_readable and before is not RevisionState.NO_RIGHTS:
            raise DatabaseNotUpgraded(" ".join((*trouble(before, variable), "Nothing was changed.")))
        granted = await run_migrations(url, application_url=settings.database_url, callbacks_role=callbacks_role)
    except ModuleNotFoundError:
        raise DatabaseNotUpgraded(
            "The driver for this database is not installed. For PostgreSQL: pip install 'mpesa-mcp-server[postgres]'."
        ) from None
    except (SQLAlchemyError, OSError) as failed:
        # Not quoted: the driver's words carry the address, and the address a password.
        if state_after(failed) is RevisionState.NO_RIGHTS:
            raise DatabaseNotUpgraded(
                f"The user in {variable} may not change the tables. Set MPESA_MCP_DATABASE_OWNER_URL to the URL of "
                "their owner. Nothing was changed."
            ) from None
        raise DatabaseNotUpgraded(
            "The database refused the migration or went away; nothing was changed. See its log."
        ) from None
    return {"state": RevisionState.CURRENT, "changed": before is not RevisionState.CURRENT} | (
        {"granted_to": granted} if granted else {}
    )
