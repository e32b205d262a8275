"""The only statements that look across organizations. They return organizations, ids and moments, never contents.

Each has a reason that cannot be known inside one organization: which one a key, a person, a slug or a token belongs to,
which rows are due, when the next will be, where audit entries wait for their seals, and how much each has used (totals
alone). A test lists them. On PostgreSQL each calls its twin in crossings.sql, which has the owner's rights; on SQLite
these are the only unbound sessions.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnClause,
    ColumnElement,
    FunctionElement,
    Interval,
    Select,
    TableClause,
    Text,
    bindparam,
    cast,
    column,
    func,
    literal,
    or_,
    select,
    table,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.tables import UtcDateTime

_ORGANIZATIONS = table("organizations", column("organization_id"), column("slug"), column("callback_id"))
_USERS = table("users", column("organization_id"), column("id"), column("email"))
_REFRESH_TOKENS = table("refresh_tokens", column("organization_id"), column("id"), column("token_sha256"))
_INVITATIONS = table("invitations", column("organization_id"), column("id"), column("token_sha256"))
_API_KEYS = table("api_keys", column("organization_id"), column("id"), column("key_hash"))
_UNSEALED = table("audit_unsealed", column("organization_id"))
_USAGE_CALLS = table("usage_calls", column("organization_id"), column("month"), column("calls"), column("refused"))
_USAGE_PAYMENTS = table(
    "usage_payments", column("organization_id"), column("month"), column("payments"), column("moved_cents")
)


class DueTable(StrEnum):
    """The tables that are queues."""

    PAYMENTS = "payments"
    INQUIRIES = "inquiries"
    CALLBACKS = "callbacks"
    BATCHES = "batches"


@dataclass(frozen=True, slots=True)
class Claim:
    """A row taken for work: `fence` must still be the row's own when the work is concluded."""

    organization_id: str
    id: str
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageTotals:
    """What one organization used in one month; `refused_calls` are not among `calls`."""

    organization_id: str
    calls: int = 0
    refused_calls: int = 0
    payments: int = 0
    moved_cents: int = 0


async def find_organization(store: Store, slug: str) -> str | None:
    """The id of the organization with this slug."""
    organizations = select(_ORGANIZATIONS.c.organization_id).where(_ORGANIZATIONS.c.slug == slug)
    async with store.unbound_reading() as session:
        crossing = select(func.find_organization(slug)) if store.is_postgresql else organizations
        found: str | None = (await session.execute(crossing)).scalars().first()
    return found


async def list_organizations(store: Store, *, after: str = "", limit: int | None = None) -> Sequence[str]:
    """The ids of all organizations, oldest first: those `after` this one, and at most `limit`."""
    ids = _ORGANIZATIONS.c.organization_id
    organizations = select(ids).where(ids > after).order_by(ids).limit(limit)
    async with store.unbound_reading() as session:
        listed = _rows_of(func.list_organizations(after, limit), "organization_id")
        found: Sequence[str] = (await session.execute(listed if store.is_postgresql else organizations)).scalars().all()
    return found


async def find_key(store: Store, key_hash: str) -> tuple[str, str] | None:
    """(organization, key) of the API key with this keyed hash, revoked or not."""
    return await _find(store, func.find_key(key_hash), _API_KEYS, _API_KEYS.c.key_hash == key_hash)


async def find_user(store: Store, email: str) -> tuple[str, str] | None:
    """(organization, user) of the person with this address, deactivated or not."""
    return await _find(store, func.find_user(email), _USERS, _USERS.c.email == email)


async def find_refresh_token(store: Store, token_sha256: str) -> tuple[str, str] | None:
    """(organization, token) of the refresh token with this hash, used or not."""
    mine = _REFRESH_TOKENS.c.token_sha256 == token_sha256
    return await _find(store, func.find_refresh_token(token_sha256), _REFRESH_TOKENS, mine)


async def find_invitation(store: Store, token_sha256: str) -> tuple[str, str] | None:
    """(organization, invitation) of the invitation with this hash, accepted or not."""
    mine = _INVITATIONS.c.token_sha256 == token_sha256
    return await _find(store, func.find_invitation(token_sha256), _INVITATIONS, mine)


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
    waiting, take = _claiming(due)
    said = {
        "statuses": list(statuses),
        "now": now,
        "passing_over": list(passing_over),
        "limit": limit,
        "lease_until": now + lease,
    }
    # Looked for on a reader first: an idle worker takes no write lock.
    async with store.unbound_reading() as session:
        if (await session.execute(waiting, said | {"limit": 1})).first() is None:
            return []
    async with store.unbound() as session:
        return [Claim(*row) for row in (await session.execute(take, said)).all()]


