"""Entries with readable defaults, the chain as it is stored, and a hand that reaches past the triggers."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing

import asyncpg
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.audit import AuditEntry, AuditSeal
from mpesa_mcp.audit.chain import START, columns_of, entry_hash, link_hash, text_of
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.values import Clock

ORG, OTHER = "org_a", "org_b"
_GUARDED = ("audit_entries", "audit_seals")


async def act(store: Store, clock: Clock, *subjects: str, organization_id: str = ORG) -> None:
    """One commit that records something about each of these."""
    async with store.session(organization_id) as session:
        for subject in subjects:
            audit.record(session, clock, actor="key:key_a", action="payment.opened", subject=subject)


async def entries_of(store: Store, organization_id: str = ORG) -> Sequence[AuditEntry]:
    async with store.reading(organization_id) as session:
        return await session.all(select(AuditEntry).order_by(col(AuditEntry.at), col(AuditEntry.id)))


async def seals_of(store: Store, organization_id: str = ORG) -> Sequence[AuditSeal]:
    async with store.reading(organization_id) as session:
        return await session.all(select(AuditSeal).order_by(col(AuditSeal.sequence)))


async def subjects_in_order(store: Store, organization_id: str = ORG) -> list[str]:
    """What the entries of the chain are about, in its order."""
    subjects = {entry.id: entry.subject for entry in await entries_of(store, organization_id)}
    return [subjects[seal.entry_id] for seal in await seals_of(store, organization_id)]


async def is_one_chain(store: Store, organization_id: str = ORG) -> bool:
    """Whether each entry has one link, without a gap, and each link fits: computed here, not by the verifier."""
    entries = {entry.id: entry for entry in await entries_of(store, organization_id)}
    seals = await seals_of(store, organization_id)
    previous = START
    for sequence, seal in enumerate(seals, start=1):
        text = text_of(columns_of(entries.pop(seal.entry_id)))
        previous = link_hash(previous, sequence, text)
        if (seal.sequence, seal.entry_hash, seal.hash) != (sequence, entry_hash(text), previous):
            return False
    return not entries


async def tamper(settings: Settings, *statements: str) -> None:
    """Runs plain SQL as the owner of the database, with the triggers out of the way."""
    if settings.sqlite_path is not None:
        with closing(sqlite3.connect(settings.sqlite_path)) as connection:
            for table in _GUARDED:
                for change in ("update", "delete"):
                    connection.execute(f"DROP TRIGGER IF EXISTS {table}_no_{change}")
            for statement in statements:
                connection.execute(statement)
            connection.commit()
        return
    owner = await asyncpg.connect(settings.owner_database_url.replace("+asyncpg", ""))
    try:
        async with owner.transaction():
            for table in _GUARDED:
                await owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            for statement in statements:
                await owner.execute(statement)
            for table in _GUARDED:
                await owner.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
    finally:
        await owner.close()
