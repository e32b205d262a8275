"""Counters: rows of numbers that only ever grow by so much, changed by one conditional upsert each.

What a transaction counts is gathered, and written as its last statements in one order for everybody: two transactions
that count the same rows cannot wait for each other in a ring, and hold a row for hardly longer than the commit takes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from sqlalchemy import Insert, inspect
from sqlalchemy.dialects import postgresql, sqlite

from mpesa_mcp.store.tables import OrganizationTable

Place = tuple[tuple[str, str], ...]


class Counts:
    """What one transaction counts."""

    def __init__(self) -> None:
        self._gathered: defaultdict[tuple[type[OrganizationTable], Place], Counter[str]] = defaultdict(Counter)

    def add(self, table: type[OrganizationTable], place: Mapping[str, str], numbers: Mapping[str, int]) -> None:
        """Adds `numbers` to the row with the key `place`."""
        self._gathered[table, tuple(sorted(place.items()))].update(numbers)

    def rows(self) -> Iterator[tuple[type[OrganizationTable], dict[str, Any]]]:
        """The row that each upsert is given, but for its organization; in the order of the rows."""
        for (table, place), numbers in sorted(self._gathered.items(), key=lambda row: (row[0][0].__name__, row[0][1])):
            if any(numbers.values()):
                yield table, {**dict(place), **{name: numbers[name] for name in _counted(table)}}


@cache
def upsert(dialect: str, table: type[OrganizationTable]) -> Insert:
    """Adds the numbers of a row to those that are there, or begins with them. Made once: each call counts itself."""
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    columns = inspect(table).local_table
    statement = insert(columns)
    grown = {name: columns.c[name] + statement.excluded[name] for name in _counted(table)}
    return statement.on_conflict_do_update(index_elements=[key.name for key in columns.primary_key], set_=grown)


@cache
def _counted(table: type[OrganizationTable]) -> tuple[str, ...]:
    """The columns that are numbers: all that are no part of the key."""
    return tuple(column.name for column in inspect(table).local_table.columns if not column.primary_key)
