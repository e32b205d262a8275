"""`mpesa-mcp credentials`: Daraja secrets of an organization's shortcodes.

Secrets come from a file, from standard input or from hidden prompts, never from the command line, where other users
of the machine and the shell's history would see them. They never come back out.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mpesa_mcp.cli.output import Document, JsonOption, OrgOption, acting, emit, refusals, run, say
from mpesa_mcp.errors import InputError
from mpesa_mcp.values import Environment, Secret, ShortcodeType

if TYPE_CHECKING:
    from mpesa_mcp.credentials.given import GivenSecrets
    from mpesa_mcp.credentials.shortcodes import SecretMark, ShortcodeRecord, ShortcodeUse
    from mpesa_mcp.payments.core import Core

commands = typer.Typer(no_args_is_help=True, help="Daraja secrets of an organization's shortcodes.")

_MAX_DOCUMENT_BYTES = 64 * 1024

EnvironmentOption = Annotated[Environment, typer.Option("--environment", help="Where the shortcode lives.")]
ShortcodeOption = Annotated[str, typer.Option("--shortcode", help="5 to 7 digits; for a till its store number.")]
AnyEnvironment = Annotated[Environment | None, typer.Option("--environment", help="Only this environment.")]
AnyShortcode = Annotated[str | None, typer.Option("--shortcode", help="Only this shortcode.")]


@commands.command("set")
def set_(
    org: OrgOption,
    environment: EnvironmentOption,
    shortcode: ShortcodeOption,
    kind: Annotated[ShortcodeType, typer.Option("--type", help="What customers know the shortcode as.")],
    file: Annotated[str | None, typer.Option(help="JSON with the secrets; - is standard input.")] = None,
    check_first: Annotated[
        bool, typer.Option("--check/--no-check", help="Ask Daraja about the keys first; bad ones change nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Set a shortcode and all its secrets; what it had before is replaced.

    The JSON is {consumer_key, consumer_secret, passkey?, initiator_name?, initiator_password?, till?}. Without --file
    each is asked for, hidden. Without --check nobody asks Daraja whether the keys are good.
    """
    with refusals():
        given = _prompted(kind) if file is None else _from_file(file)

    async def act(core: "Core") -> "ShortcodeRecord":
        from mpesa_mcp.credentials.shortcodes import GivenShortcode, set_shortcode
        from mpesa_mcp.identity.organizations import organization_by_slug

        organization = await organization_by_slug(core.store, org)
        return await set_shortcode(
            core.store,
            core.keyring,
            core.clock,
            core.settings,
            GivenShortcode(
                environment=environment, shortcode=shortcode, type=kind, secrets=given.secrets, till=given.till
            ),
            organization_id=organization.organization_id,
            actor=acting(),
            daraja=core.daraja if check_first else None,
        )

    stored = run(act)
    for warning in stored.warnings:
        say(f"Warning: {warning}")
    if not check_first:
        say(f"Not checked with Daraja. To check: mpesa-mcp credentials check --org {org}")
    emit({**_document(stored), "secrets": stored.secrets, "warnings": list(stored.warnings)}, as_json=as_json)


