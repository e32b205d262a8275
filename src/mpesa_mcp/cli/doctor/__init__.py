"""`mpesa-mcp doctor`: looks at an installation and says what is wrong and how to put it right.

It changes nothing, except that an app's access token is fetched, and shared, where none is fresh. No secret is shown.
What is looked at has a file for each noun; they load when the command runs.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mpesa_mcp.cli.doctor.findings import Finding, Shortcodes, Status
from mpesa_mcp.cli.output import JsonOption, emit, quiet_settings, say
from mpesa_mcp.errors import InputError

if TYPE_CHECKING:
    from mpesa_mcp.settings import Settings

commands = typer.Typer()


@commands.command()
def doctor(
    offline: Annotated[bool, typer.Option("--offline", help="Call neither Safaricom nor the simulator.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look for what is wrong with this installation. Exits with 1 when there is a problem."""
    findings = asyncio.run(examine(offline=offline))
    emit([asdict(f) for f in findings], as_json=as_json, columns=("name", "status", "message", "fix"))
    if problems := sum(finding.status is Status.PROBLEM for finding in findings):
        say(f"{problems} problem{'s' if problems > 1 else ''} found.")
        raise typer.Exit(1)


async def examine(*, offline: bool) -> Sequence[Finding]:
    """All findings, in the order in which one would put them right."""
    try:
        settings = quiet_settings()
    except InputError as bad:
        return [Finding("settings", Status.PROBLEM, bad.message, "Correct or unset the variables named.")]
    from mpesa_mcp.cli.doctor import database, machine

    findings = [
        Finding("settings", Status.OK, f"The settings are readable; ENVIRONMENT is {settings.environment}."),
        machine.data_dir(settings),
    ]
    if findings[-1].status is not Status.OK:
        return findings
    key = machine.master_key(settings)
    has_key = key.status is Status.OK and not machine.will_make_key(settings)
    reachable, readable = await database.database(settings)
    findings += [key, reachable, *database.files(settings)]
    shortcodes = Shortcodes()
    if readable:
        within, shortcodes = await _inside(settings, has_key=has_key, offline=offline)
        findings += within
    findings.append(await machine.rate_limits(settings))
    return [*findings, machine.public_url(settings, shortcodes), await machine.certificate(settings, shortcodes)]


async def _inside(settings: "Settings", *, has_key: bool, offline: bool) -> tuple[list[Finding], Shortcodes]:
    """What the database shows; without a master key, what needs none."""
    from mpesa_mcp.cli.doctor import daraja, database, people, secrets, workers
    from mpesa_mcp.store.engine import StoreUnavailable, open_store
    from mpesa_mcp.store.keyring import open_keyring
    from mpesa_mcp.values import SystemClock

    store, clock = open_store(settings.effective_database_url), SystemClock()
    findings: list[Finding] = []
    shortcodes = Shortcodes()
    try:
        findings += [
            *await database.row_security(store),
            *await database.rights(store),
            *await database.callbacks_roles(store),
            *await database.time_apart(store, clock),
        ]
        if has_key:
            keyring = open_keyring(store, settings)
            opened = await secrets.keys(store, keyring)
            findings.append(opened)
            if opened.status is not Status.PROBLEM:
                shortcodes, told = await secrets.credentials(store, keyring, settings)
                findings += told
                if not offline:
                    findings += await daraja.calls(store, keyring, settings, clock, shortcodes)
        else:
            findings += await secrets.lost_key(store)
        findings += [*await secrets.api_keys(store, clock.now()), *await people.approvers(store, clock)]
        findings += [*await daraja.pauses(store, clock.now()), *await workers.workers(store, clock.now())]
    except StoreUnavailable as away:
        again = "Run: mpesa-mcp doctor again"
        # What the role lacks is told above, with its remedy.
        findings.append(Finding("database_away", Status.PROBLEM, f"Looking ended early: {away.why}.", again))
    finally:
        await store.close()
    return findings, shortcodes
