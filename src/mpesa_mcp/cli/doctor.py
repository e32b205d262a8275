"""`mpesa-mcp doctor`: looks at an installation and says what is wrong and how to put it right.

It changes nothing: no key is made, no migration runs, no address is called, and no secret is shown.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mpesa_mcp.cli.database import trouble
from mpesa_mcp.cli.output import JsonOption, emit, quiet_settings, say
from mpesa_mcp.errors import InputError
from mpesa_mcp.values import Environment

if TYPE_CHECKING:
    from mpesa_mcp.daraja.trouble import Reason
    from mpesa_mcp.settings import Settings

commands = typer.Typer()


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `fix` says what to do, unless all is well."""

    name: str
    status: Status
    message: str
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class Shortcodes:
    """What the store holds, as far as the other findings need to know it."""

    environments: frozenset[Environment] = frozenset()
    production_initiator: bool = False


@commands.command()
def doctor(as_json: JsonOption = False) -> None:
    """Look for what is wrong with this installation. Exits with 1 when there is a problem."""
    findings = asyncio.run(examine())
    emit([asdict(f) for f in findings], as_json=as_json, columns=("name", "status", "message", "fix"))
    if problems := sum(finding.status is Status.PROBLEM for finding in findings):
        say(f"{problems} problem{'s' if problems > 1 else ''} found.")
        raise typer.Exit(1)


async def examine() -> Sequence[Finding]:
    """All findings, in the order in which one would put them right."""
    try:
        settings = quiet_settings()
    except InputError as bad:
        return [Finding("settings", Status.PROBLEM, bad.message, "Correct or unset the variables named.")]
    findings = [
        Finding("settings", Status.OK, f"The settings are readable; ENVIRONMENT is {settings.environment}."),
        _data_dir(settings),
    ]
    if findings[-1].status is not Status.OK:
        return findings
    findings.append(_master_key(settings))
    usable = all(finding.status is Status.OK for finding in findings)
    database, readable = await _database(settings)
    findings += [database, *_database_files(settings)]
    if readable:
        findings += await _database_role(settings)
    shortcodes = Shortcodes()
    if usable and readable:
        shortcodes, credentials = await _credentials(settings)
        findings += [credentials, *await _daraja(settings)]
    findings.append(await _rate_limits(settings))
    return [*findings, _public_url(settings, shortcodes), await _certificate(settings, shortcodes)]


def _data_dir(settings: "Settings") -> Finding:
    path = settings.data_dir
    try:
        there = path.exists()
        usable = not there or (path.is_dir() and os.access(path, os.R_OK | os.W_OK | os.X_OK))
    except OSError:
        usable = False
    if not usable:
        fix = "Make it a directory of the user that runs mpesa-mcp, or set MPESA_MCP_DATA_DIR to one."
        return Finding("data_dir", Status.PROBLEM, "DATA_DIR cannot be used.", fix)
    return Finding("data_dir", Status.OK, "DATA_DIR is usable." if there else "DATA_DIR will be made when needed.")


def _master_key(settings: "Settings") -> Finding:
    from mpesa_mcp.store.keyring import load_master_key

    made_here = settings.master_key is None and settings.master_key_file is None and not settings.is_production
    if made_here and not (settings.data_dir / "master.key").exists():
        return Finding("master_key", Status.OK, "The master key will be made at the first start.")
    try:
        load_master_key(settings)
    except InputError as missing:
        return Finding("master_key", Status.PROBLEM, "There is no usable master key.", missing.message)
    if made_here:
        return Finding("master_key", Status.OK, "The master key is in DATA_DIR. Keep a copy apart from the database.")
    return Finding("master_key", Status.OK, "The master key is set.")


async def _database(settings: "Settings") -> tuple[Finding, bool]:
    """The finding, and whether the tables can be read."""
    from sqlalchemy.exc import SQLAlchemyError

    from mpesa_mcp.store.migrate import RevisionState, revision_state

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