@commands.command()
def default(
    org: OrgOption,
    environment: EnvironmentOption,
    uses: Annotated[str, typer.Option("--for", help="stk_push, b2c, inquiry; several with commas.")],
    shortcode: Annotated[str | None, typer.Option("--shortcode", help="The one to use.")] = None,
    none: Annotated[bool, typer.Option("--none", help="No default: only one shortcode may fit.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Choose which of several shortcodes payments use. A reversal uses the one that received the payment."""
    if (shortcode is None) is not none:
        raise typer.BadParameter("give either --shortcode or --none")
    chosen_for = _read_uses(uses)

    async def act(core: "Core") -> list[Document]:
        from mpesa_mcp.credentials.shortcodes import choose_defaults
        from mpesa_mcp.identity.organizations import organization_by_slug

        organization = await organization_by_slug(core.store, org)
        there = await choose_defaults(
            core.store,
            core.clock,
            organization_id=organization.organization_id,
            environment=environment,
            uses=chosen_for,
            shortcode=shortcode,
            actor=acting(),
        )
        return [_document(record) for record in there]

    emit(run(act), as_json=as_json, columns=("environment", "shortcode", "type", "till", "default_for"))


@commands.command()
def show(
    org: OrgOption, environment: AnyEnvironment = None, shortcode: AnyShortcode = None, as_json: JsonOption = False
) -> None:
    """Show which secrets are set, when and by whom; of long ones the last four characters."""

    async def act(core: "Core") -> list[tuple["ShortcodeRecord", tuple["SecretMark", ...]]]:
        from mpesa_mcp.credentials.shortcodes import mark_secrets

        organization_id, found = await _selected(core, org, environment, shortcode)
        return [
            (record, await mark_secrets(core.store, core.keyring, organization_id, record.shortcode_id))
            for record in found
        ]

    shown = run(act)
    if as_json:
        emit([{**_document(record), "secrets": [_mark(m) for m in marks]} for record, marks in shown], as_json=True)
        return
    columns = ("environment", "shortcode", "type", "till", "default_for", "secret", "last_four", "set_at", "set_by")
    rows = [{**_document(record), **_mark(mark)} for record, marks in shown for mark in marks]
    emit(rows, as_json=False, columns=columns)


@commands.command()
def check(
    org: OrgOption, environment: AnyEnvironment = None, shortcode: AnyShortcode = None, as_json: JsonOption = False
) -> None:
    """Ask Daraja whether the keys are good, and tell what is missing for which tool."""

    async def act(core: "Core") -> list[Document]:
        from mpesa_mcp.credentials.check import check_shortcode
        from mpesa_mcp.credentials.shortcodes import open_shortcode

        organization_id, found = await _selected(core, org, environment, shortcode)
        if not found:
            raise InputError("There are no such credentials. Set them with: mpesa-mcp credentials set.")
        checked: list[Document] = []
        for record in found:
            opened = await open_shortcode(core.store, core.keyring, core.settings, organization_id, record.shortcode_id)
            certified = core.settings.daraja_certificate is not None
            told = await check_shortcode(core.daraja, opened, certificate_given=certified)
            checked.append({**_document(record), "ok": told.ok, "reason": told.reason, "missing": told.missing})
        return checked

    told = run(act)
    emit(told, as_json=as_json, columns=("environment", "shortcode", "ok", "reason", "missing"))
    if failed := [document for document in told if not document["ok"]]:
        say(f"{len(failed)} of {len(told)} shortcodes did not pass.")
        raise typer.Exit(1)


@commands.command()
def remove(
    org: OrgOption, environment: EnvironmentOption, shortcode: ShortcodeOption, as_json: JsonOption = False
) -> None:
    """Remove a shortcode and all its secrets."""

    async def act(core: "Core") -> "ShortcodeRecord":
        from mpesa_mcp.credentials.shortcodes import remove_shortcode
        from mpesa_mcp.identity.organizations import organization_by_slug

        organization = await organization_by_slug(core.store, org)
        return await remove_shortcode(
            core.store,
            core.clock,
            organization_id=organization.organization_id,
            environment=environment,
            shortcode=shortcode,
            actor=acting(),
        )

    emit({**_document(run(act)), "removed": True}, as_json=as_json)


async def _selected(
    core: "Core", org: str, environment: Environment | None, shortcode: str | None
) -> tuple[str, list["ShortcodeRecord"]]:
    from mpesa_mcp.credentials.shortcodes import list_shortcodes
    from mpesa_mcp.identity.organizations import organization_by_slug

    organization_id = (await organization_by_slug(core.store, org)).organization_id
    found = await list_shortcodes(core.store, organization_id, environment=environment, shortcode=shortcode)
    return organization_id, list(found)


def _read_uses(text: str) -> "frozenset[ShortcodeUse]":
    from mpesa_mcp.credentials.uses import ShortcodeUse

    try:
        return frozenset(ShortcodeUse(word.strip()) for word in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"--for takes {', '.join(ShortcodeUse)}") from None


def _from_file(name: str) -> "GivenSecrets":
    from mpesa_mcp.credentials.given import read_document

    try:
        if name == "-":
            content = sys.stdin.buffer.read(_MAX_DOCUMENT_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                content = file.read(_MAX_DOCUMENT_BYTES + 1)
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError("There is no credentials file of this name.", field="file") from None
    except (OSError, UnicodeDecodeError):
        raise InputError("The credentials file cannot be read: check its permissions.", field="file") from None
    if len(content) > _MAX_DOCUMENT_BYTES:
        raise InputError("The credentials file is too large to be one.", field="file")
    return read_document(text)


def _prompted(kind: ShortcodeType) -> "GivenSecrets":
    from mpesa_mcp.credentials.given import GivenSecrets
    from mpesa_mcp.credentials.vault import SecretField

    if not sys.stdin.isatty():
        raise InputError("Give the secrets with --file (- is standard input), or run this on a terminal.", field="file")
    secrets = {}
    for field in SecretField:
        question = field.replace("_", " ").capitalize()
        if field not in {SecretField.CONSUMER_KEY, SecretField.CONSUMER_SECRET}:
            question += " (Enter: none)"
        if answer := typer.prompt(question, default="", hide_input=True, show_default=False, err=True):
            secrets[field] = Secret(answer)
    till = typer.prompt("Till number", err=True) if kind is ShortcodeType.TILL else None
    return GivenSecrets(secrets, till)


def _document(record: "ShortcodeRecord") -> Document:
    return {
        "shortcode_id": record.shortcode_id,
        "environment": record.environment,
        "shortcode": record.shortcode,
        "type": record.type,
        "till": record.till,
        "default_for": record.default_for,
    }


def _mark(mark: "SecretMark") -> Document:
    return {"secret": mark.field, "last_four": mark.last_four, "set_at": mark.set_at, "set_by": mark.set_by}
