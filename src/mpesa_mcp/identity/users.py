"""People: making a user, changing what one may do, and ending it.

Three rules hold for everybody but the operator of the machine: nobody grants more than they have, nobody changes their
own role, and the last org_admin of an organization stays. A change ends the person's sessions: `generation` grows, so
that no token made before it is accepted at the next request.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.errors import Advice, ConflictError, InputError, NotFoundError
from mpesa_mcp.identity.models import PLATFORM, LoginSession, User
from mpesa_mcp.identity.passwords import check_password, hash_password
from mpesa_mcp.identity.principal import Actor, NotAllowed
from mpesa_mcp.identity.seats import SeatLimit, require_seat
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.paging import Page, page_by_id
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import MEMBER_ROLES, Clock, Role, Secret, new_id

_EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+")
_MAX_EMAIL = 254


class EmailTaken(ConflictError):
    """The address signs in already, here or elsewhere; one text for both."""

    code = "email_taken"
    advice = Advice.FIX_INPUT

    def __init__(self) -> None:
        super().__init__(
            "This address cannot be used for a new user: it may sign in already, here or in another organization. Take "
            "another address."
        )


class LastAdmin(ConflictError):
    """Without an org_admin nobody could manage the organization."""

    code = "last_admin"

    def __init__(self) -> None:
        super().__init__("This is the only org_admin. Make another one first. Nothing was changed.")


class OwnRole(NotAllowed):
    """Somebody else has to decide what one may do."""

    code = "own_role"

    def __init__(self) -> None:
        super().__init__("Nobody changes their own role or deactivates themselves. Ask another org_admin.")


@dataclass(frozen=True, slots=True)
class UserRecord:
    """A person as read. Times in UTC."""

    organization_id: str
    user_id: str
    email: str
    role: Role
    created_at: datetime
    created_by: str
    deactivated_at: datetime | None
    last_sign_in_at: datetime | None


def checked_email(text: str) -> str:
    """The address in lower case, by which it is found. Raises InputError."""
    email = text.strip().casefold()
    if len(email) > _MAX_EMAIL or not email.isprintable() or not _EMAIL.fullmatch(email):
        raise InputError("email must be an address such as jane@example.com.", field="email")
    return email


def check_role(role: Role, organization_id: str) -> None:
    """Raises InputError: only the platform has super_admins, and it has nobody else."""
    if (role is Role.SUPER_ADMIN) != (organization_id == PLATFORM):
        raise InputError(
            f"role must be one of {', '.join(MEMBER_ROLES)}; super_admin is for the platform.", field="role"
        )


async def create_user(
    store: Store,
    clock: Clock,
    *,
    organization_id: str,
    email: str,
    role: Role,
    password: Secret,
    actor: Actor,
    seats: SeatLimit,
) -> UserRecord:
    """Makes a user who can sign in. Raises InputError, NotAllowed, NotFoundError, EmailTaken, NoSeatLeft."""
    email = checked_email(email)
    check_role(role, organization_id)
    if not actor.may_grant(role):
        raise NotAllowed
    check_password(password, email=email)
    password_hash = await hash_password(password)
    async with store.session(organization_id) as session:
        return await add_user(
            session, clock, email=email, role=role, password_hash=password_hash, actor=actor.name, seats=seats
        )


async def add_user(
    session: OrganizationSession,
    clock: Clock,
    *,
    email: str,
    role: Role,
    password_hash: str,
    actor: str,
    seats: SeatLimit,
) -> UserRecord:
    """Adds the row in the caller's transaction. Raises NotFoundError, EmailTaken, NoSeatLeft."""
    await require_seat(session, seats)
    row = User(
        organization_id=session.organization_id,
        id=new_id("usr"),
        email=email,
        role=role,
        password_hash=password_hash,
        created_at=clock.now(),
        created_by=actor,
    )
    session.add(row)
    try:
        await session.flush()
    except IntegrityError as taken:
        raise EmailTaken from taken
    audit.record(session, clock, actor=actor, action="user.created", subject=row.id, detail={"role": row.role})
    return _record(row)


async def list_users(store: Store, organization_id: str) -> Sequence[UserRecord]:
    """All people of an organization, deactivated ones too, oldest first."""
    async with store.reading(organization_id) as session:
        return [_record(row) for row in await session.all(select(User).order_by(col(User.id)))]


async def page_users(store: Store, organization_id: str, *, limit: int, cursor: str | None) -> Page[UserRecord]:
    """The people of an organization, newest first."""
    async with store.reading(organization_id) as session:
        page = await page_by_id(session, User, limit=limit, cursor=cursor)
    return Page([_record(row) for row in page.items], page.next_cursor)


async def user_named(store: Store, organization_id: str, id_or_email: str) -> UserRecord:
    """The person of this organization with this id or address. Raises NotFoundError."""
    wanted = or_(col(User.id) == id_or_email, col(User.email) == id_or_email.strip().casefold())
    async with store.reading(organization_id) as session:
        row = await session.first(select(User).where(wanted))
    if row is None:
        raise NotFoundError("user", known_by="id or address")
    return _record(row)


