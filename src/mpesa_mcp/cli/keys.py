"""`mpesa-mcp key`: API keys of an organization. A key is printed once, when it is made."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from mpesa_mcp.cli.output import Document, JsonOption, MemberRole, OrgOption, acting, emit, run, say
from mpesa_mcp.values import Environment, Role

if TYPE_CHECKING:
    from mpesa_mcp.identity.api_keys import KeyRecord
    from mpesa_mcp.payments.core import Core

commands = typer.Typer(no_args_is_help=True, help="API keys of an organization.")


@commands.command()
def create(
    org: OrgOption,
    role: Annotated[MemberRole, typer.Option(help="What the key may do.")],
    name: Annotated[str, typer.Option(help="What the key is for, for people.")],
    environment: Annotated[
        Environment | None,
        typer.Option(help="Where its payments happen; by default where the organization has credentials."),
    ] = None,
    expires_days: Annotated[int | None, typer.Option(min=1, max=3650, help="Days until it expires.")] = None,
    tools: Annotated[str | None, typer.Option(help="The only tools it may use, separated by commas.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it: the only time it can be seen."""

    async def act(core: "Core") -> Document:
        from mpesa_mcp.credentials.shortcodes import default_environment
        from mpesa_mcp.identity.api_keys import create_key
        from mpesa_mcp.identity.organizations import organization_by_slug

        organization = await organization_by_slug(core.store, org)
        made = await create_key(
            core.store,
            core.keyring,
            core.clock,
            organization_id=organization.organization_id,
            name=name,
            role=Role(role),
            environment=environment or default_environment,
            expires_at=None if expires_days is None else core.clock.now() + timedelta(days=expires_days),
            tools=None if tools is None else [tool.strip() for tool in tools.split(",")],
            actor=acting(),
        )
        return {"key": made.key.reveal(), **_document(made.record)}

    emit(run(act), as_json=as_json)
    say("This is the only time the key is shown.")


@commands.command("list")
def list_(org: OrgOption, as_json: JsonOption = False) -> None:
    """List the keys of an organization, revoked ones too."""

    async def act(core: "Core") -> list[Document]:
        from mpesa_mcp.identity.api_keys import list_keys
        from mpesa_mcp.identity.organizations import organization_by_slug

        organization = await organization_by_slug(core.store, org)
        keys = await list_keys(core.store, organization.organization_id)
        return [_listed(key, core.clock.now()) for key in keys]

    listed = run(act)
    columns = ("prefix", "name", "role", "tools", "environment", "usable", "expires_at", "last_used_at", "exposed_at")
    emit(listed, as_json=as_json, columns=(*columns, "key_id"))
    for key in listed:
        if key["should_be_rotated"]:
            say(
                f"Key {key['prefix']} stood in an address or a log, where others can read it. "
                f"Run: mpesa-mcp key rotate --org {org} {key['key_id']} --overlap-hours 1"
            )


@commands.command()
def rotate(
    org: OrgOption,
    key_id: Annotated[str, typer.Argument(help="The key's id, or its shown prefix. Never the key itself.")],
    overlap_hours: Annotated[
        int, typer.Option(min=0, max=720, help="For how long the old key still works beside the new one.")
    ] = 24,
    as_json: JsonOption = False,
) -> None:
    """Make a key like this one and print it; the old one expires after the overlap."""

    async def act(core: "Core") -> Document:
        from mpesa_mcp.identity.api_keys import rotate_key
        from mpesa_mcp.identity.organizations import organization_by_slug
        from mpesa_mcp.policy.succession import take_over_rule

        organization = await organization_by_slug(core.store, org)
        made = await rotate_key(
            core.store,
            core.keyring,
            core.clock,
            organization_id=organization.organization_id,
            key_id=key_id,
            overlap=timedelta(hours=overlap_hours),
            actor=acting(),
            take_over=take_over_rule,
        )
        return {"key": made.key.reveal(), **_document(made.record)}

    emit(run(act), as_json=as_json)
    hours = f"{overlap_hours} hour{'s' if overlap_hours != 1 else ''}"
    say(f"This is the only time the key is shown. The old one works for {hours} more at most.")


@commands.command()
def revoke(
    org: OrgOption,
    key_id: Annotated[str, typer.Argument(help="The key's id, or its shown prefix. Never the key itself.")],
    as_json: JsonOption = False,
) -> None:
    """Revoke a key: it stops working with the next call."""

    async def act(core: "Core") -> Document:
        from mpesa_mcp.identity.api_keys import revoke_key
        from mpesa_mcp.identity.organizations import organization_by_slug

        organization = await organization_by_slug(core.store, org)
        revoked = await revoke_key(
            core.store,
            core.clock,
            organization_id=organization.organization_id,
            key_id=key_id,
            actor=acting(),
        )
        return _listed(revoked, core.clock.now())

    emit(run(act), as_json=as_json)


def _document(key: "KeyRecord") -> Document:
    return {
        "key_id": key.key_id,
        "prefix": key.prefix,
        "role": key.role,
        "environment": key.environment,
        "name": key.name,
        "tools": key.tools,
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
    }


def _listed(key: "KeyRecord", now: datetime) -> Document:
    return {
        **_document(key),
        "usable": key.is_usable(now),
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
        "replaced_by": key.replaced_by,
        "exposed_at": key.exposed_at,
        "should_be_rotated": key.should_be_rotated(now),
    }
