"""What the administration commands share: running, refusing, printing, and who the operator is.

stdout carries the result and nothing else: one JSON value with `--json`, else a table. Everything said to a person on
the side, refusals included, goes to stderr. Heavy modules load inside the functions, so that `--help` stays quick.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from mpesa_mcp.errors import InternalFault, MpesaMcpError
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.values import EAT, MEMBER_ROLES, Role

if TYPE_CHECKING:
    from mpesa_mcp.payments.core import Core
    from mpesa_mcp.settings import Settings

Result = TypeVar("Result")
Document = Mapping[str, object]

# Wider than any row: what reads a pipe or a file takes lines, and commands in them are copied.
_WIDTH_OF_A_FILE = 100_000

OrgOption = Annotated[str, typer.Option("--org", help="The organization's slug.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]


if TYPE_CHECKING:
    MemberRole = Role
else:  # what a command offers are all the words of an enumeration
    MemberRole = StrEnum("MemberRole", {role.name: role.value for role in MEMBER_ROLES})


def run(act: Callable[["Core"], Awaitable[Result]]) -> Result:
    """Runs `act` with this installation's store, keys and Daraja client; a refusal ends the command."""
    with refusals():
        return asyncio.run(_with_core(act))


@contextmanager
def refusals() -> Iterator[None]:
    """Turns a refusal into its one message on stderr and exit code 1."""
    try:
        yield
    except MpesaMcpError as refused:
        say(refused.message)
        if getattr(refused, "lacks_right", False):
            say("Its role lacks a right that it needs. Run: mpesa-mcp db upgrade")
        raise typer.Exit(1) from None


def quiet_settings() -> "Settings":
    """The settings, with logs on stderr and down to warnings: a command's result is its only news."""
    from mpesa_mcp.logs import configure_logs
    from mpesa_mcp.settings import load_settings

    settings = load_settings()
    configure_logs("WARNING" if settings.log_level == "INFO" else settings.log_level)
    return settings


def emit(value: Document | Sequence[Document], *, as_json: bool, columns: Sequence[str] = ()) -> None:
    """Prints a result: one document as lines, several as a table of `columns`, either as JSON."""
    if as_json:
        typer.echo(json.dumps(value, default=_plain))
        sys.stdout.flush()
    elif isinstance(value, Mapping):
        width = max((len(name) for name in value), default=0)
        for name, content in value.items():
            typer.echo(f"{name:<{width}}  {_words(content)}")
    else:
        _print_table(value, columns)


def say(message: str) -> None:
    """One line to the person, on stderr."""
    typer.echo(message, err=True)


def acting() -> Actor:
    """The operator of the machine, who may administer everything."""
    return Actor(operator(), None)


def operator() -> str:
    """Who runs this command, for the audit: the name of the real user id, not what the environment claims."""
    try:
        import pwd
    except ImportError:  # Windows
        import getpass

        return f"operator:{getpass.getuser()}"
    try:
        return f"operator:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:  # a container whose user has no name
        return f"operator:uid-{os.getuid()}"


async def _with_core(act: Callable[["Core"], Awaitable[Result]]) -> Result:
    settings = quiet_settings()
    from sqlalchemy.exc import SQLAlchemyError

    from mpesa_mcp.app.core import open_core

    try:
        async with open_core(settings) as core:
            return await act(core)
    except (SQLAlchemyError, OSError) as unusable:
        raise InternalFault(
            "The database or DATA_DIR cannot be used as it is; nothing was changed. "
            "mpesa-mcp doctor says what is wrong."
        ) from unusable


def _print_table(rows: Sequence[Document], columns: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        # Text, not markup: a name with [brackets] is a name.
        table.add_row(*(Text(_words(row[column])) for column in columns))
    width = None if sys.stdout.isatty() else _WIDTH_OF_A_FILE
    Console(width=width).print(table if rows else "none")


def _words(content: object) -> str:
    match content:
        case None:
            return "-"
        case bool():
            return "yes" if content else "no"
        case datetime():
            return content.astimezone(EAT).strftime("%Y-%m-%d %H:%M:%S EAT")
        case frozenset() | set():
            return _words(sorted(content))
        case list() | tuple():
            return ", ".join(_words(item) for item in content) or "-"
        case Mapping():
            return "; ".join(f"{name}: {_words(item)}" for name, item in content.items()) or "-"
        case _:
            return str(content)


def _plain(content: object) -> object:
    match content:
        case datetime():
            return _moment(content)
        case frozenset() | set():
            return sorted(content)
        case _:
            raise TypeError(f"{type(content).__name__} is no part of a result")


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
