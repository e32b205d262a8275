"""Sealing: links the entries of an organization into its chain, after they are committed.

Nobody whose act is recorded waits for this. Any number of processes may seal one chain: each reads where it ends,
hashes with no transaction open, and claims the next sequences by inserting them; whoever comes second starts over.
Entries are linked in the order (at, id); one that is committed late simply comes later in the chain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from mpesa_mcp.audit.chain import START, columns_of, entry_hash, link_hash, text_of
from mpesa_mcp.audit.models import AuditEntry, AuditSeal, AuditUnsealed
from mpesa_mcp.store.engine import Store
from mpesa_mcp.values import Clock

log = structlog.get_logger(__name__)

# Links made in one commit: a few milliseconds of SQLite's one writer.
BATCH = 500


@dataclass(frozen=True, slots=True)
class _Batch:
    """Where the chain ends, what is linked next, and all that waits no longer after that, from `until` or before."""

    sequence: int
    hash: str
    entries: Sequence[AuditEntry]
    waiting: Sequence[str]
    until: datetime


_END = select(AuditSeal).order_by(col(AuditSeal.sequence).desc()).limit(1)
# What waits longest: the entry, unless it is gone, and the id once more if it is sealed already.
_WAITING = (
    select(AuditUnsealed.entry_id, AuditUnsealed.at)
    .add_columns(AuditEntry, col(AuditSeal.entry_id))
    .outerjoin(AuditEntry, col(AuditEntry.id) == col(AuditUnsealed.entry_id))
    .outerjoin(AuditSeal, col(AuditSeal.entry_id) == col(AuditUnsealed.entry_id))
    .order_by(col(AuditUnsealed.at), col(AuditUnsealed.entry_id))
    .limit(BATCH)
)


async def seal(store: Store, clock: Clock, organization_id: str) -> int:
    """Links everything that waits in an organization; how many links this call made."""
    linked = 0
    while batch := await _next_batch(store, organization_id):
        linked += await _link(store, clock, organization_id, batch)
    return linked


async def seal_batch(store: Store, clock: Clock, organization_id: str) -> int:
    """Links what waits longest in an organization, BATCH at most; 0 also when another process was first."""
    batch = await _next_batch(store, organization_id)
    return 0 if batch is None else await _link(store, clock, organization_id, batch)


async def last_seal(store: Store, organization_id: str) -> AuditSeal | None:
    """The end of an organization's chain."""
    async with store.looking(organization_id) as session:
        return await session.first(_END)


async def _next_batch(store: Store, organization_id: str) -> _Batch | None:
    """What is linked next; None when nothing waits."""
    async with store.looking(organization_id) as session:
        # The end is read first: who reads it too early meets a sequence that is taken, and links nothing.
        last = await session.first(_END)
        waiting = await session.rows(_WAITING)
    if not waiting:
        return None
    if gone := sorted(entry_id for entry_id, _, entry, _ in waiting if entry is None):
        log.warning("audit_entries_gone_before_their_seals", organization=organization_id, entries=gone)
    return _Batch(
        sequence=last.sequence if last else 0,
        hash=last.hash if last else START,
        entries=[entry for _, _, entry, sealed in waiting if entry is not None and sealed is None],
        waiting=[entry_id for entry_id, _, _, _ in waiting],
        until=waiting[-1].at,
    )


async def _link(store: Store, clock: Clock, organization_id: str, batch: _Batch) -> int:
    """Adds the links of a batch in one commit; 0 when another process has linked something in the meantime."""
    seals = _seals(batch, clock)
    served = delete(AuditUnsealed).where(
        col(AuditUnsealed.at) <= batch.until, col(AuditUnsealed.entry_id).in_(batch.waiting)
    )
    try:
        async with store.session(organization_id) as session:
            for link in seals:
                session.append(AuditSeal, **link)
            await session.flush()
            await session.change(served)
    except IntegrityError:
        return 0
    return len(seals)


def _seals(batch: _Batch, clock: Clock) -> Sequence[dict[str, Any]]:
    """Rows of AuditSeal, in their order."""
    seals: list[dict[str, Any]] = []
    previous, sealed_at = batch.hash, clock.now()
    for sequence, entry in enumerate(batch.entries, start=batch.sequence + 1):
        text = text_of(columns_of(entry))
        previous = link_hash(previous, sequence, text)
        seals.append(
            {
                "sequence": sequence,
                "entry_id": entry.id,
                "entry_hash": entry_hash(text),
                "hash": previous,
                "sealed_at": sealed_at,
            }
        )
    return seals
