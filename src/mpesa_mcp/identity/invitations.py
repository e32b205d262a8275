"""Invitations: a link, good once and for three days, with which one person chooses a password and becomes a user.

It is worth no more than who invited: one of an org_admin or super_admin who is none any more is not good, and of the
platform's invitations the first that is accepted makes the first org_admin, and no other makes a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import ColumnElement, and_, or_, update
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.errors import Advice, ConflictError, DeniedError, NotFoundError
from mpesa_mcp.identity.models import PLATFORM, ApiKey, Invitation, Organization, User
from mpesa_mcp.identity.passwords import check_password, hash_password
from mpesa_mcp.identity.principal import Actor, NotAllowed
from mpesa_mcp.identity.seats import SeatLimit, require_seat_to_invite
from mpesa_mcp.identity.users import EmailTaken, UserRecord, add_user, check_role, checked_email
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.crossings import find_invitation
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.paging import Page, page_by_id
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock, Role, Secret, new_id, random_hex, sha256_hex

LIFE: Final = timedelta(days=3)
_TOKEN_BITS: Final = 256


class InvitationNotGood(DeniedError):
    """Unknown, used, revoked or expired, or its address signs in elsewhere; one text for all."""

    code = "invitation_not_good"
    http_status = 404

    def __init__(self) -> None:
        super().__init__("This invitation cannot be used (any more). Ask for a new one.")


class HasAnAdmin(ConflictError):
    """A super_admin invites the first org_admin only; from then on the organization manages its people."""

    code = "has_an_admin"

    def __init__(self) -> None:
        super().__init__(
            "The organization is in use. Its org_admin invites everybody else; where there is none, the operator of "
            "this machine does (mpesa-mcp org invite)."
        )


class AlreadyMember(ConflictError):
    """The address signs in to this organization already."""

    code = "already_member"
    advice = Advice.FIX_INPUT

    def __init__(self) -> None:
        super().__init__(
            "This address belongs to a user of the organization already, so nobody was invited. Give them another role "
            "if that is meant; if they were deactivated, let them in again."
        )


class InvitationStatus(StrEnum):
    OPEN = "open"
    ACCEPTED = "accepted"
    REVOKED = "revoked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class InvitationRecord:
    """An invitation as read. Times in UTC."""

    invitation_id: str
    organization_id: str
    email: str
    role: Role
    created_at: datetime
    created_by: str
    expires_at: datetime
    accepted_at: datetime | None
    revoked_at: datetime | None

    def status(self, now: datetime) -> InvitationStatus:
        if self.accepted_at is not None:
            return InvitationStatus.ACCEPTED
        if self.revoked_at is not None:
            return InvitationStatus.REVOKED
        return InvitationStatus.OPEN if now < self.expires_at else InvitationStatus.EXPIRED


@dataclass(frozen=True, slots=True)
class NewInvitation:
    """One just made: the only moment its token exists on our side."""

    token: Secret
    record: InvitationRecord


async def invite(
    store: Store,
    clock: Clock,
    *,
    organization_id: str,
    email: str,
    role: Role,
    actor: Actor,
    seats: SeatLimit,
) -> NewInvitation:
    """Invites a person. Whether the address is in use elsewhere is not told; accepting would then fail.

    A super_admin may invite an organization's first org_admin and nobody else. Raises InputError, NotAllowed,
    NotFoundError, OrganizationClosed, HasAnAdmin, AlreadyMember, NoSeatLeft.
    """
    email = checked_email(email)
    check_role(role, organization_id)
    by_platform = actor.role is Role.SUPER_ADMIN
    if not actor.may_grant(role) and not (by_platform and role is Role.ORG_ADMIN):
        raise NotAllowed
    token, now = Secret(random_hex(_TOKEN_BITS)), clock.now()
    row = Invitation(
        organization_id=organization_id,
        id=new_id("inv"),
        email=email,
        role=role,
        token_sha256=sha256_hex(token.reveal()),
        created_at=now,
        created_by=actor.name,
        expires_at=now + LIFE,
    )
    async with store.session(organization_id) as session:
        # A super_admin is not told who is in an organization.
        if not by_platform and await session.first(select(User.id).where(User.email == email)) is not None:
            raise AlreadyMember
        # The organization is held from here on.
        await require_seat_to_invite(session, seats, email=email, now=now)
        replaced = col(Invitation.email) == email
        if by_platform:
            if await _is_in_use(session):
                raise HasAnAdmin
            # Whoever was invited to be the first org_admin, at a mistaken address perhaps, is not any more.
            replaced = or_(replaced, col(Invitation.role) == Role.ORG_ADMIN)
        await session.change(update(Invitation).where(_is_open(), replaced).values(revoked_at=now))
        session.add(row)
        detail = {"role": role.value}
        audit.record(session, clock, actor=actor.name, action="user.invited", subject=row.id, detail=detail)
    return NewInvitation(token, _record(row))


async def list_invitations(store: Store, organization_id: str) -> Sequence[InvitationRecord]:
    """All of an organization, used ones too, oldest first."""
    async with store.reading(organization_id) as session:
        return [_record(row) for row in await session.all(select(Invitation).order_by(col(Invitation.id)))]


async def invitation_named(store: Store, organization_id: str, id_or_email: str) -> InvitationRecord:
    """The one with this id, or the newest to this address. Raises NotFoundError."""
    wanted = or_(col(Invitation.id) == id_or_email, col(Invitation.email) == id_or_email.strip().casefold())
    async with store.reading(organization_id) as session:
        row = await session.first(select(Invitation).where(wanted).order_by(col(Invitation.id).desc()))
    if row is None:
        raise NotFoundError("invitation", known_by="id or address")
    return _record(row)


async def page_invitations(
    store: Store, organization_id: str, *, limit: int, cursor: str | None
) -> Page[InvitationRecord]:
    """The invitations of an organization, used ones too, newest first."""
    async with store.reading(organization_id) as session:
        page = await page_by_id(session, Invitation, limit=limit, cursor=cursor)
    return Page([_record(row) for row in page.items], page.next_cursor)


async def page_first_invitations(
    store: Store, organization_id: str, *, limit: int, cursor: str | None
) -> Page[InvitationRecord]:
    """Those that were for the first org_admin, newest first. Raises NotFoundError for an unknown organization."""
    async with store.reading(organization_id) as session:
        if await session.get(Organization, organization_id) is None:
            raise NotFoundError("organization")
        page = await page_by_id(session, Invitation, _is_first(), limit=limit, cursor=cursor)
    return Page([_record(row) for row in page.items], page.next_cursor)


async def revoke_invitation(
    store: Store, clock: Clock, *, organization_id: str, invitation_id: str, actor: Actor
) -> InvitationRecord:
    """Nobody gets in with it any more. Again, or after it was used: changes nothing.

    To a super_admin only those for the first org_admin exist. Raises NotFoundError, NotAllowed.
    """
    by_platform = actor.role is Role.SUPER_ADMIN
    async with store.session(organization_id) as session:
        row = await session.lock(Invitation, invitation_id)
        first = select(Invitation.id).where(Invitation.id == invitation_id, _is_first())
        if row is None or (by_platform and await session.first(first) is None):
            raise NotFoundError("invitation")
        if not by_platform and not actor.may_grant(Role(row.role)):
            raise NotAllowed
        if row.accepted_at is None and row.revoked_at is None:
            row.revoked_at = clock.now()
            audit.record(session, clock, actor=actor.name, action="user.invitation_revoked", subject=row.id)
        return _record(row)


def link_to(settings: Settings, token: Secret) -> Secret:
    """Where the invited person chooses a password. The token follows the #, so that no server ever logs it."""
    return Secret(f"{settings.reached_at}/console/invitation#{token.reveal()}")