async def _database_role(settings: "Settings") -> Sequence[Finding]:
    """Whether row-level security binds this program: it does not bind a table's owner, nor a superuser."""
    from mpesa_mcp.store.engine import StoreUnavailable, open_store

    store = open_store(settings.effective_database_url)
    try:
        role = await store.role()
    except StoreUnavailable as away:
        return [Finding("database_role", Status.PROBLEM, away.message, "Run: mpesa-mcp doctor again")]
    finally:
        await store.close()
    if role is None:
        return []
    if role.is_restricted:
        return [Finding("database_role", Status.OK, "Row-level security binds the role this program connects as.")]
    marks = {
        "is a superuser": role.is_superuser,
        "has BYPASSRLS": role.bypasses_row_security,
        "owns tables": role.owns_tables,
        "may create in the schema": role.creates,
    }
    what = " and ".join(words for words, is_so in marks.items() if is_so)
    return [
        Finding(
            "database_role",
            Status.WARNING,
            f"The role this program connects as {what}, so row-level security does not bind it.",
            "Make a role with LOGIN alone for MPESA_MCP_DATABASE_URL, put the owner into "
            "MPESA_MCP_DATABASE_OWNER_URL, and run: mpesa-mcp db upgrade",
        )
    ]


def _database_files(settings: "Settings") -> Sequence[Finding]:
    """SQLite files hold payments and phone numbers: nobody else on the machine reads them."""
    path = settings.sqlite_path
    if path is None or not path.exists():
        return []
    files = [path, *(beside for suffix in ("-wal", "-shm") if (beside := Path(f"{path}{suffix}")).exists())]
    if any(file.stat().st_mode & 0o077 for file in files):
        fix = f"Run: chmod 600 on {path.name}* in DATA_DIR"
        return [Finding("database_files", Status.PROBLEM, "Others on this machine can read the database.", fix)]
    return [Finding("database_files", Status.OK, "Only their owner can read the database files.")]


async def _credentials(settings: "Settings") -> tuple[Shortcodes, Finding]:
    """Opens every shortcode once, so that a wrong master key shows here and not at a payment."""
    from mpesa_mcp.credentials.shortcodes import ShortcodeNeed, list_shortcodes, mark_secrets
    from mpesa_mcp.store.crossings import list_organizations
    from mpesa_mcp.store.engine import StoreUnavailable, open_store
    from mpesa_mcp.store.keyring import open_keyring
    from mpesa_mcp.values.sealing import SealBroken

    store = open_store(settings.effective_database_url)
    found = []
    try:
        keyring = open_keyring(store, settings)
        for organization_id in await list_organizations(store):
            for shortcode in await list_shortcodes(store, organization_id):
                await mark_secrets(store, keyring, organization_id, shortcode.shortcode_id)
                found.append(shortcode)
    except SealBroken as broken:
        fix = "Set the master key the secrets were sealed with, or set the credentials again."
        return Shortcodes(), Finding("credentials", Status.PROBLEM, broken.message, fix)
    except StoreUnavailable as away:
        return Shortcodes(), Finding("credentials", Status.PROBLEM, away.message, "Run: mpesa-mcp doctor again")
    finally:
        await store.close()
    shortcodes = Shortcodes(
        environments=frozenset(shortcode.environment for shortcode in found),
        production_initiator=any(
            shortcode.environment is Environment.PRODUCTION and shortcode.secrets >= ShortcodeNeed.INITIATOR.fields
            for shortcode in found
        ),
    )
    return shortcodes, _present(settings, shortcodes)


def _present(settings: "Settings", shortcodes: Shortcodes) -> Finding:
    if settings.is_production and Environment.SIMULATOR in shortcodes.environments:
        return Finding(
            "credentials",
            Status.WARNING,
            "There are simulator shortcodes, which ENVIRONMENT production refuses to use.",
            "Run: mpesa-mcp credentials remove --org ... --environment simulator --shortcode ...",
        )
    if not shortcodes.environments:
        return Finding(
            "credentials",
            Status.WARNING,
            "No organization has Daraja credentials yet.",
            "Run: mpesa-mcp credentials set --org ... --environment ... --shortcode ... --type ...",
        )
    named = ", ".join(environment for environment in Environment if environment in shortcodes.environments)
    return Finding("credentials", Status.OK, f"Credentials are present and can be opened: {named}.")


async def _daraja(settings: "Settings") -> Sequence[Finding]:
    """Which environments' calls are paused, as the processes that make them have written down."""
    from mpesa_mcp.daraja.circuits import CircuitState, outages
    from mpesa_mcp.store.engine import StoreUnavailable, open_store
    from mpesa_mcp.values import SystemClock

    store = open_store(settings.effective_database_url)
    now = SystemClock().now()
    try:
        found = await outages(store, now)
    except StoreUnavailable as away:
        return [Finding("daraja", Status.PROBLEM, away.message, "Run: mpesa-mcp doctor again")]
    finally:
        await store.close()
    if not found:
        return [Finding("daraja", Status.OK, "No calls to Safaricom are paused.")]
    findings = []
    for environment in Environment:
        told = [outage for outage in found if outage.environment is environment]
        if not told:
            continue
        reasons = " and ".join(dict.fromkeys(outage.reason.words for outage in told))
        name = "The simulator" if environment is Environment.SIMULATOR else "Safaricom"
        seconds = max(0, round((told[0].retry_at - now).total_seconds()))
        again = f"in {seconds} s" if told[0].state is CircuitState.OPEN else "with the next payment"
        findings.append(
            Finding(
                f"daraja_{environment}",
                Status.WARNING,
                f"{name} {reasons}. Payments wait in the queue and are not lost; it is tried again {again}.",
                _remedy(environment, told[0].reason),
            )
        )
    return findings


