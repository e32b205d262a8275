"""`mpesa-mcp org`: making organizations, looking at them, and their life."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from mpesa_mcp.cli.invite import ONCE, invitation_document
from mpesa_mcp.cli.output import Document, JsonOption, OrgOption, acting, emit, run, say
from mpesa_mcp.values import Environment, Kes

if TYPE_CHECKING:
    from mpesa_mcp.identity.organizations import OrganizationRecord
    from mpesa_mcp.payments.core import Core

# Above the most that one payout can be: then none needs to be confirmed.
_MOST_SHILLINGS = 1_000_000
ReasonOption = Annotated[str | None, typer.Option(help="Why, for the audit.")]

commands = typer.Typer(no_args_is_help=True, help="Organizations.")


@commands.command()
def create(
    name: Annotated[str, typer.Argument(help="The organization's name, for people.")],
    slug: Annotated[str, typer.Option(help="Its short name: 2 to 40 of a-z, 0-9 and dash.")],
    admin_email: Annotated[
        str | None, typer.Option(metavar="E", help="Invite its first org_admin; the invitation is printed once.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make an organization."""

    async def act(core: "Core") -> Document:
        from mpesa_mcp.billing.terms import seats_of
        from mpesa_mcp.identity.founding import found_organization

        made, invited = await found_organization(
            core.store,
            core.clock,
            name=name,
            slug=slug,
            admin_email=admin_email,
            actor=acting(),
            seats=seats_of,
        )
        invitation = {"invitation": invitation_document(core.settings, invited)} if invited else {}
        return {**_document(made), **invitation}

    emit(run(act), as_json=as_json)
    if admin_email is not None:
        say(ONCE)


@commands.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List all organizations of this installation."""

    async def act(core: "Core") -> list[Document]:
        from mpesa_mcp.identity.organizations import list_all

        return [_document(organization) for organization in await list_all(core.store)]

    emit(run(act), as_json=as_json, columns=("slug", "name", "status", "organization_id"))


@commands.command()
def show(org: OrgOption, as_json: JsonOption = False) -> None:
    """Show one organization."""

    async def act(core: "Core") -> Document:
        from mpesa_mcp.identity.organizations import organization_by_slug

        found = await organization_by_slug(core.store, org)
        return _shown(found)

    emit(run(act), as_json=as_json)


@commands.command("set")
def set_(
    org: OrgOption,
    confirm_payouts_from: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=_MOST_SHILLINGS,
            help="KES from which a payout counts only once Safaricom confirms it to our own question; 0: all.",
        ),
    ] = None,
    default_environment: Annotated[
        Environment | None, typer.Option(help="Where payments happen that a person starts; a key has its own.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change what an organization has chosen."""
    if confirm_payouts_from is None and default_environment is None:
        raise typer.BadParameter("Name what is to change.")

    async def act(core: "Core", organization_id: str) -> "OrganizationRecord":
        from mpesa_mcp.identity.organizations import change_organization

        return await change_organization(
            core.store,
            core.clock,
            organization_id=organization_id,
            confirm_payouts_from=None if confirm_payouts_from is None else Kes.from_shillings(confirm_payouts_from),
            default_environment=default_environment,
            actor=acting(),
        )

    emit(_shown(_with(org, act)), as_json=as_json)


@commands.command()
def rename(
    name: Annotated[str, typer.Argument(help="The new name, for people. The slug stays.")],
    org: OrgOption,
    as_json: JsonOption = False,
) -> None:
    """Give an organization another name."""

    async def act(core: "Core", organization_id: str) -> "OrganizationRecord":
        from mpesa_mcp.identity.organizations import change_organization

        actor = acting()
        return await change_organization(
            core.store, core.clock, organization_id=organization_id, name=name, actor=actor
        )

    emit(_document(_with(org, act)), as_json=as_json)


@commands.command()
def suspend(org: OrgOption, reason: ReasonOption = None, as_json: JsonOption = False) -> None:
    """Refuse its callers and send nothing of what is queued. What has left is settled all the same."""

    async def act(core: "Core", organization_id: str) -> "OrganizationRecord":
        from mpesa_mcp.identity.standing import suspend

        return await suspend(core.store, core.clock, organization_id=organization_id, actor=acting(), reason=reason)

    emit(_document(_with(org, act)), as_json=as_json)


@commands.command()
def activate(org: OrgOption, as_json: JsonOption = False) -> None:
    """Lift a suspension: what waited goes on, if it is not too old."""

    async def act(core: "Core", organization_id: str) -> "OrganizationRecord":
        from mpesa_mcp.payments.standing import activate

        return await activate(core, organization_id=organization_id, actor=acting())

    emit(_document(_with(org, act)), as_json=as_json)


@commands.command()
def freeze(org: OrgOption, reason: ReasonOption = None, as_json: JsonOption = False) -> None:
    """Stop payouts and reversals at once; everything else goes on. Two people must lift it."""

    async def act(core: "Core", organization_id: str) -> "OrganizationRecord":
        from mpesa_mcp.identity.standing import freeze

        return await freeze(core.store, core.clock, organization_id=organization_id, actor=acting(), reason=reason)

    emit(_document(_with(org, act)), as_json=as_json)
    say(f"To lift it: mpesa-mcp org unfreeze --org {org} proposes so, and one of its org_admins, signed in, confirms.")


@commands.command()
def unfreeze(org: OrgOption, as_json: JsonOption = False) -> None:
    """Propose to lift a freeze, as one of the two who must; an org_admin, signed in, then lifts it."""

    async def act(core: "Core", organization_id: str) -> "OrganizationRecord":
        from mpesa_mcp.payments.standing import unfreeze

        return await unfreeze(core, organization_id=organization_id, actor=acting())

    proposed = _with(org, act)
    emit({**_document(proposed), "unfreeze_asked_by": proposed.unfreeze_asked_by}, as_json=as_json)
    say(
        "Proposed. The organization stays frozen until one of its org_admins, signed in, does the same: "
        f"POST /api/v1/organizations/{proposed.organization_id}/unfreeze."
    )


@commands.command()
def close(org: OrgOption, as_json: JsonOption = False) -> None:
    """Close it for good: no way in is left, its credentials are destroyed, its records are kept.

    Refused while a payment of it is not settled.
    """

    async def act(core: "Core", organization_id: str) -> "OrganizationRecord":
        from mpesa_mcp.payments.closing import close_organization

        return await close_organization(core, organization_id=organization_id, actor=acting())

    emit(_document(_with(org, act)), as_json=as_json)


def _with(org: str, act: "Callable[[Core, str], Awaitable[OrganizationRecord]]") -> "OrganizationRecord":
    """Does it to the organization with this slug."""

    async def found(core: "Core") -> "OrganizationRecord":
        from mpesa_mcp.identity.organizations import organization_by_slug

        return await act(core, (await organization_by_slug(core.store, org)).organization_id)

    return run(found)


def _shown(organization: "OrganizationRecord") -> Document:
    return {
        **_document(organization),
        "created_at": organization.created_at,
        "confirm_payouts_from": str(organization.confirm_payouts_from),
        "default_environment": organization.default_environment,
        "frozen_at": organization.frozen_at,
        "frozen_by": organization.frozen_by,
        "unfreeze_asked_by": organization.unfreeze_asked_by,
        "closed_at": organization.closed_at,
    }


def _document(organization: "OrganizationRecord") -> Document:
    # The callback id stays inside: it is half of every callback path.
    return {
        "organization_id": organization.organization_id,
        "slug": organization.slug,
        "name": organization.name,
        "status": organization.status,
    }