async def read_invitation(store: Store, clock: Clock, token: str) -> tuple[InvitationRecord, str]:
    """The invitation that this token is good for, and the organization's name. Raises InvitationNotGood."""
    organization_id, invitation_id = await _ids_of(store, token)
    async with store.reading(organization_id) as session:
        row = await session.get(Invitation, invitation_id)
        organization = await session.get(Organization, organization_id)
    if row is None or organization is None or not _is_good(row, clock.now()):
        raise InvitationNotGood
    return _record(row), organization.name


async def accept_invitation(
    store: Store, clock: Clock, token: str, password: Secret, *, seats: SeatLimit
) -> UserRecord:
    """Makes the user the invitation is for. Raises InputError for the password, InvitationNotGood, NoSeatLeft."""
    organization_id, invitation_id = await _ids_of(store, token)
    async with store.reading(organization_id) as session:
        row = await session.get(Invitation, invitation_id)
    if row is None or not _is_good(row, clock.now()):
        raise InvitationNotGood
    check_password(password, email=row.email)
    password_hash = await hash_password(password)
    by_platform = await _is_super_admin(store, row.created_by)
    try:
        async with store.session(organization_id) as session:
            # In the order in which `invite` takes them.
            await session.lock(Organization, organization_id)
            row = await session.lock(Invitation, invitation_id)
            if (
                row is None
                or not _is_good(row, clock.now())
                or not await _is_stood_by(session, row, by_platform=by_platform)
            ):
                raise InvitationNotGood
            row.accepted_at = clock.now()
            actor = f"invitation:{row.id}"
            return await add_user(
                session,
                clock,
                email=row.email,
                role=Role(row.role),
                password_hash=password_hash,
                actor=actor,
                seats=seats,
            )
    except EmailTaken as taken:
        raise InvitationNotGood from taken


