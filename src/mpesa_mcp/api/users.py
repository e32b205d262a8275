"""People of the caller's organization, and invitations, which is how they come in."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, status

from mpesa_mcp.api.auth import Person
from mpesa_mcp.api.examples import DAY_BEFORE, JANES_ADDRESS, NEXT_DAY, ROOT, example
from mpesa_mcp.api.permissions import allow
from mpesa_mcp.api.routes import Call, PermittedRoute
from mpesa_mcp.api.shapes import Answer, Body, Cursor, Email, GivenRole, Limit, Moment, Page
from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.identity.invitations import NewInvitation, invite, link_to, page_invitations, revoke_invitation
from mpesa_mcp.identity.users import activate_user, change_role, deactivate_user, page_users, user_named
from mpesa_mcp.settings import Settings
from mpesa_mcp.values import Role

router = APIRouter(prefix="/users", tags=["people"], route_class=PermittedRoute)

_INVITATION = "inv_01kaz1t8w4c6m9r2hv5b7k3q0d"
Id = Annotated[str, Path(max_length=80)]


class UserAnswer(Person):
    model_config = example(created_by=f"invitation:{_INVITATION}", last_sign_in_at=NEXT_DAY)
    created_by: str
    last_sign_in_at: Moment | None
    deactivated_at: Moment | None


class InvitationAnswer(Answer):
    model_config = example(
        invitation_id=_INVITATION,
        email=JANES_ADDRESS,
        role="org_admin",
        created_at=DAY_BEFORE,
        created_by=f"user:{ROOT}",
        expires_at="2026-11-27T14:05:00Z",
    )
    invitation_id: str
    email: str
    role: Role
    created_at: Moment
    created_by: str
    expires_at: Moment
    accepted_at: Moment | None
    revoked_at: Moment | None


class NewInvitationAnswer(InvitationAnswer):
    """`link` and `token` are shown this once: whoever has one can use it."""

    model_config = example(link="https://pay.example/console/invitation#b71c…", token="b71c…")
    link: str
    token: str


class NewUser(Body):
    model_config = example(email="joe@acme.example", role="manager")
    email: Email
    role: GivenRole


class RoleChange(Body):
    model_config = example(role="user")
    role: GivenRole


def new_invitation_answer(settings: Settings, made: NewInvitation) -> NewInvitationAnswer:
    record = InvitationAnswer.model_validate(made.record).model_dump()
    moments: dict[str, datetime | None] = {
        name: getattr(made.record, name) for name in ("created_at", "expires_at", "accepted_at", "revoked_at")
    }
    link = link_to(settings, made.token).reveal()
    return NewInvitationAnswer(**record | moments, link=link, token=made.token.reveal())


@router.get("")
@allow(Role.ORG_ADMIN)
async def list_(call: Call, limit: Limit = 50, cursor: Cursor = None) -> Page[UserAnswer]:
    """List people, newest first, deactivated ones too."""
    page = await page_users(call.core.store, call.organization_id, limit=limit, cursor=cursor)
    return Page(items=[UserAnswer.model_validate(each) for each in page.items], next_cursor=page.next_cursor)


@router.post("", status_code=status.HTTP_201_CREATED)
@allow(Role.ORG_ADMIN, person=True)
async def create(call: Call, body: NewUser) -> NewInvitationAnswer:
    """Invite a person, who chooses a password by the link. A new invitation replaces an open one to the address."""
    made = await invite(
        call.core.store,
        call.core.clock,
        organization_id=call.organization_id,
        email=body.email,
        role=body.role,
        actor=call.actor,
        seats=seats_of,
    )
    return new_invitation_answer(call.core.settings, made)


@router.get("/invitations")
@allow(Role.ORG_ADMIN)
async def list_invitations(call: Call, limit: Limit = 50, cursor: Cursor = None) -> Page[InvitationAnswer]:
    """List invitations, newest first, used and revoked ones too."""
    page = await page_invitations(call.core.store, call.organization_id, limit=limit, cursor=cursor)
    return Page(items=[InvitationAnswer.model_validate(each) for each in page.items], next_cursor=page.next_cursor)


@router.post("/invitations/{invitation_id}/revoke")
@allow(Role.ORG_ADMIN, person=True)
async def revoke(call: Call, invitation_id: Id) -> InvitationAnswer:
    """Nobody gets in with it any more. Again, or after it was used: changes nothing."""
    revoked = await revoke_invitation(
        call.core.store,
        call.core.clock,
        organization_id=call.organization_id,
        invitation_id=invitation_id,
        actor=call.actor,
    )
    return InvitationAnswer.model_validate(revoked)


@router.get("/{user_id}")
@allow(Role.ORG_ADMIN)
async def read(call: Call, user_id: Id) -> UserAnswer:
    """Read one person, by id or address."""
    return UserAnswer.model_validate(await user_named(call.core.store, call.organization_id, user_id))


@router.patch("/{user_id}")
@allow(Role.ORG_ADMIN, person=True)
async def change(call: Call, user_id: Id, body: RoleChange) -> UserAnswer:
    """Give a person another role; their sessions end. Nobody changes their own, and the last org_admin stays one."""
    changed = await change_role(
        call.core.store,
        call.core.clock,
        organization_id=call.organization_id,
        user_id=user_id,
        role=body.role,
        actor=call.actor,
    )
    return UserAnswer.model_validate(changed)


@router.post("/{user_id}/deactivate")
@allow(Role.ORG_ADMIN, person=True)
async def deactivate(call: Call, user_id: Id) -> UserAnswer:
    """Keep a person out from the next request on."""
    gone = await deactivate_user(
        call.core.store,
        call.core.clock,
        organization_id=call.organization_id,
        user_id=user_id,
        actor=call.actor,
    )
    return UserAnswer.model_validate(gone)


@router.post("/{user_id}/activate")
@allow(Role.ORG_ADMIN, person=True)
async def activate(call: Call, user_id: Id) -> UserAnswer:
    """Let a deactivated person in again, with the role they had."""
    back = await activate_user(
        call.core.store,
        call.core.clock,
        organization_id=call.organization_id,
        user_id=user_id,
        actor=call.actor,
        seats=seats_of,
    )
    return UserAnswer.model_validate(back)
