"""Whose: one organization by its slug, or the platform itself; for the commands that serve both."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mpesa_mcp.payments.core import Core

OrgOption = Annotated[str | None, typer.Option("--org", help="The organization's slug.")]
PlatformOption = Annotated[bool, typer.Option("--platform", help="The platform itself, instead of --org.")]


def require_one(org: str | None, *, platform: bool) -> None:
    if (org is None) is not platform:
        raise typer.BadParameter("Name one: --org S, or --platform.")


async def whose(core: "Core", org: str | None) -> str:
    """The id of the organization that is meant; without a slug, the platform's. Raises NotFoundError."""
    from mpesa_mcp.identity.models import PLATFORM
    from mpesa_mcp.identity.organizations import organization_by_slug

    return PLATFORM if org is None else (await organization_by_slug(core.store, org)).organization_id