async def _ids_of(store: Store, token: str) -> tuple[str, str]:
    """Organization and invitation of a token. Raises InvitationNotGood."""
    found = await find_invitation(store, sha256_hex(token))
    if found is None:
        raise InvitationNotGood
    return found


def _is_good(row: Invitation, now: datetime) -> bool:
    return row.accepted_at is None and row.revoked_at is None and now < row.expires_at


def _is_first() -> ColumnElement[bool]:
    """For an org_admin, and made before any person or program of the organization was let in."""
    made_at = col(Invitation.created_at)
    people, keys = (select(table.id).where(col(table.created_at) < made_at) for table in (User, ApiKey))
    return and_(col(Invitation.role) == Role.ORG_ADMIN, ~people.exists(), ~keys.exists())


def _is_open() -> ColumnElement[bool]:
    return and_(col(Invitation.accepted_at).is_(None), col(Invitation.revoked_at).is_(None))


async def _is_super_admin(store: Store, inviter: str) -> bool:
    """Whether somebody of the platform invited, who may still sign in there."""
    async with store.reading(PLATFORM) as session:
        user = await session.get(User, inviter.removeprefix("user:"))
    return user is not None and user.deactivated_at is None and user.role == Role.SUPER_ADMIN


async def _is_stood_by(session: OrganizationSession, row: Invitation, *, by_platform: bool) -> bool:
    """Whether who invited could still give this role today."""
    if row.created_by.startswith("operator:"):
        return True
    inviter = await session.get(User, row.created_by.removeprefix("user:"))
    if inviter is None:
        return by_platform and not await _has_admin(session)
    return inviter.deactivated_at is None and Role(inviter.role).at_least(Role(row.role))


async def _is_in_use(session: OrganizationSession) -> bool:
    """Whether somebody, or a program, has been let in: whoever is invited now would find what is theirs."""
    return (
        await session.first(select(User.id).limit(1)) is not None
        or await session.first(select(ApiKey.id).limit(1)) is not None
    )


async def _has_admin(session: OrganizationSession) -> bool:
    return await session.first(select(User.id).where(User.role == Role.ORG_ADMIN)) is not None


def _record(row: Invitation) -> InvitationRecord:
    return InvitationRecord(
        invitation_id=row.id,
        organization_id=row.organization_id,
        email=row.email,
        role=Role(row.role),
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        accepted_at=row.accepted_at,
        revoked_at=row.revoked_at,
    )
