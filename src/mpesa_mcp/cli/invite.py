"""`mpesa-mcp org invite`: a link with which one person becomes a user of an organization; and what became of them."""

from typing import TYPE_CHECKING, Annotated

import typer

from mpesa_mcp.cli.output import Document, JsonOption, MemberRole, OrgOption, acting, emit, run, say
from mpesa_mcp.values import Role

if TYPE_CHECKING:
    from datetime import datetime

    from mpesa_mcp.identity.invitations import InvitationRecord, NewInvitation
    from mpesa_mcp.payments.core import Core
    from mpesa_mcp.settings import Settings

ONCE = "This is the only time the link is shown. Whoever has it can use it: send it to that person alone."


def invite(
    org: OrgOption,
    email: Annotated[str, typer.Option(help="Whom the link is for.")],
    role: Annotated[MemberRole, typer.Option(help="What the person may do.")] = MemberRole.ORG_ADMIN,
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
            role=Role(role),
            actor=acting(),
            seats=seats_of,
        )
        return invitation_document(core.settings, made)

    emit(run(act), as_json=as_json)
    say(ONCE)


def invitations(org: OrgOption, as_json: JsonOption = False) -> None:
    """List the invitations of an organization, used and revoked ones too, oldest first."""

    async def act(core: "Core") -> list[Document]:
        from mpesa_mcp.identity.invitations import list_invitations
        from mpesa_mcp.identity.organizations import organization_by_slug

        organization = await organization_by_slug(core.store, org)
        now = core.clock.now()
        return [_listed(each, now) for each in await list_invitations(core.store, organization.organization_id)]

    columns = ("email", "role", "status", "created_at", "created_by", "expires_at", "invitation_id")
    emit(run(act), as_json=as_json, columns=columns)


def uninvite(
    invitation: Annotated[str, typer.Argument(help="The invitation's id, or the address it was sent to.")],
    org: OrgOption,
    as_json: JsonOption = False,
) -> None:
    """Revoke an invitation: nobody gets in with its link any more, and its seat is free."""

    async def act(core: "Core") -> Document:
        from mpesa_mcp.identity.invitations import invitation_named, revoke_invitation
        from mpesa_mcp.identity.organizations import organization_by_slug

        organization_id = (await organization_by_slug(core.store, org)).organization_id
        named = await invitation_named(core.store, organization_id, invitation)
        revoked = await revoke_invitation(
            core.store,
            core.clock,
            organization_id=organization_id,
            invitation_id=named.invitation_id,
            actor=acting(),
        )
        return _listed(revoked, core.clock.now())

    emit(run(act), as_json=as_json)


def _listed(record: "InvitationRecord", now: "datetime") -> Document:
    return {
        "invitation_id": record.invitation_id,
        "email": record.email,
        "role": record.role,
        "status": record.status(now),
        "created_at": record.created_at,
        "created_by": record.created_by,
        "expires_at": record.expires_at,
        "accepted_at": record.accepted_at,
        "revoked_at": record.revoked_at,
    }


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
