"""`mpesa-mcp org invite`: a link with which one person becomes a user of an organization."""

from typing import TYPE_CHECKING, Annotated

import typer

from mpesa_mcp.cli.output import Document, JsonOption, OrgOption, acting, emit, run, say
from mpesa_mcp.values import Role

if TYPE_CHECKING:
    from mpesa_mcp.identity.invitations import NewInvitation
    from mpesa_mcp.payments.core import Core
    from mpesa_mcp.settings import Settings

ONCE = "This is the only time the link is shown. Whoever has it can use it: send it to that person alone."


def invite(
    org: OrgOption,
    email: Annotated[str, typer.Option(help="Whom the link is for.")],
    role: Annotated[Role, typer.Option(help="What the person may do.")] = Role.ORG_ADMIN,
    as_json: JsonOption = False,
) -> None:
    """Print a link, good once and for three days, with which a person chooses a password and becomes a user."""

    async def act(core: "Core") -> Document:
        from mpesa_mcp.billing.terms import seats_of
        from mpesa_mcp.identity.invitations import invite as make
        from mpesa_mcp.identity.organizations import organization_by_slug

        organization = await organization_by_slug(core.store, org)
        made = await make(
            core.store,
            core.clock,
            organization_id=organization.organization_id,
            email=email,
            role=role,
            actor=acting(),
            seats=seats_of,
        )
        return invitation_document(core.settings, made)

    emit(run(act), as_json=as_json)
    say(ONCE)


def invitation_document(settings: "Settings", made: "NewInvitation") -> Document:
    """What the invited person is sent; it can be seen nowhere else."""
    from mpesa_mcp.identity.invitations import link_to

    return {
        "invitation_id": made.record.invitation_id,
        "email": made.record.email,
        "role": made.record.role,
        "expires_at": made.record.expires_at,
        "link": link_to(settings, made.token).reveal(),
        "token": made.token.reveal(),
    }
