"""The audit: who did what, to what, and whether it was allowed. Entries are added, never changed or removed:
the database refuses both.

An entry is part of the transaction it tells about: both are committed, or neither is.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import JSON, Column, Index
from sqlmodel import Field

from mpesa_mcp.store.tables import OrganizationTable, moment
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock, new_id

Decision = Literal["allowed", "refused", "done"]
Plain = str | int | bool | None | Sequence[str]


class AuditEntry(OrganizationTable, table=True):
    """One act. `actor` is "key:<id>" or "operator:<os user>", `action` a noun and a past verb ("key.created")."""

    __tablename__ = "audit_entries"
    __table_args__ = (Index("ix_audit_entries_at", "organization_id", "at"),)

    id: str = Field(primary_key=True, max_length=40)
    at: datetime = moment()
    actor: str = Field(max_length=120)
    action: str = Field(max_length=60)
    subject: str = Field(max_length=80)
    decision: str = Field(max_length=20)
    reasons: str | None = Field(default=None, max_length=500)
    request_id: str | None = Field(default=None, max_length=80)
    detail: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))


def record(
    session: OrganizationSession,
    clock: Clock,
    *,
    actor: str,
    action: str,
    subject: str,
    decision: Decision = "done",
    reasons: str | None = None,
    request_id: str | None = None,
    detail: Mapping[str, Plain] | None = None,
) -> None:
    """Adds an entry in the caller's transaction.

    `reasons` are our own words. `detail` takes plain values only: a Secret is none, and would fail to be written.
    """
    session.add(
        AuditEntry(
            organization_id=session.organization_id,
            id=new_id("aud"),
            at=clock.now(),
            actor=actor,
            action=action,
            subject=subject,
            decision=decision,
            reasons=reasons,
            request_id=request_id,
            detail=None if detail is None else dict(detail),
        )
    )
