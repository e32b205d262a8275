"""Support grants: an organization lets the platform's people read its payments, for a day at most.

Given by its own org_admin, in person, with a reason; taken back by any of them. The operator of the machine cannot give
one. Each use, and each attempt without one, is in the organization's own audit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.errors import DeniedError, InputError, NotFoundError
from mpesa_mcp.identity.models import Organization, SupportGrant
from mpesa_mcp.identity.names import checked_reason
from mpesa_mcp.identity.organizations import changeable
from mpesa_mcp.identity.principal import Actor, NotAllowed
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.paging import Page, page_by_id
from mpesa_mcp.values import Clock, Role, new_id

MOST_HOURS: Final = 24


class NoSupportGrant(DeniedError):
    """The organization lets nobody of the platform read its payments now."""

    code = "no_support_grant"

    def __init__(self) -> None:
        super().__init__(
            "The organization's payments are its own. One of its org_admins, signed in, may let the platform read them "
            "for a day at most: POST /api/v1/organizations/{id}/support-grants."
        )


@dataclass(frozen=True, slots=True)
class GrantRecord:
    """A grant as read. Times in UTC."""

    grant_id: str
    organization_id: str
    reason: str
    given_by: str
    given_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    revoked_by: str | None

    def stands(self, now: datetime) -> bool:
        """Whether it lets anybody read now."""
        return self.revoked_at is None and now < self.expires_at


async def give_grant(
    store: Store, clock: Clock, *, organization_id: str, hours: int, reason: str, actor: Actor
) -> GrantRecord:
    """Lets the platform's super_admins read the organization's payments for so many hours.

    Raises InputError, NotAllowed, NotFoundError, OrganizationClosed.
    """
    if actor.role is not Role.ORG_ADMIN or actor.user_id is None:
        raise NotAllowed
    if not 1 <= hours <= MOST_HOURS:
        raise InputError(f"hours must be 1 to {MOST_HOURS}.", field="hours")
    now = clock.now()
    row = SupportGrant(
        organization_id=organization_id,
        id=new_id("sup"),
        reason=checked_reason(reason),
        given_by=actor.name,
        given_at=now,
        expires_at=now + timedelta(hours=hours),
    )
    async with store.session(organization_id) as session:
        await changeable(session)
        session.add(row)
        audit.record(
            session,
            clock,
            actor=actor.name,
            action="support.granted",
            subject=row.id,
            after={"hours": hours, "reason": row.reason},
        )
        return _record(row)


async def revoke_grant(store: Store, clock: Clock, *, organization_id: str, grant_id: str, actor: Actor) -> GrantRecord:
    """Takes a grant back. Again, or after its time: changes nothing. Raises NotAllowed, NotFoundError."""
    if not actor.is_any_of(Role.ORG_ADMIN):
        raise NotAllowed
    async with store.session(organization_id) as session:
        row = await session.lock(SupportGrant, grant_id)
        if row is None:
            raise NotFoundError("support grant")
        if _record(row).stands(clock.now()):
            row.revoked_at, row.revoked_by = clock.now(), actor.name
            audit.record(session, clock, actor=actor.name, action="support.revoked", subject=row.id)
        return _record(row)


async def list_grants(store: Store, organization_id: str) -> Sequence[GrantRecord]:
    """All of an organization, newest first."""
    async with store.reading(organization_id) as session:
        return [_record(row) for row in await session.all(select(SupportGrant).order_by(col(SupportGrant.id).desc()))]


async def page_of_grants(store: Store, organization_id: str, *, limit: int, cursor: str | None) -> Page[GrantRecord]:
    """A part of them, newest first. Raises NotFoundError for an organization that is not there."""
    async with store.reading(organization_id) as session:
        if await session.get(Organization, organization_id) is None:
            raise NotFoundError("organization")
        page = await page_by_id(session, SupportGrant, limit=limit, cursor=cursor)
    return Page([_record(row) for row in page.items], page.next_cursor)


async def has_support_grant(store: Store, clock: Clock, organization_id: str) -> bool:
    """Whether one stands, for what is shown in part without it; what it shows goes through `require_support_grant`."""
    valid = select(SupportGrant.id).where(
        col(SupportGrant.revoked_at).is_(None), col(SupportGrant.expires_at) > clock.now()
    )
    async with store.reading(organization_id) as session:
        return await session.first(valid) is not None


async def require_support_grant(
    store: Store, clock: Clock, *, organization_id: str, actor: Actor, reads: str
) -> GrantRecord:
    """The grant under which this super_admin now reads, told in the organization's audit before anything is shown.

    `reads` says what. Raises NotFoundError, NoSupportGrant, which is told there too.
    """
    now, unrevoked = clock.now(), select(SupportGrant).where(col(SupportGrant.revoked_at).is_(None))
    async with store.session(organization_id) as session:
        if await session.get(Organization, organization_id) is None:
            raise NotFoundError("organization")
        row = await session.first(
            unrevoked.where(col(SupportGrant.expires_at) > now).order_by(col(SupportGrant.expires_at).desc())
        )
        audit.record(
            session,
            clock,
            actor=actor.name,
            action="support.read",
            subject=row.id if row else organization_id,
            decision="allowed" if row else "refused",
            detail={"reads": reads},
        )
    if row is None:
        raise NoSupportGrant
    return _record(row)


def _record(row: SupportGrant) -> GrantRecord:
    return GrantRecord(
        grant_id=row.id,
        organization_id=row.organization_id,
        reason=row.reason,
        given_by=row.given_by,
        given_at=row.given_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        revoked_by=row.revoked_by,
    )
