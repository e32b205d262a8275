"""Bases of all tables, and the column types that keep time honest.

An OrganizationTable belongs to one organization: its primary, unique and foreign keys begin with `organization_id`,
so that a row of one organization cannot even refer to a row of another. A PlatformTable belongs to the installation
and never holds an organization's business.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

# Constraints have names, or a migration could not change them later.
SQLModel.metadata.naming_convention = {
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_1_name)s",
    "fk": "fk_%(table_name)s_%(column_1_name)s",
    "ix": "ix_%(table_name)s_%(column_0_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment, kept in UTC on every database; SQLite has no zone of its own."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment needs its time zone")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def insert_if_absent(dialect: str, table: type[SQLModel], **values: Any) -> Insert:
    """An INSERT that does nothing when a row with the same key is there; its rowcount says which."""
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return insert(table).values(**values).on_conflict_do_nothing()


def moment(*, nullable: bool = False, index: bool = False) -> Any:
    """A column of UtcDateTime."""
    default = None if nullable else ...
    return Field(default=default, sa_type=UtcDateTime, nullable=nullable, index=index)


def cents() -> Any:
    """A column of integer cents: 64 bits, since 32 hold no more than KES 21 million."""
    return Field(sa_type=BigInteger)


class OrganizationTable(SQLModel):
    """Base of tables whose rows belong to one organization."""

    organization_id: str = Field(primary_key=True, max_length=40)


class PlatformTable(SQLModel):
    """Base of tables that belong to the installation."""


class Due(SQLModel):
    """Columns that make a table a queue: a row is taken when due, under a lease, with a fencing token.

    `fence` grows with each taking; a worker that paused past its lease finds another number and may not conclude.
    """

    next_action_at: datetime | None = moment(nullable=True)
    lease_until: datetime | None = moment(nullable=True)
    fence: int = Field(default=0)