def _remedy(environment: Environment, reason: "Reason") -> str:
    from mpesa_mcp.daraja.trouble import Reason

    if environment is Environment.SIMULATOR:
        return "Start: mpesa-mcp simulator (or remove the faults that were ordered there)."
    match reason:
        case Reason.RATE_LIMITED | Reason.QUOTA_USED_UP:
            return "Wait, or lower MPESA_MCP_DARAJA_CALLS_PER_SECOND; ask Safaricom for a higher limit."
        case Reason.NOT_CONNECTED:
            return "Check this machine's network, DNS and firewall; otherwise wait."
        case Reason.WEB_PAGE:
            return "Ask Safaricom whether this machine's address may reach Daraja, and whether the app is live."
        case Reason.NO_ANSWER | Reason.SERVER_ERROR:
            return "Wait; if it lasts, ask Safaricom about an outage or maintenance."


async def _rate_limits(settings: "Settings") -> Finding:
    from mpesa_mcp.billing.rates import RateLimiter

    name = "rate_limits"
    if settings.redis_url is None:
        return Finding(name, Status.OK, "Each process counts rate limits in its own memory.")
    try:
        limiter = RateLimiter(settings.redis_url)
        reachable = await limiter.is_reachable()
        await limiter.close()
    except InputError as missing:
        return Finding(name, Status.PROBLEM, "Rate limits cannot be counted together.", missing.message)
    if reachable:
        return Finding(name, Status.OK, "The store behind REDIS_URL counts rate limits for all processes.")
    fix = "Start the Redis or Valkey server, or correct MPESA_MCP_REDIS_URL; unset it if there is one process only."
    return Finding(name, Status.PROBLEM, "The store behind REDIS_URL does not answer: no money is paid out.", fix)


def _public_url(settings: "Settings", shortcodes: Shortcodes) -> Finding:
    """Only the shape is judged: whether Safaricom gets through is seen with the first callback."""
    from mpesa_mcp.settings import is_private

    name = "public_url"
    if not shortcodes.environments - {Environment.SIMULATOR}:
        return Finding(name, Status.OK, "PUBLIC_URL is not needed without sandbox or production credentials.")
    fix = "Set MPESA_MCP_PUBLIC_URL to the https address under which Safaricom reaches /cb."
    if settings.public_url is None:
        return Finding(name, Status.PROBLEM, "PUBLIC_URL is not set, so Safaricom cannot deliver callbacks.", fix)
    if is_private(settings.public_url):
        return Finding(name, Status.PROBLEM, "PUBLIC_URL is an address that Safaricom cannot reach.", fix)
    return Finding(name, Status.OK, "PUBLIC_URL is an address that Safaricom accepts.")


async def _certificate(settings: "Settings", shortcodes: Shortcodes) -> Finding:
    import anyio

    from mpesa_mcp.daraja.credential import certificate_sha256, load_certificate

    name = "daraja_certificate"
    fix = "Download the production certificate from the Daraja portal; set MPESA_MCP_DARAJA_CERTIFICATE to its file."
    if settings.daraja_certificate is None:
        if shortcodes.production_initiator:
            return Finding(name, Status.PROBLEM, "A production initiator is set, and its certificate is not.", fix)
        return Finding(name, Status.OK, "DARAJA_CERTIFICATE is not needed without a production initiator.")
    try:
        content = await anyio.Path(settings.daraja_certificate).read_bytes()
        load_certificate(content)
    except OSError:
        return Finding(name, Status.PROBLEM, "The DARAJA_CERTIFICATE file cannot be read.", fix)
    except InputError as unreadable:
        return Finding(name, Status.PROBLEM, unreadable.message, fix)
    return Finding(name, Status.OK, f"DARAJA_CERTIFICATE has SHA-256 {certificate_sha256(content)}.")
