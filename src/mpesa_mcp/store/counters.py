"""Counters: rows of numbers that only ever grow by so much, changed by one conditional upsert each.

What a transaction counts is gathered, and written as its last statements in one order for everybody: two transactions
that count the same rows cannot wait for each other in a ring, and hold a row for hardly longer than the commit takes.
What may grow up to a limit only is written at once, in the same order, by a statement that says the limit.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

from sqlalchemy import BigInteger, Insert, Select, and_, bindparam, inspect, literal, select
from sqlalchemy.dialects import postgresql, sqlite

from mpesa_mcp.store.tables import OrganizationTable

Place = tuple[tuple[str, str], ...]


# More than any sum of cents that is counted.
_ANY = 2**62


@dataclass(frozen=True, slots=True)
class Bounded:
    """Numbers to add to the row with the key `place`, if each stays at `most` or below; None is no limit."""

    place: Mapping[str, str]
    numbers: Mapping[str, int]
    most: Mapping[str, int | None]

    @property
    def is_limited(self) -> bool:
        return any(limit is not None for limit in self.most.values())

    def row(self) -> dict[str, Any]:
        return {**self.place, **self.numbers}

    def row_and_limits(self) -> dict[str, Any]:
        """What `upsert_within` is given, but for the organization."""
        limits = {f"most_{name}": _ANY if limit is None else limit for name, limit in self.most.items()}
        return self.row() | limits


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

    def written(self) -> Iterator[tuple[type[OrganizationTable], list[dict[str, Any]]]]:
        """The rows by table."""
        for table, rows in groupby(self.rows(), key=lambda row: row[0]):
            yield table, [row for _, row in rows]


def in_order(counts: Iterable[Bounded]) -> Iterator[tuple[bool, list[Bounded]]]:
    """The same order for what is limited and what is not; neighbours without a limit together, the limited alone."""
    ordered = sorted(counts, key=lambda count: sorted(count.place.items()))
    for is_limited, some in groupby(ordered, key=lambda count: count.is_limited):
        if is_limited:
            yield from ((True, [count]) for count in some)
        else:
            yield False, list(some)


@cache
def upsert(dialect: str, table: type[OrganizationTable]) -> Insert:
    """Adds the numbers of a row to those that are there, or begins with them. Made once: each call counts itself."""
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    columns = inspect(table).local_table
    statement = insert(columns)
    grown = {name: columns.c[name] + statement.excluded[name] for name in _counted(table)}
    return statement.on_conflict_do_update(index_elements=[key.name for key in columns.primary_key], set_=grown)


@cache
def upsert_within(dialect: str, table: type[OrganizationTable]) -> Insert:
    """As `upsert`, if none of the numbers becomes more than its `most_…`; else it touches no row.

    A row that is not there yet begins with the numbers, whatever the limit: who asks compares them with it before.
    """
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    columns = inspect(table).local_table
    statement = insert(columns)
    grown = {name: columns.c[name] + statement.excluded[name] for name in _counted(table)}
    within = [sum_ <= bindparam(f"most_{name}", type_=BigInteger) for name, sum_ in grown.items()]
    key = [column.name for column in columns.primary_key]
    return statement.on_conflict_do_update(index_elements=key, set_=grown, where=and_(*within))


def upsert_of_rows(
    dialect: str,
    table: type[OrganizationTable],
    place: Mapping[str, str],
    rows: Select[*tuple[Any, ...]],
    most: Mapping[str, int | None],
) -> Insert:
    """As `upsert_within`, of what a query gives: thousands of counters in one statement, in the order of their keys.

    The query names its columns as the table's, and gives every one that is not in `place`.
    """
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    columns = inspect(table).local_table
    given = rows.subquery()
    constants = [literal(value).label(name) for name, value in place.items()]
    # SQLite cannot tell ON CONFLICT from a join without a WHERE.
    named = select(*constants, *given.c).where(*(column.is_not(None) for column in given.c)).order_by(*given.c)
    statement = insert(columns).from_select([*place, *given.c.keys()], named)
    grown = {name: columns.c[name] + statement.excluded[name] for name in _counted(table)}
    within = [grown[name] <= limit for name, limit in most.items() if limit is not None]
    key = [column.name for column in columns.primary_key]
    return statement.on_conflict_do_update(index_elements=key, set_=grown, where=and_(*within) if within else None)


@cache
def _counted(table: type[OrganizationTable]) -> tuple[str, ...]:
    """The columns that are numbers: all that are no part of the key."""
    return tuple(column.name for column in inspect(table).local_table.columns if not column.primary_key)
