"""`mpesa-mcp org`: making and looking at organizations."""

from typing import TYPE_CHECKING, Annotated

import typer

from mpesa_mcp.cli.output import Document, JsonOption, OrgOption, emit, operator, run
from mpesa_mcp.values import Kes

if TYPE_CHECKING:
    from mpesa_mcp.identity.organizations import OrganizationRecord
    from mpesa_mcp.payments.core import Core

# Above the most that one payout can be: then none needs to be confirmed.
_MOST_SHILLINGS = 1_000_000

commands = typer.Typer(no_args_is_help=True, help="Organizations.")


@commands.command()
def create(
    name: Annotated[str, typer.Argument(help="The organization's name, for people.")],
    slug: Annotated[str, typer.Option(help="Its short name: 2 to 40 of a-z, 0-9 and dash.")],
    as_json: JsonOption = False,
) -> None:
    """Make an organization."""

    async def act(core: "Core") -> Document:
        from mpesa_mcp.identity.organizations import create_organization

        made = await create_organization(core.store, core.clock, name=name, slug=slug, actor=operator())
        return _document(made)

    emit(run(act), as_json=as_json)


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
        int,
        typer.Option(
            min=0,
            max=_MOST_SHILLINGS,
            help="KES from which a payout counts only once Safaricom confirms it to our own question; 0: all.",
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Change what an organization has chosen."""

    async def act(core: "Core") -> Document:
        from mpesa_mcp.identity.organizations import confirm_payouts_from as choose
        from mpesa_mcp.identity.organizations import organization_by_slug

        found = await organization_by_slug(core.store, org)
        changed = await choose(
            core.store,
            core.clock,
            organization_id=found.organization_id,
            amount=Kes.from_shillings(confirm_payouts_from),
            actor=operator(),
        )
        return _shown(changed)

    emit(run(act), as_json=as_json)


def _shown(organization: "OrganizationRecord") -> Document:
    return {
        **_document(organization),
        "created_at": organization.created_at,
        "confirm_payouts_from": str(organization.confirm_payouts_from),
    }


def _document(organization: "OrganizationRecord") -> Document:
    # The callback id stays inside: it is half of every callback path.
    return {
        "organization_id": organization.organization_id,
        "slug": organization.slug,
        "name": organization.name,
        "status": organization.status,
    }
