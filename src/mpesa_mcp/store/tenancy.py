"""The organization-bound session: a query that forgets the organization cannot be written.

Promise: through an OrganizationSession only rows of its organization are read, changed, added or deleted. What goes
through the ORM is bound by the listeners of `bound_session`; what goes past it, here alone, names the organization
itself. On PostgreSQL row-level security stands behind this as a second lock.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, cast

from sqlalchemy import CursorResult, Delete, Select, Update, bindparam, func, insert, inspect, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.dml import ReturningUpdate
from sqlalchemy.util.concurrency import greenlet_spawn

from mpesa_mcp.store.bound_session import CHECKED, BoundSession
from mpesa_mcp.store.counters import Bounded, Counts, in_order, upsert, upsert_of_rows, upsert_within
from mpesa_mcp.store.statements import ORGANIZATION, OrganizationBreach, named_tables
from mpesa_mcp.store.tables import OrganizationTable, insert_if_absent
from mpesa_mcp.store.wakeups import CHANNEL, POLL_SECONDS

Row = TypeVar("Row", bound=OrganizationTable)
Value = TypeVar("Value")
# The first half of the names of PostgreSQL's locks that are about organizations, and about something inside one.
_ORGANIZATIONS, _TURNS = 1, 2


__all__ = ["OrganizationBreach", "OrganizationSession"]


class OrganizationSession:
    """Reads and writes rows of one organization, inside one transaction."""

    def __init__(self, session: AsyncSession, organization_id: str) -> None:
        self._session = session
        self.organization_id = organization_id
        self._bound = cast(BoundSession, session.sync_session)
        self.topics: set[str] = set()
        self.topics_here: set[str] = set()
        self._counts = Counts()

    @property
    def dialect(self) -> str:
        """ "sqlite" or "postgresql"."""
        return self._session.get_bind().dialect.name

    def wake(self, *topics: str) -> None:
        """Wakes who waits for these topics (a queue's name, a row's id) once this transaction is committed."""
        self.topics.update(topics)

    def wake_here(self, topic: str) -> None:
        """As `wake`, for what can wait until other processes look by themselves.

        PostgreSQL lets commits that NOTIFY through one at a time, all organizations' together.
        """
        self.topics_here.add(topic)

    def wake_when_due(self, queue: str, at: datetime, *, now: datetime) -> None:
        """Wakes the queue's workers if a row of it is due by then before they look by themselves."""
        if (at - now).total_seconds() < POLL_SECONDS:
            self.wake(queue)

    def count(self, table: type[OrganizationTable], place: Mapping[str, str], **numbers: int) -> None:
        """Adds to the counters of one row, with the commit; a row that is not there begins at nothing."""
        self._counts.add(table, place, numbers)

    async def _write_counts(self) -> None:
        counted = list(self._counts.written())
        if not counted:
            return
        await self.flush()
        connection = await self._session.connection()
        for table, rows in counted:
            await connection.execute(upsert(self.dialect, table), self._own(rows))

    async def count_within(self, table: type[OrganizationTable], counts: Iterable[Bounded]) -> bool:
        """Adds to counters at once, as one of the last things of a transaction; False when a limit is in the way.

        Then some may have been added: the transaction must be rolled back. Each number by itself must be within.
        """
        await self.flush()
        connection = await self._session.connection()
        for is_limited, some in in_order(counts):
            if not is_limited:
                await connection.execute(upsert(self.dialect, table), self._own(count.row() for count in some))
                continue
            [one] = self._own(count.row_and_limits() for count in some)
            if (await connection.execute(upsert_within(self.dialect, table), one)).rowcount != 1:
                return False
        return True

    async def count_rows(
        self,
        table: type[OrganizationTable],
        place: Mapping[str, str],
        rows: Select[*tuple[Any, ...]],
        most: Mapping[str, int | None],
    ) -> int:
        """Adds to counters at once what a query of one table gives, row by row; how many it added to.

        Fewer than the query gives when a limit is in the way.
        """
        await self.flush()
        [counted] = named_tables(rows)
        if not issubclass(counted, OrganizationTable):
            raise OrganizationBreach("a table that belongs to no organization")
        # Past the ORM, as above: the query is bound to the organization here.
        own = rows.where(inspect(counted).local_table.c[ORGANIZATION] == self.organization_id)
        place = {ORGANIZATION: self.organization_id, **place}
        statement = upsert_of_rows(self.dialect, table, place, own, most)
        return (await (await self._session.connection()).execute(statement)).rowcount

    def _own(self, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        # Past the ORM: the statements are ours, and name the organization themselves.
        return [{ORGANIZATION: self.organization_id} | row for row in rows]

    async def end(self) -> None:
        """Writes what is still to be written, the counters last: nobody waits long for a row of theirs."""
        if self._bound.appended:
            await self.flush()
        await self._write_counts()
        await self._tell_other_processes()

    async def _tell_other_processes(self) -> None:
        """Says the topics to other processes, with the commit and only then. On SQLite they notice by themselves."""
        if self.topics and self.dialect == "postgresql":
            said = select(func.pg_notify(CHANNEL, " ".join(sorted(self.topics))))
            await (await self._session.connection()).execute(said)

    def add(self, *rows: OrganizationTable) -> None:
        """Adds new rows. Raises OrganizationBreach for a row of another organization."""
        self._session.add_all(rows)

    def append(self, table: type[OrganizationTable], **columns: Any) -> None:
        """Adds a row that this transaction does not change: much cheaper than `add`.

        Every column is named, but for the organization. It is written before its table is read, or with the commit.
        """
        row = {**columns, ORGANIZATION: self.organization_id}
        if ORGANIZATION in columns or row.keys() != _columns(table):
            raise OrganizationBreach("an appended row names its organization, or not every column")
        self._bound.appended.setdefault(table, []).append(row)

    async def flush(self) -> None:
        """Sends pending rows to the database, so that constraints speak now."""
        if self._bound.appended:
            await greenlet_spawn(self._bound.write_appended)
        else:
            await self._session.flush()

    async def get(self, table: type[Row], row_id: str) -> Row | None:
        """The row of this organization with this id, read anew."""
        return await self.first(_by_id(table, row_id))

    async def lock(self, table: type[Row], row_id: str) -> Row | None:
        """Like `get`, and nobody else changes the row until this transaction ends.

        The first statement of every transaction that decides from what it reads: two about one payment take turns, on
        PostgreSQL by this lock, on SQLite because writers take turns anyway. Rows that refer to it may still be added.
        """
        return await self.first(_by_id(table, row_id).with_for_update(key_share=True))

    async def hold_organization(self, *, alone: bool = False) -> None:
        """Until this transaction ends nobody has the organization alone; or, `alone`, nobody else holds it at all.

        Who opens or sends a payment holds it, who changes whether that may be done has it alone: what is read of the
        organization afterwards stays so. On SQLite writers take turns anyway. Not a lock of the row: many who share
        one keep out for as long as they come whoever wants it alone, while here he is next.
        """
        if self.dialect == "postgresql":
            lock = func.pg_advisory_xact_lock if alone else func.pg_advisory_xact_lock_shared
            held = select(lock(_ORGANIZATIONS, func.hashtext(self.organization_id)))
            await (await self._session.connection()).execute(held)

    async def take_turn(self, about: str) -> None:
        """Until this transaction ends nobody else takes a turn about the same. On SQLite writers take turns anyway."""
        if self.dialect == "postgresql":
            name = func.hashtext(f"{self.organization_id}/{about}")
            await (await self._session.connection()).execute(select(func.pg_advisory_xact_lock(_TURNS, name)))

    async def first(self, statement: Select[Value]) -> Value | None:
        """The first value of the first row, or None."""
        found: Value | None = (await self._read(statement)).scalars().first()
        return found

    async def all(self, statement: Select[Value]) -> Sequence[Value]:
        """The first value of every row."""
        found: Sequence[Value] = (await self._read(statement)).scalars().all()
        return found

    async def rows(self, statement: Select[*tuple[Any, ...]]) -> Sequence[Any]:
        """Every row as a named tuple."""
        found: Sequence[Any] = (await self._read(statement)).all()
        return found

    async def change(self, statement: Update | Delete) -> int:
        """Runs an UPDATE or DELETE and says how many rows it touched: the heart of each compare-and-set."""
        result = await self._session.execute(statement, execution_options={"synchronize_session": False})
        assert isinstance(result, CursorResult)
        return result.rowcount

    async def change_many(
        self, table: type[OrganizationTable], rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
    ) -> int:
        """Sets columns of many rows: of each first what it is now, its key among that, then what it becomes.

        All name the same columns, and the same of them are None now. How many were still so.
        """
        if not rows:
            return 0
        columns = inspect(table).local_table.c
        before, after = rows[0]
        # The statement is made of the first: what another names beside it would be dropped without a word.
        shapes = {
            (*map(frozenset, each), frozenset(name for name in each[0] if each[0][name] is None)) for each in rows
        }
        if len(shapes) > 1:
            raise ValueError("rows that are changed together name the same columns, and of them the same are empty")
        if ORGANIZATION in {*before, *after}:
            raise OrganizationBreach("a change that names its organization")
        # Past the ORM, as above.
        is_now = [
            columns[name].is_(None) if value is None else columns[name] == bindparam(f"was_{name}")
            for name, value in (*before.items(), (ORGANIZATION, self.organization_id))
        ]
        new_values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in after}
        statement = update(inspect(table).local_table).where(*is_now).values(new_values)
        parameters = [
            {f"was_{ORGANIZATION}": self.organization_id}
            | {f"was_{name}": value for name, value in was.items()}
            | {f"new_{name}": value for name, value in new.items()}
            for was, new in rows
        ]
        await self.flush()
        connection = await self._session.connection()
        if self.dialect == "sqlite":
            return (await connection.execute(statement, parameters)).rowcount
        # asyncpg does not tell how many rows a statement of many touched.
        return sum([(await connection.execute(statement, row)).rowcount for row in parameters])

    async def changed(self, statement: ReturningUpdate[*tuple[Any, ...]]) -> Sequence[Any]:
        """Runs an UPDATE that returns columns: of each row it touched, as named tuples, in no order."""
        result = await self._session.execute(statement, execution_options={"synchronize_session": False})
        found: Sequence[Any] = result.all()
        return found

    async def insert_if_absent(self, table: type[OrganizationTable], **values: Any) -> bool:
        """Inserts a row of this organization unless one with the same key is there; says whether it did."""
        if values.setdefault(ORGANIZATION, self.organization_id) != self.organization_id:
            raise OrganizationBreach("an insert for another organization")
        statement = insert_if_absent(self.dialect, table, **values)
        result = await self._session.execute(
            statement, execution_options={CHECKED: True}, bind_arguments={"mapper": inspect(table)}
        )
        assert isinstance(result, CursorResult)
        return result.rowcount == 1

    async def insert_many(self, table: type[OrganizationTable], rows: Sequence[Mapping[str, Any]]) -> None:
        """Inserts rows of this organization, thousands at once: every column of theirs is named, by each of them."""
        if not rows:
            return
        if any(ORGANIZATION in row for row in rows):
            raise OrganizationBreach("an insert that names its organization")
        await self.flush()
        # Past the ORM, which would make an object of each: the statement is ours, and names the organization itself.
        own = [{**row, ORGANIZATION: self.organization_id} for row in rows]
        await (await self._session.connection()).execute(insert(inspect(table).local_table), own)

    async def _read(self, statement: Select[*tuple[Any, ...]]) -> Any:
        return await self._session.execute(statement, execution_options={"populate_existing": True})


@cache
def _columns(table: type[OrganizationTable]) -> Set[str]:
    return {column.name for column in inspect(table).local_table.columns}


def _by_id(table: type[Row], row_id: str) -> Select[Row]:
    # An organization's own row has no other id.
    name = "id" if "id" in inspect(table).attrs else ORGANIZATION
    return select(table).where(inspect(table).attrs[name].class_attribute == row_id)
