"""Lists by cursor: a page costs the same wherever it stands. Ids sort by time of making, so the id is the cursor."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import ColumnElement, inspect
from sqlmodel import select

from mpesa_mcp.errors import InputError
from mpesa_mcp.store.tables import OrganizationTable
from mpesa_mcp.store.tenancy import OrganizationSession

Row = TypeVar("Row", bound=OrganizationTable)
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """A part of a list. `next_cursor` is None on the last page."""

    items: Sequence[Item]
    next_cursor: str | None


async def page_by_id(
    session: OrganizationSession, table: type[Row], *conditions: ColumnElement[bool], limit: int, cursor: str | None
) -> Page[Row]:
    """The rows after `cursor` (the id of the last row of the page before), newest first. Raises InputError."""
    if cursor is not None and await session.get(table, cursor) is None:
        raise InputError("cursor must be the next_cursor of an earlier page.", field="cursor")
    row_id = inspect(table).attrs["id"].class_attribute
    statement = select(table).where(*conditions).order_by(row_id.desc()).limit(limit + 1)
    if cursor is not None:
        statement = statement.where(row_id < cursor)
    rows = await session.all(statement)
    shown = rows[:limit]
    return Page(shown, shown[-1].id if len(rows) > limit else None)  # type: ignore[attr-defined] # asked for above
