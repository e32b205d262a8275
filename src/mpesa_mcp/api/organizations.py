"""Organizations: made and listed by the platform, changed by their own org_admins; and their life."""

from typing import Annotated

from fastapi import APIRouter, status
from pydantic import Field

from mpesa_mcp.api.examples import DAY_BEFORE, JANES_ADDRESS, ORGANIZATION, example
from mpesa_mcp.api.permissions import allow
from mpesa_mcp.api.routes import Call, PermittedRoute
from mpesa_mcp.api.shapes import NOTHING, Answer, Body, Cursor, Email, Limit, Moment, Nothing, Page
from mpesa_mcp.api.users import Id, InvitationAnswer, NewInvitationAnswer, new_invitation_answer, revoke
from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.credentials.shortcodes import shortcodes_of
from mpesa_mcp.errors import InputError
from mpesa_mcp.identity import founding, standing
from mpesa_mcp.identity.invitations import page_first_invitations
from mpesa_mcp.identity.models import OrganizationStatus
from mpesa_mcp.identity.names import MAX_NAME
from mpesa_mcp.identity.organizations import (
    OrganizationRecord,
    change_organization,
    organization_of,
    page_of_organizations,
)
from mpesa_mcp.payments.closing import close_organization
from mpesa_mcp.payments.standing import activate as activate_organization
from mpesa_mcp.payments.standing import unfreeze as unfreeze_organization
from mpesa_mcp.values import Environment, Kes, Role

router = APIRouter(prefix="/organizations", tags=["organizations"], route_class=PermittedRoute)

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]


class OrganizationAnswer(Answer):
    """An organization as it stands; `status` is the gravest word that is true of it."""

    model_config = example(
        organization_id=ORGANIZATION,
        slug="acme-traders",
        name="Acme Traders",
        status="active",
        created_at=DAY_BEFORE,
        confirm_payouts_from="5000.00",
        default_environment="simulator",
    )
    organization_id: str
    slug: str
    name: str
    status: OrganizationStatus
    created_at: Moment
    confirm_payouts_from: str = Field(description="KES from which a payout's success is confirmed before it counts.")
    default_environment: Environment = Field(description="Where payments happen that a person starts.")
    frozen_at: Moment | None
    frozen_by: str | None
    unfreeze_asked_by: str | None = Field(description="One of the two people who must lift a freeze.")
    closed_at: Moment | None


class NewOrganization(Body):
    model_config = example(name="Acme Traders", slug="acme-traders", admin_email=JANES_ADDRESS)
    name: Name
    slug: str = Field(min_length=2, max_length=40, description="a-z, 0-9 and dash; it stays.")
    admin_email: Email | None = Field(default=None, description="Who is invited to be the first org_admin.")


class FoundedAnswer(OrganizationAnswer):
    invitation: NewInvitationAnswer | None = Field(description="Of the first org_admin; shown this once.")


class FirstAdmin(Body):
    model_config = example(email=JANES_ADDRESS)
    email: Email


class OrganizationChange(Body):
    model_config = example(name="Acme Traders", confirm_payouts_from="5000.00", default_environment="simulator")
    name: Name | None = None
    confirm_payouts_from: str | None = Field(default=None, max_length=20, description="KES; 0 is every payout.")
    default_environment: Annotated[Environment | None, Field(strict=False)] = None


class WithReason(Body):
    model_config = example(reason="A laptop was stolen.")
    reason: str | None = Field(default=None, min_length=3, max_length=200, description="For the audit.")


# The body may be left out.
_NO_REASON = WithReason()


def _answer(record: OrganizationRecord) -> OrganizationAnswer:
    return OrganizationAnswer(
        organization_id=record.organization_id,
        slug=record.slug,
        name=record.name,
        status=record.status,
        created_at=record.created_at,
        confirm_payouts_from=str(record.confirm_payouts_from),
        default_environment=record.default_environment,
        frozen_at=record.frozen_at,
        frozen_by=record.frozen_by,
        unfreeze_asked_by=record.unfreeze_asked_by,
        closed_at=record.closed_at,
    )


@router.get("")
@allow(platform=True)
async def list_(call: Call, limit: Limit = 50, cursor: Cursor = None) -> Page[OrganizationAnswer]:
    """List all organizations, oldest first."""
    page = await page_of_organizations(call.core.store, limit=limit, cursor=cursor)
    return Page(items=[_answer(each) for each in page.items], next_cursor=page.next_cursor)