@cache
def _claiming(due: DueTable) -> tuple[Select[str, str], ReturningUpdate[str, str, int]]:
    """What is due, and the taking of it: made once, since making them takes longer than SQLite does to run them."""
    rows = table(
        due.value,
        column("organization_id"),
        column("id"),
        column("status"),
        column("next_action_at", UtcDateTime()),
        column("lease_until", UtcDateTime()),
        column("fence"),
    )
    now = bindparam("now", type_=UtcDateTime())
    waiting = (
        select(rows.c.organization_id, rows.c.id)
        .where(
            rows.c.status.in_(bindparam("statuses", expanding=True)),
            rows.c.next_action_at <= now,
            or_(rows.c.lease_until.is_(None), rows.c.lease_until <= now),
            rows.c.organization_id.not_in(bindparam("passing_over", expanding=True)),
        )
        .order_by(rows.c.next_action_at, rows.c.id)
        .limit(bindparam("limit"))
    )
    take = (
        update(rows)
        .where(tuple_(rows.c.organization_id, rows.c.id).in_(waiting))
        .values(lease_until=bindparam("lease_until", type_=UtcDateTime()), fence=rows.c.fence + 1)
        .returning(rows.c.organization_id, rows.c.id, rows.c.fence)
    )
    return waiting, take


async def next_due(store: Store, due: DueTable, *, after: datetime) -> datetime | None:
    """When the next row of this queue becomes due, later than `after`; says nothing of whose it is."""
    crossing = select(func.next_due(due.value, cast(after, UtcDateTime()))) if store.is_postgresql else _earliest(due)
    async with store.unbound_reading() as session:
        found: datetime | None = (await session.execute(crossing, {"after": after})).scalars().first()
    return found


@cache
def _earliest(due: DueTable) -> Select[datetime]:
    when: ColumnClause[datetime] = column("next_action_at", UtcDateTime())
    later = when > bindparam("after", type_=UtcDateTime())
    return select(func.min(when)).select_from(table(due.value, when)).where(later)


async def unsealed_organizations(store: Store, *, limit: int) -> Sequence[str]:
    """The ids of up to `limit` organizations with audit entries that wait for their seals."""
    organizations = _UNSEALED.c.organization_id
    waiting = select(organizations).distinct().order_by(organizations).limit(limit)
    async with store.unbound_reading() as session:
        crossing = _rows_of(func.unsealed_organizations(limit), "organization_id") if store.is_postgresql else waiting
        found: Sequence[str] = (await session.execute(crossing)).scalars().all()
    return found


async def usage_totals(store: Store, month: str, *, after: str = "", limit: int) -> Sequence[UsageTotals]:
    """Totals of the organizations that used anything in this month (YYYY-MM), by id from `after` on."""
    columns = ("organization_id", "calls", "refused_calls", "payments", "moved_cents")
    calls, payments = _USAGE_CALLS.c, _USAGE_PAYMENTS.c
    no_calls, no_payments = (
        [literal(0).label(name) for name in names] for names in (("calls", "refused"), ("payments", "moved_cents"))
    )
    counted = union_all(
        select(calls.organization_id, calls.calls, calls.refused, *no_payments).where(
            calls.month == month, calls.organization_id > after
        ),
        select(payments.organization_id, *no_calls, payments.payments, payments.moved_cents).where(
            payments.month == month, payments.organization_id > after
        ),
    ).subquery()
    organization, *numbers = counted.c
    totals = select(organization, *map(func.sum, numbers)).group_by(organization).order_by(organization).limit(limit)
    async with store.unbound_reading() as session:
        crossing = _rows_of(func.usage_totals(month, after, limit), *columns) if store.is_postgresql else totals
        found = await session.execute(crossing)
        return [UsageTotals(**dict(zip(columns, row, strict=True))) for row in found.all()]


async def _find(
    store: Store, function: FunctionElement[Any], rows: TableClause, which: ColumnElement[bool]
) -> tuple[str, str] | None:
    """(organization, id) of one row: on PostgreSQL by the function, on SQLite by looking."""
    crossing = (
        _rows_of(function, "organization_id", "id")
        if store.is_postgresql
        else select(rows.c.organization_id, rows.c.id).where(which)
    )
    async with store.unbound_reading() as session:
        found = (await session.execute(crossing)).first()
    return (found[0], found[1]) if found else None


def _rows_of(function: FunctionElement[Any], *columns: str) -> Select[Any]:
    """What a function of crossings.sql returns, as rows of these columns."""
    rows = function.table_valued(*columns)
    return select(*(rows.c[name] for name in columns))
