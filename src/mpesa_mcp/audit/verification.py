"""Verifying and exporting a chain. Both seal first and read in batches: their memory does not grow with the chain.

What a chain can show: an entry that was changed or removed, a link that was changed or removed. What it cannot: that
somebody with the owner's rights wrote the whole end of it anew. Against that, keep the head somewhere else.
"""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from sqlalchemy import and_
from sqlmodel import col, select

from mpesa_mcp.audit.chain import START, columns_of, entry_hash, link_hash, text_of
from mpesa_mcp.audit.models import AuditEntry, AuditSeal, AuditUnsealed
from mpesa_mcp.audit.reading import span_of
from mpesa_mcp.audit.sealing import BATCH, last_seal, seal
from mpesa_mcp.store.engine import Store
from mpesa_mcp.values import Clock

# Ids alone are read that many at once.
_IDS_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class _Link:
    """A link as it is stored, with its entry: None where that is missing, or where it cannot even be read."""

    sequence: int
    entry_id: str
    entry_hash: str
    hash: str
    entry: AuditEntry | None
    is_readable: bool = True


class Why(StrEnum):
    """What is wrong at a place of a chain."""

    CHANGED = "changed"
    MISSING = "missing"
    SEAL_CHANGED = "seal_changed"
    GAP = "gap"


@dataclass(frozen=True, slots=True)
class Break:
    """The first place where a chain is broken; of a gap, no entry is known."""

    sequence: int
    entry_id: str | None
    why: Why


@dataclass(frozen=True, slots=True)
class Verdict:
    """`entries` is how many stand in the chain as they were sealed, up to the first break; `head` its last hash."""

    entries: int
    head: str | None
    first_broken: Break | None

    @property
    def intact(self) -> bool:
        return self.first_broken is None


async def verify(store: Store, clock: Clock, organization_id: str) -> Verdict:
    """Seals what is not sealed yet, then computes the whole chain anew, up to where it ends by then."""
    await _seal_everything(store, clock, organization_id)
    last = await last_seal(store, organization_id)
    if last is None:
        return Verdict(entries=0, head=None, first_broken=None)
    sequence, previous = 0, START
    while links := await _links(store, organization_id, after=sequence, up_to=last.sequence):
        for link in links:
            broken = _broken_at(link, expected=sequence + 1, previous=previous)
            if broken is not None:
                return Verdict(entries=sequence, head=last.hash, first_broken=broken)
            sequence, previous = link.sequence, link.hash
    # Links that were there a moment ago may be gone by now.
    broken = None if sequence == last.sequence else Break(sequence + 1, None, Why.GAP)
    return Verdict(entries=sequence, head=last.hash, first_broken=broken)


async def export(
    store: Store, clock: Clock, organization_id: str, *, first: date | None = None, last: date | None = None
) -> AsyncIterator[str]:
    """The chain as JSON Lines: each entry's columns with `sequence` and `hash`; the last line is {"head": hash}.

    Seals first. `first` and `last` are days in Nairobi, both included: entries of other days are left out, the head
    stays that of the whole chain. What is missing is said with its id and "missing": true, or "unreadable".
    """
    await _seal_everything(store, clock, organization_id)
    end = await last_seal(store, organization_id)
    start, stop = span_of(first, last)
    sequence, up_to = 0, end.sequence if end else 0
    while links := await _links(store, organization_id, after=sequence, up_to=up_to):
        for link in links:
            sequence = link.sequence
            place: dict[str, object] = {"sequence": link.sequence, "hash": link.hash}
            if link.entry is None:
                yield json.dumps(place | {"id": link.entry_id, "missing" if link.is_readable else "unreadable": True})
            elif start <= link.entry.at < stop:
                yield json.dumps(place | columns_of(link.entry))
    yield json.dumps({"head": end.hash if end else None})


def _broken_at(link: _Link, *, expected: int, previous: str) -> Break | None:
    if link.sequence != expected:
        return Break(expected, None, Why.GAP)
    if link.entry is None:
        return Break(expected, link.entry_id, Why.MISSING if link.is_readable else Why.CHANGED)
    text = text_of(columns_of(link.entry))
    fits_entry, fits_chain = link.entry_hash == entry_hash(text), link.hash == link_hash(previous, expected, text)
    if fits_entry and fits_chain:
        return None
    return Break(expected, link.entry_id, Why.SEAL_CHANGED if fits_entry or fits_chain else Why.CHANGED)


async def _links(store: Store, organization_id: str, *, after: int, up_to: int, limit: int = BATCH) -> Sequence[_Link]:
    """The next links of a chain in order, each with its entry; at least one, if there is one."""
    span = (col(AuditSeal.sequence) > after, col(AuditSeal.sequence) <= up_to)
    of_link = and_(
        col(AuditEntry.organization_id) == col(AuditSeal.organization_id),
        col(AuditEntry.id) == col(AuditSeal.entry_id),
    )
    stored = (
        select(AuditSeal.sequence)
        .add_columns(col(AuditSeal.entry_id), col(AuditSeal.entry_hash), col(AuditSeal.hash))
        .where(*span)
        .order_by(col(AuditSeal.sequence))
    )
    with_entries = stored.add_columns(AuditEntry).outerjoin(AuditEntry, of_link)
    # A view of its own for each batch: one that is open for long keeps SQLite's log from being cut.
    async with store.reading(organization_id) as session:
        try:
            return [_Link(*row) for row in await session.rows(with_entries.limit(limit))]
        except ValueError:  # what was put in the place of a moment or of JSON is none
            if limit == 1:
                [row] = await session.rows(stored.limit(1))
                return [_Link(row.sequence, row.entry_id, row.entry_hash, row.hash, entry=None, is_readable=False)]
    return await _links(store, organization_id, after=after, up_to=up_to, limit=limit // 2)


async def _seal_everything(store: Store, clock: Clock, organization_id: str) -> None:
    """Seals what waits, and whatever else has no seal: somebody may have removed that, or what says it waits."""
    await seal(store, clock, organization_id)
    after: str | None = ""
    while after is not None:
        unsealed, after = await _without_seal(store, organization_id, after=after)
        for start in range(0, len(unsealed), BATCH):
            await _have_wait(store, organization_id, unsealed[start : start + BATCH])
    await seal(store, clock, organization_id)


async def _without_seal(store: Store, organization_id: str, *, after: str) -> tuple[Sequence[str], str | None]:
    """The entries without a seal among the next ids, and where to go on; None at the end."""
    of_entry = and_(
        col(AuditSeal.organization_id) == col(AuditEntry.organization_id),
        col(AuditSeal.entry_id) == col(AuditEntry.id),
    )
    statement = (
        select(AuditEntry.id)
        .add_columns(col(AuditSeal.sequence))
        .outerjoin(AuditSeal, of_entry)
        .where(col(AuditEntry.id) > after)
        .order_by(col(AuditEntry.id))
        .limit(_IDS_AT_ONCE)
    )
    async with store.reading(organization_id) as session:
        rows = await session.rows(statement)
    unsealed = [entry_id for entry_id, sequence in rows if sequence is None]
    return unsealed, rows[-1][0] if len(rows) == _IDS_AT_ONCE else None


async def _have_wait(store: Store, organization_id: str, entry_ids: Sequence[str]) -> None:
    """Has these entries wait for their seals, as if they had just been committed."""
    when = select(AuditEntry.id).add_columns(col(AuditEntry.at)).where(col(AuditEntry.id).in_(entry_ids))
    async with store.session(organization_id) as session:
        for entry_id, at in await session.rows(when):
            await session.insert_if_absent(AuditUnsealed, at=at, entry_id=entry_id)
