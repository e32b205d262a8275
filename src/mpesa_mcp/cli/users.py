"""`mpesa-mcp user`: people of an organization, or of the platform (super_admins)."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mpesa_mcp.cli.output import Document, JsonOption, acting, emit, refusals, run
from mpesa_mcp.cli.whose import OrgOption, PlatformOption, require_one, whose
from mpesa_mcp.errors import InputError
from mpesa_mcp.values import Role, Secret

if TYPE_CHECKING:
    from mpesa_mcp.identity.users import UserRecord
    from mpesa_mcp.payments.core import Core

commands = typer.Typer(no_args_is_help=True, help="People of an organization, or of the platform.")

EmailOption = Annotated[str, typer.Option(help="The address that signs in. It belongs to one organization.")]
UserArgument = Annotated[str, typer.Argument(help="The user's id or address.")]


@commands.command()
def create(
    email: EmailOption,
    role: Annotated[Role | None, typer.Option(help="What the person may do; of the platform: super_admin.")] = None,
    org: OrgOption = None,
    platform: PlatformOption = False,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password's line from stdin.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a user who can sign in. To let people choose their own password: mpesa-mcp org invite."""
    require_one(org, platform=platform)
    if role is None and not platform:
        raise typer.BadParameter("Say which role.", param_hint="--role")
    with refusals():
        password = _password(from_stdin=password_stdin)

    async def act(core: "Core") -> "UserRecord":
        from mpesa_mcp.billing.terms import seats_of
        from mpesa_mcp.identity.users import create_user

        return await create_user(
            core.store,
            core.clock,
            organization_id=await whose(core, org),
            email=email,
            role=role or Role.SUPER_ADMIN,
            password=password,
            actor=acting(),
            seats=seats_of,
        )

    emit(_document(run(act)), as_json=as_json)


@commands.command("list")
def list_(org: OrgOption = None, platform: PlatformOption = False, as_json: JsonOption = False) -> None:
    """List people, deactivated ones too."""
    require_one(org, platform=platform)

    async def act(core: "Core") -> list[Document]:
        from mpesa_mcp.identity.users import list_users

        return [_document(user) for user in await list_users(core.store, await whose(core, org))]

    columns = ("email", "role", "created_at", "last_sign_in_at", "deactivated_at", "user_id")
    emit(run(act), as_json=as_json, columns=columns)


@commands.command("update")
def update_(
    user: UserArgument,
    role: Annotated[Role | None, typer.Option(help="What the person may do from now on. Ends their sessions.")] = None,
    activate: Annotated[bool, typer.Option("--activate", help="Let a deactivated person in again.")] = False,
    org: OrgOption = None,
    platform: PlatformOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give a person another role, or let them in again."""
    require_one(org, platform=platform)
    if role is None and not activate:
        raise typer.BadParameter("Name what is to change.")

    async def act(core: "Core") -> "UserRecord":
        from mpesa_mcp.billing.terms import seats_of
        from mpesa_mcp.identity.users import activate_user, change_role, user_named

        store, clock, organization_id = core.store, core.clock, await whose(core, org)
        found = await user_named(store, organization_id, user)
        user_id = found.user_id
        if activate:
            found = await activate_user(
                store, clock, organization_id=organization_id, user_id=user_id, actor=acting(), seats=seats_of
            )
        if role is not None:
            found = await change_role(
                store, clock, organization_id=organization_id, user_id=user_id, role=role, actor=acting()
            )
        return found

    emit(_document(run(act)), as_json=as_json)


@commands.command()
def deactivate(
    user: UserArgument, org: OrgOption = None, platform: PlatformOption = False, as_json: JsonOption = False
) -> None:
    """Keep a person out from the next request on."""
    require_one(org, platform=platform)

    async def act(core: "Core") -> "UserRecord":
        from mpesa_mcp.identity.users import deactivate_user, user_named

        organization_id = await whose(core, org)
        named = await user_named(core.store, organization_id, user)
        return await deactivate_user(
            core.store, core.clock, organization_id=organization_id, user_id=named.user_id, actor=acting()
        )

    emit(_document(run(act)), as_json=as_json)


def _password(*, from_stdin: bool) -> Secret:
    if from_stdin:
        return Secret(sys.stdin.readline().rstrip("\r\n"))
    if not sys.stdin.isatty():
        raise InputError("Give the password with --password-stdin, or run this in a terminal to be asked for it.")
    return Secret(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def _document(user: "UserRecord") -> Document:
    return {
        "user_id": user.user_id,
        "organization_id": user.organization_id,
        "email": user.email,
        "role": user.role,
        "created_at": user.created_at,
        "created_by": user.created_by,
        "last_sign_in_at": user.last_sign_in_at,
        "deactivated_at": user.deactivated_at,
    }
