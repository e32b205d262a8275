"""`mpesa-mcp support`: which organizations let the platform read their payments. Only they themselves can give that."""

from typing import TYPE_CHECKING, Annotated

import typer

from mpesa_mcp.cli.output import Document, JsonOption, emit, run

if TYPE_CHECKING:
    from mpesa_mcp.payments.core import Core

commands = typer.Typer(no_args_is_help=True, help="Leave that organizations gave the platform.")


@commands.callback()
def _group() -> None:
    """Keeps `support list` two words while there is one command."""


@commands.command("list")
def list_(
    org: Annotated[str | None, typer.Option("--org", help="Only this organization's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List support grants, the newest of each organization first. An org_admin gives one, signed in."""

    async def act(core: "Core") -> list[Document]:
        from mpesa_mcp.identity.organizations import list_all, organization_by_slug
        from mpesa_mcp.identity.support_grants import list_grants

        named = [await organization_by_slug(core.store, org)] if org is not None else await list_all(core.store)
        return [
            {
                "grant_id": grant.grant_id,
                "organization_id": grant.organization_id,
                "slug": organization.slug,
                "standing": grant.stands(core.clock.now()),
                "reason": grant.reason,
                "given_by": grant.given_by,
                "given_at": grant.given_at,
                "expires_at": grant.expires_at,
                "revoked_at": grant.revoked_at,
                "revoked_by": grant.revoked_by,
            }
            for organization in named
            for grant in await list_grants(core.store, organization.organization_id)
        ]

    columns = ("slug", "standing", "expires_at", "given_by", "reason", "grant_id")
    emit(run(act), as_json=as_json, columns=columns)
