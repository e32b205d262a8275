"""The database: whether it is there, at the newest migration, under row-level security, private, and on time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from mpesa_mcp.cli.database import trouble
from mpesa_mcp.cli.doctor.findings import Finding, Status
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.migrate import RevisionState, revision_state
from mpesa_mcp.values import Clock

# Leases and tokens allow for a few seconds between machines.
_SECONDS_APART: Final = 2.0
_MOST_NAMED: Final = 3
_SECONDS_TOO_FAR: Final = 30.0


async def database(settings: Settings) -> tuple[Finding, bool]:
    """The finding, and whether the tables can be read."""
    name = "database"
    path = settings.sqlite_path
    if path is not None and not path.exists():
        return Finding(name, Status.OK, "The database will be made at the first start."), False
    try:
        state = await revision_state(settings.effective_database_url)
    except ModuleNotFoundError:
        fix = "For PostgreSQL: pip install 'mpesa-mcp-server[postgres]'."
        return Finding(name, Status.PROBLEM, "The driver for this database is not installed.", fix), False
    except SQLAlchemyError:
        state = RevisionState.UNREACHABLE
    match state:
        case RevisionState.CURRENT:
            return Finding(name, Status.OK, "The database is reachable and at the newest migration."), True
        case RevisionState.BEHIND:
            return Finding(name, Status.PROBLEM, "The database lacks migrations.", "Run: mpesa-mcp db upgrade"), False
        case RevisionState.NEWER:
            fix = "Install the version of mpesa-mcp that made it."
            return Finding(name, Status.PROBLEM, "The database belongs to a newer version.", fix), False
        case _:
            return Finding(name, Status.PROBLEM, *trouble(state, "MPESA_MCP_DATABASE_URL")), False


async def row_security(store: Store) -> Sequence[Finding]:
    """Whether row-level security binds this program: it does not bind a table's owner, nor a superuser."""
    role = await store.role()
    if role is None:
        return []
    if role.is_restricted:
        return [Finding("database_role", Status.OK, "Row-level security binds the role this program connects as.")]
    return [
        Finding(
            "database_role",
            Status.WARNING,
            f"The role this program connects as {role.beyond}, so row-level security does not bind it.",
            "Make a role with LOGIN alone for MPESA_MCP_DATABASE_URL, put the owner into "
            "MPESA_MCP_DATABASE_OWNER_URL, and run: mpesa-mcp db upgrade",
        )
    ]


async def rights(store: Store) -> Sequence[Finding]:
    """Whether the role was granted all it needs: what lacks a grant looks, from outside, like a database away."""
    if not (lacking := await store.missing_rights()):
        return []
    said = f"The role this program connects as may not {_some(lacking)}."
    fix = "Run: mpesa-mcp db upgrade, with MPESA_MCP_DATABASE_OWNER_URL set to the owner of the tables."
    return [Finding("database_rights", Status.PROBLEM, said, fix)]


async def callbacks_roles(store: Store) -> Sequence[Finding]:
    """Whether the role of the process that faces the internet may do what it must, and no more."""
    findings = []
    for found in await store.callbacks_roles():
        name = found.role.name
        grant = f"Run: mpesa-mcp db upgrade --callbacks-role {name}"
        status = Status.WARNING
        if found.missing:
            status, said, fix = Status.PROBLEM, f"may not {_some(found.missing)}: callbacks are not stored.", grant
        elif beyond := found.role.beyond:
            said = f"{beyond}, and `callbacks` faces the internet."
            fix = "Take that from it; it needs LOGIN alone, and what db upgrade --callbacks-role grants."
        elif found.tables:
            said = f"may read or write {_some(found.tables)}, and needs no table."
            fix = f"{grant}; if it stays so, take from it the roles that it is a member of."
        else:
            status, said, fix = Status.OK, "may look a token up and store callbacks, and no more.", None
        findings.append(Finding("callbacks_role", status, f"The role of `callbacks`, {name}, {said}", fix))
    return findings


def _some(things: Sequence[str]) -> str:
    more = len(things) - _MOST_NAMED
    return f"{', '.join(things[:_MOST_NAMED])}{f' and {more} more' if more > 0 else ''}"


def files(settings: Settings) -> Sequence[Finding]:
    """SQLite files hold payments and phone numbers: nobody else on the machine reads them."""
    path = settings.sqlite_path
    if path is None or not path.exists():
        return []
    files = [path, *(beside for suffix in ("-wal", "-shm") if (beside := Path(f"{path}{suffix}")).exists())]
    if any(file.stat().st_mode & 0o077 for file in files):
        fix = f"Run: chmod 600 on {path.name}* in DATA_DIR"
        return [Finding("database_files", Status.PROBLEM, "Others on this machine can read the database.", fix)]
    return [Finding("database_files", Status.OK, "Only their owner can read the database files.")]


async def time_apart(store: Store, clock: Clock) -> Sequence[Finding]:
    """Whether this machine and the database's agree on the time, by which leases, tokens and reports go."""
    before = clock.now()
    theirs = await store.now()
    if theirs is None:
        return []  # SQLite has no clock but this machine's
    ours = before + (clock.now() - before) / 2
    apart = abs((theirs - ours).total_seconds())
    if apart <= _SECONDS_APART:
        return [Finding("clock", Status.OK, "This machine and the database's agree on the time.")]
    status = Status.PROBLEM if apart > _SECONDS_TOO_FAR else Status.WARNING
    said = f"This machine's clock and the database's are {apart:.0f} s apart: leases and tokens end too early or late."
    return [Finding("clock", status, said, "Have both machines set their clocks by NTP.")]
