"""Counters: rows of numbers that only ever grow by so much, changed by one conditional upsert each.

What a transaction counts is gathered, and written as its last statements in one order for everybody: two transactions
that count the same rows cannot wait for each other in a ring, and hold a row for hardly longer than the commit takes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
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

    def statements(self, dialect: str, organization_id: str) -> Iterator[tuple[type[OrganizationTable], Insert]]:
        """One upsert for each row that changes, in the order of the rows."""
        for (table, place), numbers in sorted(self._gathered.items(), key=lambda row: (row[0][0].__name__, row[0][1])):
            if any(numbers.values()):
                yield table, _upsert(dialect, table, {"organization_id": organization_id, **dict(place)}, numbers)


def _upsert(dialect: str, table: type[OrganizationTable], place: Mapping[str, str], numbers: Mapping[str, int]) -> Any:
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    columns = inspect(table).local_table.columns
    keys = [column.name for column in columns if column.primary_key]
    counted = {column.name: numbers.get(column.name, 0) for column in columns if not column.primary_key}
    statement = insert(table).values(**place, **counted)
    grown = {name: columns[name] + statement.excluded[name] for name in counted}
    return statement.on_conflict_do_update(index_elements=keys, set_=grown)