async def change_role(
    store: Store, clock: Clock, *, organization_id: str, user_id: str, role: Role, actor: Actor
) -> UserRecord:
    """Gives a person another role. Raises InputError, NotFoundError, NotAllowed, OwnRole, LastAdmin."""
    check_role(role, organization_id)
    async with store.session(organization_id) as session:
        row = await _changeable(session, user_id, actor)
        if not actor.may_grant(role):
            raise NotAllowed
        before = row.role
        if before == role:
            return _record(row)
        now = clock.now()
        admin_until = now if row.is_org_admin else row.admin_until
        await _end_sessions(session, clock, row, role=role, role_changed_at=now, admin_until=admin_until)
        audit.record(
            session,
            clock,
            actor=actor.name,
            action="user.role_changed",
            subject=row.id,
            before={"role": before},
            after={"role": role.value},
        )
        return await _read(session, row.id)


async def deactivate_user(
    store: Store, clock: Clock, *, organization_id: str, user_id: str, actor: Actor
) -> UserRecord:
    """Keeps a person out from the next request on. Doing it again changes nothing.

    Raises NotFoundError, NotAllowed, OwnRole, LastAdmin.
    """
    async with store.session(organization_id) as session:
        row = await _changeable(session, user_id, actor)
        if row.deactivated_at is None:
            now = clock.now()
            admin_until = now if row.is_org_admin else row.admin_until
            await _end_sessions(session, clock, row, deactivated_at=now, admin_until=admin_until)
            audit.record(session, clock, actor=actor.name, action="user.deactivated", subject=row.id)
        return await _read(session, row.id)


async def activate_user(
    store: Store, clock: Clock, *, organization_id: str, user_id: str, actor: Actor, seats: SeatLimit
) -> UserRecord:
    """Lets a deactivated person in again, with the role they had. Doing it again changes nothing.

    Raises NotFoundError, NotAllowed, OwnRole, NoSeatLeft, OrganizationClosed.
    """
    async with store.session(organization_id) as session:
        row = await session.get(User, user_id)
        if row is not None and row.deactivated_at is not None:
            await require_seat(session, seats)
            row = await session.lock(User, user_id)
        if row is None:
            raise NotFoundError("user")
        _require_may_change(row, actor)
        if row.deactivated_at is not None:
            # As if they had just been given the role.
            row.deactivated_at, row.role_changed_at = None, clock.now()
            audit.record(session, clock, actor=actor.name, action="user.activated", subject=row.id)
        return _record(row)


async def change_password(
    store: Store, clock: Clock, *, organization_id: str, user_id: str, password: Secret, actor: str
) -> None:
    """Sets a password and ends all sessions of the person. Raises InputError, NotFoundError."""
    async with store.reading(organization_id) as session:
        user = await _read(session, user_id)
    check_password(password, email=user.email)
    password_hash = await hash_password(password)
    async with store.session(organization_id) as session:
        row = await session.lock(User, user_id)
        if row is None or row.deactivated_at is not None:
            raise NotFoundError("user")
        await _end_sessions(session, clock, row, password_hash=password_hash)
        audit.record(session, clock, actor=actor, action="user.password_changed", subject=row.id)


async def _changeable(session: OrganizationSession, user_id: str, actor: Actor) -> User:
    """The user, locked, if this actor may change them and they are not the last org_admin."""
    # All of them are held: of two who would each remove the other, the second finds one left.
    admins = await session.all(
        select(User)
        .where(User.role == Role.ORG_ADMIN, col(User.deactivated_at).is_(None))
        .order_by(col(User.id))
        .with_for_update()
    )
    row = await session.lock(User, user_id)
    if row is None:
        raise NotFoundError("user")
    _require_may_change(row, actor)
    in_charge = [admin.id for admin in admins]
    if in_charge == [user_id]:
        raise LastAdmin
    if actor.role is Role.ORG_ADMIN and actor.user_id not in in_charge:
        raise NotAllowed  # somebody removed them a moment ago
    return row


def _require_may_change(row: User, actor: Actor) -> None:
    """Raises OwnRole, NotAllowed."""
    if actor.user_id == row.id:
        raise OwnRole
    if not actor.may_grant(Role(row.role)):
        raise NotAllowed


async def _end_sessions(session: OrganizationSession, clock: Clock, row: User, **changes: object) -> None:
    """Makes the change; no token made before it is good any more."""
    await session.change(
        update(User).where(col(User.id) == row.id).values(generation=col(User.generation) + 1, **changes)
    )
    await session.change(
        update(LoginSession)
        .where(col(LoginSession.user_id) == row.id, col(LoginSession.ended_at).is_(None))
        .values(ended_at=clock.now())
    )
    session.wake(access_topic(session.organization_id))


def access_topic(organization_id: str) -> str:
    """What is woken when somebody's right to act in the organization changed: whoever remembers one forgets it."""
    return f"access:{organization_id}"


async def _read(session: OrganizationSession, user_id: str) -> UserRecord:
    row = await session.get(User, user_id)
    if row is None:
        raise NotFoundError("user")
    return _record(row)


def _record(row: User) -> UserRecord:
    return UserRecord(
        organization_id=row.organization_id,
        user_id=row.id,
        email=row.email,
        role=Role(row.role),
        created_at=row.created_at,
        created_by=row.created_by,
        deactivated_at=row.deactivated_at,
        last_sign_in_at=row.last_sign_in_at,
    )
