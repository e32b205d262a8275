"""The only statements that look across organizations. They return organizations, ids and moments, never contents.

Each has a reason that cannot be known inside one organization: which one a key, a slug or a callback token belongs to,
which rows are due, and when the next will be. A test lists them. On PostgreSQL each calls its twin in crossings.sql,
which has the owner's rights; on SQLite these are the only unbound sessions.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnClause,
    FunctionElement,
    Interval,
    Select,
    Text,
    and_,
    cast,
    column,
    func,
    or_,
    select,
    table,
    tuple_,
    update,
)

from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.tables import UtcDateTime

_ORGANIZATIONS = table(
    "organizations", column("organization_id"), column("slug"), column("callback_id"), column("created_at")
)
_API_KEYS = table("api_keys", column("organization_id"), column("id"), column("key_hash"))


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
    organizations = select(_ORGANIZATIONS.c.organization_id).where(_ORGANIZATIONS.c.slug == slug)
    async with store.unbound_reading() as session:
        crossing = select(func.find_organization(slug)) if store.is_postgresql else organizations
        found: str | None = (await session.execute(crossing)).scalars().first()
    return found


async def list_organizations(store: Store) -> Sequence[str]:
    """The ids of all organizations, oldest first."""
    organizations = select(_ORGANIZATIONS.c.organization_id).order_by(_ORGANIZATIONS.c.created_at)
    async with store.unbound_reading() as session:
        crossing = _rows_of(func.list_organizations(), "organization_id") if store.is_postgresql else organizations
        found: Sequence[str] = (await session.execute(crossing)).scalars().all()
    return found


async def find_key(store: Store, key_hash: str) -> tuple[str, str] | None:
    """(organization, key) of the API key with this keyed hash, revoked or not."""
    keys = select(_API_KEYS.c.organization_id, _API_KEYS.c.id).where(_API_KEYS.c.key_hash == key_hash)
    async with store.unbound_reading() as session:
        crossing = _rows_of(func.find_key(key_hash), "organization_id", "id") if store.is_postgresql else keys
        found = (await session.execute(crossing)).first()
    return (found[0], found[1]) if found else None


async def claim_due(
    store: Store,
    due: DueTable,
    *,
    statuses: Sequence[str],
    now: datetime,
    lease: timedelta,
    limit: int,
    passing_over: Collection[str] = (),
) -> Sequence[Claim]:
    """Takes up to `limit` due rows in these statuses, oldest first, each under a lease and with a new fence.

    Rows of the organizations in `passing_over` stay where they are: they have their share of the work already.
    """
    if store.is_postgresql:
        texts = (cast(list(statuses), ARRAY(Text)), cast(list(passing_over), ARRAY(Text)))
        moment, duration = cast(now, UtcDateTime()), cast(lease, Interval)
        taken = func.claim_due(due.value, texts[0], moment, duration, limit, texts[1])
        async with store.unbound() as session:
            found = await session.execute(_rows_of(taken, "organization_id", "id", "fence"))
            return [Claim(*row) for row in found.all()]
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
                rows.c.organization_id.not_in(passing_over),
            )
        )
        .order_by(rows.c.next_action_at, rows.c.id)
        .limit(limit)
    )
    # Looked for on a reader first: an idle worker takes no write lock.
    if not await _any(store, waiting):
        return []
    take = (
        update(rows)
        .where(key.in_(waiting))
        .values(lease_until=now + lease, fence=rows.c.fence + 1)
        .returning(rows.c.organization_id, rows.c.id, rows.c.fence)
    )
    async with store.unbound() as session:
        return [Claim(*row) for row in (await session.execute(take)).all()]


async def next_due(store: Store, due: DueTable, *, after: datetime) -> datetime | None:
    """When the next row of this queue becomes due, later than `after`; says nothing of whose it is."""
    when: ColumnClause[datetime] = column("next_action_at", UtcDateTime())
    earliest = select(func.min(when)).select_from(table(due.value, when)).where(when > after)
    async with store.unbound_reading() as session:
        crossing = select(func.next_due(due.value, cast(after, UtcDateTime()))) if store.is_postgresql else earliest
        found: datetime | None = (await session.execute(crossing)).scalars().first()
    return found


def _rows_of(function: FunctionElement[Any], *columns: str) -> Select[Any]:
    """What a function of crossings.sql returns, as rows of these columns."""
    rows = function.table_valued(*columns)
    return select(*(rows.c[name] for name in columns))


async def _any(store: Store, statement: Select[str, str]) -> bool:
    async with store.unbound_reading() as session:
        return (await session.execute(statement.limit(1))).first() is not None
