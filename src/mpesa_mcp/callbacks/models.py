"""The table of the inbox."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKeyConstraint, Index
from sqlmodel import Field

from mpesa_mcp.store.tables import Due, OrganizationTable, moment


class Channel(StrEnum):
    """Which of an attempt's addresses was called."""

    RESULT = "result"
    TIMEOUT = "timeout"


class CallbackStatus(StrEnum):
    STORED = "stored"
    APPLIED = "applied"
    UNCONFIRMED = "unconfirmed"
    MALFORMED = "malformed"
    MISMATCHED = "mismatched"


class Callback(OrganizationTable, Due, table=True):
    """One body that was posted to one attempt's path; `body` is as it came, but for our own secrets."""

    __tablename__ = "callbacks"
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "attempt_id"], ["attempts.organization_id", "attempts.id"]),
        Index("ix_callbacks_attempt", "organization_id", "attempt_id"),
        Index("ix_callbacks_due", "next_action_at"),
    )

    id: str = Field(primary_key=True, max_length=40)
    attempt_id: str = Field(max_length=40)
    channel: str = Field(max_length=10)
    status: str = Field(max_length=20)
    received_at: datetime = moment()
    source_address: str = Field(max_length=45)
    body: str
    applied_at: datetime | None = moment(nullable=True)
    note: str | None = Field(default=None, max_length=300)