@router.post("", status_code=status.HTTP_201_CREATED)
@allow(platform=True, person=True)
async def create(call: Call, body: NewOrganization) -> FoundedAnswer:
    """Make an organization, and invite its first org_admin, who manages it from then on."""
    made, invited = await founding.found_organization(
        call.core.store,
        call.core.clock,
        name=body.name,
        slug=body.slug,
        admin_email=body.admin_email,
        actor=call.actor,
        seats=seats_of,
    )
    invitation = new_invitation_answer(call.core.settings, invited) if invited else None
    return FoundedAnswer(**dict(_answer(made)), invitation=invitation)


@router.get("/{organization_id}")
@allow(Role.ORG_ADMIN, platform=True)
async def read(call: Call) -> OrganizationAnswer:
    """Read one organization."""
    return _answer(await organization_of(call.core.store, call.organization_id))


@router.patch("/{organization_id}")
@allow(Role.ORG_ADMIN, person=True)
async def change(call: Call, body: OrganizationChange) -> OrganizationAnswer:
    """Rename the organization, or change what it has chosen; what is left out stays."""
    if not body.model_dump(exclude_none=True):
        raise InputError("Name what is to change. Nothing was changed.")
    changed = await change_organization(
        call.core.store,
        call.core.clock,
        organization_id=call.organization_id,
        name=body.name,
        confirm_payouts_from=None if body.confirm_payouts_from is None else Kes.from_decimal(body.confirm_payouts_from),
        default_environment=body.default_environment,
        actor=call.actor,
    )
    return _answer(changed)


@router.get("/{organization_id}/invitations")
@allow(platform=True)
async def list_first_invitations(call: Call, limit: Limit = 50, cursor: Cursor = None) -> Page[InvitationAnswer]:
    """List the invitations of the first org_admin, newest first, used and revoked ones too."""
    page = await page_first_invitations(call.core.store, call.organization_id, limit=limit, cursor=cursor)
    return Page(items=[InvitationAnswer.model_validate(each) for each in page.items], next_cursor=page.next_cursor)


@router.post("/{organization_id}/invitations", status_code=status.HTTP_201_CREATED)
@allow(platform=True, person=True)
async def invite_first_admin(call: Call, body: FirstAdmin) -> NewInvitationAnswer:
    """Invite the first org_admin (again). Refused once the organization is in use."""
    invited = await founding.invite_first_admin(
        call.core.store,
        call.core.clock,
        organization_id=call.organization_id,
        email=body.email,
        actor=call.actor,
        seats=seats_of,
        credentials=shortcodes_of,
    )
    return new_invitation_answer(call.core.settings, invited)


@router.post("/{organization_id}/invitations/{invitation_id}/revoke")
@allow(platform=True, person=True)
async def revoke_first_invitation(call: Call, invitation_id: Id, _body: Nothing = NOTHING) -> InvitationAnswer:
    """Nobody becomes the first org_admin with it any more. Again, or after it was used: changes nothing."""
    return await revoke(call, invitation_id)


@router.post("/{organization_id}/freeze")
@allow(Role.ORG_ADMIN, platform=True)
async def freeze(call: Call, body: WithReason = _NO_REASON) -> OrganizationAnswer:
    """Stop payouts and reversals at once; everything else goes on. Two people must lift it."""
    frozen = await standing.freeze(
        call.core.store,
        call.core.clock,
        organization_id=call.organization_id,
        actor=call.actor,
        reason=body.reason,
    )
    return _answer(frozen)


@router.post("/{organization_id}/unfreeze")
@allow(Role.ORG_ADMIN, person=True)
async def unfreeze(call: Call, _body: Nothing = NOTHING) -> OrganizationAnswer:
    """Ask for the lifting of a freeze, or lift it when another person has asked; `status` says which."""
    return _answer(await unfreeze_organization(call.core, organization_id=call.organization_id, actor=call.actor))


@router.post("/{organization_id}/suspend")
@allow(platform=True, person=True)
async def suspend(call: Call, body: WithReason = _NO_REASON) -> OrganizationAnswer:
    """Refuse its callers and send nothing of what is queued. What has left is settled all the same."""
    suspended = await standing.suspend(
        call.core.store,
        call.core.clock,
        organization_id=call.organization_id,
        actor=call.actor,
        reason=body.reason,
    )
    return _answer(suspended)


@router.post("/{organization_id}/activate")
@allow(platform=True, person=True)
async def activate(call: Call, _body: Nothing = NOTHING) -> OrganizationAnswer:
    """Lift a suspension: what waited goes on, if it is not too old."""
    return _answer(await activate_organization(call.core, organization_id=call.organization_id, actor=call.actor))


@router.post("/{organization_id}/close")
@allow(platform=True, person=True)
async def close(call: Call, _body: Nothing = NOTHING) -> OrganizationAnswer:
    """Close it for good: no way in is left, its credentials are destroyed, its records are kept.

    Refused while a payment of it is not settled.
    """
    return _answer(await close_organization(call.core, organization_id=call.organization_id, actor=call.actor))
