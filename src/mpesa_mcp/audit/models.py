"""Tables of the audit: entries, the seals that link them, and which entries wait for theirs."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, Index, UniqueConstraint
from sqlmodel import Field

from mpesa_mcp.store.tables import OrganizationTable, UtcDateTime, moment

# Whoever seals waits for this; every transaction that records an entry wakes it, in its own process.
TOPIC = "audit"
MAX_CLIENT, MAX_ADDRESS, MAX_TRACE_ID = 120, 64, 64


class AuditEntry(OrganizationTable, table=True):
    """One act. `actor` is "key:<id>" or "operator:<os user>", `action` a noun and a past verb ("key.created").

    `client` is what an MCP client said of itself: foreign text. A column added later must be nullable: what is NULL is
    no part of the sealed text, so old seals go on fitting.
    """

    __tablename__ = "audit_entries"
    __table_args__ = (
        Index("ix_audit_entries_at", "organization_id", "at"),
        Index("ix_audit_entries_actor", "organization_id", "actor", "at"),
        Index("ix_audit_entries_subject", "organization_id", "subject", "at"),
    )

    id: str = Field(primary_key=True, max_length=40)
    at: datetime = moment()
    actor: str = Field(max_length=120)
    action: str = Field(max_length=60)
    subject: str = Field(max_length=80)
    decision: str = Field(max_length=20)
    reasons: str | None = Field(default=None, max_length=500)
    request_id: str | None = Field(default=None, max_length=80)
    detail: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
    client: str | None = Field(default=None, max_length=MAX_CLIENT)
    address: str | None = Field(default=None, max_length=MAX_ADDRESS)
    trace_id: str | None = Field(default=None, max_length=MAX_TRACE_ID)
    before: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
    after: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))


class AuditSeal(OrganizationTable, table=True):
    """The link of one entry: its place in the chain, and what `chain` computes of it and of the link before.

    `sealed_at` is a note for people; it is no part of the hash.
    """

    __tablename__ = "audit_seals"
    __table_args__ = (UniqueConstraint("organization_id", "entry_id", name="uq_audit_seals_entry"),)

    sequence: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    entry_id: str = Field(max_length=40)
    entry_hash: str = Field(max_length=64)
    hash: str = Field(max_length=64)
    sealed_at: datetime = moment()


class AuditUnsealed(OrganizationTable, table=True):
    """An entry that waits for its seal: added with the entry, removed with the seal.

    Without it the sealer would have to look through the whole audit for what is missing. It is a hint, no promise:
    `verification` finds entries without a seal by themselves.
    """

    __tablename__ = "audit_unsealed"

    at: datetime = Field(primary_key=True, sa_type=UtcDateTime)
    entry_id: str = Field(primary_key=True, max_length=40)
