"""The only statements that look across organizations. They return organizations and ids, never contents.

Each has a reason that cannot be known inside one organization: which one a key, a slug or a callback token belongs to,
which rows are due, and when the next will be. A test lists them; on PostgreSQL the same list becomes SECURITY DEFINER
functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ColumnClause, Select, and_, column, func, or_, select, table, tuple_, update

from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.tables import UtcDateTime

_ORGANIZATIONS = table(
    "organizations", column("organization_id"), column("slug"), column("callback_id"), column("created_at")
)
_API_KEYS = table("api_keys", column("organization_id"), column("id"), column("key_hash"))
_ATTEMPTS = table("attempts", column("organization_id"), column("id"), column("callback_token_sha256"))


class DueTable(StrEnum):
    """The tables that are queues."""

    PAYMENTS = "payments"
    INQUIRIES = "inquiries"
    CALLBACKS = "callbacks"


@dataclass(frozen=True, slots=True)
class Claim:
    """A row taken for work: `fence` must still be the row's own when the work is concluded."""

    organization_id: str
    id: str
    fence: int


async def find_organization(store: Store, slug: str) -> str | None:
    """The id of the organization with this slug."""
    statement: Select[str] = select(_ORGANIZATIONS.c.organization_id).where(_ORGANIZATIONS.c.slug == slug)
    async with store.unbound_reading() as session:
        found: str | None = (await session.execute(statement)).scalars().first()
    return found


async def list_organizations(store: Store) -> Sequence[str]:
    """The ids of all organizations, oldest first."""
    statement: Select[str] = select(_ORGANIZATIONS.c.organization_id).order_by(_ORGANIZATIONS.c.created_at)
    async with store.unbound_reading() as session:
        return (await session.execute(statement)).scalars().all()


async def find_key(store: Store, key_hash: str) -> tuple[str, str] | None:
    """(organization, key) of the API key with this keyed hash, revoked or not."""
    statement: Select[str, str] = select(_API_KEYS.c.organization_id, _API_KEYS.c.id)
    async with store.unbound_reading() as session:
        found = (await session.execute(statement.where(_API_KEYS.c.key_hash == key_hash))).first()
    return (found[0], found[1]) if found else None


async def find_callback_token(store: Store, callback_id: str, token_sha256: str) -> tuple[str, str] | None:
    """(organization, attempt) that a callback path belongs to: both of its segments must fit together."""
    statement = (
        select(_ATTEMPTS.c.organization_id, _ATTEMPTS.c.id)
        .select_from(_ATTEMPTS.join(_ORGANIZATIONS, _ATTEMPTS.c.organization_id == _ORGANIZATIONS.c.organization_id))
        .where(_ATTEMPTS.c.callback_token_sha256 == token_sha256, _ORGANIZATIONS.c.callback_id == callback_id)
    )
    async with store.unbound_reading() as session:
        found = (await session.execute(statement)).first()
    return (found[0], found[1]) if found else None


async def claim_due(
    store: Store, due: DueTable, *, statuses: Sequence[str], now: datetime, lease: timedelta, limit: int
) -> Sequence[Claim]:
    """Takes up to `limit` due rows in these statuses, oldest first, each under a lease and with a new fence."""
    rows = table(
        due.value,
        column("organization_id"),
        column("id"),
        column("status"),
        column("next_action_at", UtcDateTime()),
        column("lease_until", UtcDateTime()),
        column("fence"),
    )
    key = tuple_(rows.c.organization_id, rows.c.id)
    waiting = (
        select(rows.c.organization_id, rows.c.id)
        .where(
            and_(
                rows.c.status.in_(statuses),
                rows.c.next_action_at <= now,
                or_(rows.c.lease_until.is_(None), rows.c.lease_until <= now),
            )
        )
        .order_by(rows.c.next_action_at)
        .limit(limit)
    )
    # Looked for on a reader first: an idle worker takes no write lock.
    if not await _any(store, waiting):
        return []
    take = (
        update(rows)
        .where(key.in_(waiting.with_for_update(skip_locked=True)))
        .values(lease_until=now + lease, fence=rows.c.fence + 1)
        .returning(rows.c.organization_id, rows.c.id, rows.c.fence)
    )
    async with store.unbound() as session:
        return [Claim(*row) for row in (await session.execute(take)).all()]


async def next_due(store: Store, due: DueTable, *, after: datetime) -> datetime | None:
    """When the next row of this queue becomes due, later than `after`; says nothing of whose it is."""
    when: ColumnClause[datetime] = column("next_action_at", UtcDateTime())
    statement = select(func.min(when)).select_from(table(due.value, when)).where(when > after)
    async with store.unbound_reading() as session:
        found: datetime | None = (await session.execute(statement)).scalars().first()
    return found


async def _any(store: Store, statement: Select[str, str]) -> bool:
    async with store.unbound_reading() as session:
        return (await session.execute(statement.limit(1))).first() is not None
