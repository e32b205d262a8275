"""Reading the audit, newest first, a page at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, or_
from sqlmodel import col, select

from mpesa_mcp.audit.models import AuditEntry
from mpesa_mcp.errors import InputError
from mpesa_mcp.store.engine import Store
from mpesa_mcp.values import eat_day_bounds


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """What a list is narrowed to: exact words, and Nairobi days, both included."""

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    first: date | None = None
    last: date | None = None


@dataclass(frozen=True, slots=True)
class EntryRecord:
    """One entry. `client` is what a program said of itself."""

    entry_id: str
    at: datetime
    actor: str
    action: str
    subject: str
    decision: str
    reasons: str | None
    client: str | None
    address: str | None
    request_id: str | None
    trace_id: str | None
    detail: Mapping[str, Any] | None
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class EntryPage:
    entries: Sequence[EntryRecord]
    next_cursor: str | None


async def list_entries(
    store: Store, organization_id: str, narrowed: EntryFilter, *, limit: int, cursor: str | None = None
) -> EntryPage:
    """Newest first. The cursor is the id of the last entry of the page before. Raises InputError."""
    statement = (
        select(AuditEntry)
        .where(*_conditions(narrowed))
        .order_by(col(AuditEntry.at).desc(), col(AuditEntry.id).desc())
        .limit(limit + 1)
    )
    async with store.reading(organization_id) as session:
        if cursor is not None:
            last = await session.get(AuditEntry, cursor)
            if last is None:
                raise InputError("cursor must be the id of the last entry of an earlier page.", field="cursor")
            # Two conditions: the first is a range of the index, the second takes out what was seen at that moment.
            statement = statement.where(
                col(AuditEntry.at) <= last.at, or_(col(AuditEntry.at) < last.at, col(AuditEntry.id) < last.id)
            )
        rows = await session.all(statement)
    shown = [_entry_record(row) for row in rows[:limit]]
    return EntryPage(shown, shown[-1].entry_id if len(rows) > limit else None)


def span_of(first: date | None, last: date | None) -> tuple[datetime, datetime]:
    """The half-open span in UTC of these Nairobi days; without one of them, all that can have been recorded."""
    return eat_day_bounds(first or date.min, last or date.max)


def _conditions(narrowed: EntryFilter) -> list[ColumnElement[bool]]:
    named = {AuditEntry.actor: narrowed.actor, AuditEntry.action: narrowed.action, AuditEntry.subject: narrowed.subject}
    wanted = [col(column) == value for column, value in named.items() if value is not None]
    start, stop = span_of(narrowed.first, narrowed.last)
    if narrowed.first is not None:
        wanted.append(col(AuditEntry.at) >= start)
    if narrowed.last is not None:
        wanted.append(col(AuditEntry.at) < stop)
    return wanted


def _entry_record(row: AuditEntry) -> EntryRecord:
    return EntryRecord(
        entry_id=row.id,
        at=row.at,
        actor=row.actor,
        action=row.action,
        subject=row.subject,
        decision=row.decision,
        reasons=row.reasons,
        client=row.client,
        address=row.address,
        request_id=row.request_id,
        trace_id=row.trace_id,
        detail=row.detail,
        before=row.before,
        after=row.after,
    )
