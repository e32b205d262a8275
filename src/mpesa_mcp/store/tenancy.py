"""The organization-bound session: a query that forgets the organization cannot be written.

Promise: through an OrganizationSession only rows of its organization are read, changed, added or deleted.
How: the organization is a criterion on every ORM statement, nested ones included; objects of another organization
are refused when they are attached; whatever cannot be given the criterion (text, Core tables, set operations, raw
inserts, changes by means of a second table) is refused before it reaches the database. The identity map cannot leak,
because the organization is part of every primary key. On PostgreSQL row-level security stands behind this as a second
lock.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import (
    Connection,
    CursorResult,
    Delete,
    Insert,
    Select,
    Update,
    event,
    func,
    insert,
    inspect,
    select,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria
from sqlalchemy.sql.dml import ReturningUpdate

from mpesa_mcp.store.counters import Bounded, Counts, in_order, upsert, upsert_of_rows, upsert_within
from mpesa_mcp.store.statements import ORGANIZATION, OrganizationBreach, mapped_class, named_tables
from mpesa_mcp.store.tables import OrganizationTable, PlatformTable, insert_if_absent
from mpesa_mcp.store.wakeups import CHANNEL

Row = TypeVar("Row", bound=OrganizationTable)
Value = TypeVar("Value")
# The first half of the names of PostgreSQL's locks that are about organizations, and about something inside one.
_ORGANIZATIONS, _TURNS = 1, 2


__all__ = ["BoundSession", "OrganizationBreach", "OrganizationSession", "PlatformSession"]


class BoundSession(Session):
    """The synchronous session under an OrganizationSession; the listeners below guard it."""


class PlatformSession(Session):
    """A session for PlatformTables only."""


class OrganizationSession:
    """Reads and writes rows of one organization, inside one transaction."""

    def __init__(self, session: AsyncSession, organization_id: str) -> None:
        self._session = session
        self.organization_id = organization_id
        self.topics: set[str] = set()
        self._counts = Counts()

    @property
    def dialect(self) -> str:
        """ "sqlite" or "postgresql"."""
        return self._session.get_bind().dialect.name

    def wake(self, *topics: str) -> None:
        """Wakes who waits for these topics (a queue's name, a row's id) once this transaction is committed."""
        self.topics.update(topics)

    def count(self, table: type[OrganizationTable], place: Mapping[str, str], **numbers: int) -> None:
        """Adds to the counters of one row, with the commit; a row that is not there begins at nothing."""
        self._counts.add(table, place, numbers)

    async def write_counts(self) -> None:
        """Writes what was counted: the last thing of a transaction, so that nobody waits long for a row."""
        counted = list(self._counts.written())
        if not counted:
            return
        await self._session.flush()
        connection = await self._session.connection()
        for table, rows in counted:
            await connection.execute(upsert(self.dialect, table), self._own(rows))

    async def count_within(self, table: type[OrganizationTable], counts: Iterable[Bounded]) -> bool:
        """Adds to counters at once, as one of the last things of a transaction; False when a limit is in the way.

        Then some may have been added: the transaction must be rolled back. Each number by itself must be within.
        """
        await self._session.flush()
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
        await self._session.flush()
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

    async def tell_other_processes(self) -> None:
        """Says the topics to other processes, with the commit and only then. On SQLite they notice by themselves."""
        if self.topics and self.dialect == "postgresql":
            said = select(func.pg_notify(CHANNEL, " ".join(sorted(self.topics))))
            await (await self._session.connection()).execute(said)

    def add(self, *rows: OrganizationTable) -> None:
        """Adds new rows. Raises OrganizationBreach for a row of another organization."""
        self._session.add_all(rows)

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """New rows of the block reach the database after it, many in one statement; nothing in it reads them."""
        with self._session.no_autoflush:
            yield

    async def flush(self) -> None:
        """Sends pending rows to the database, so that constraints speak now."""
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

    async def changed(self, statement: ReturningUpdate[Value]) -> Sequence[Value]:
        """Runs an UPDATE that returns one column; the values of the rows it touched, in no order."""
        result = await self._session.execute(statement, execution_options={"synchronize_session": False})
        found: Sequence[Value] = result.scalars().all()
        return found

    async def insert_if_absent(self, table: type[OrganizationTable], **values: Any) -> bool:
        """Inserts a row of this organization unless one with the same key is there; says whether it did."""
        if values.setdefault(ORGANIZATION, self.organization_id) != self.organization_id:
            raise OrganizationBreach("an insert for another organization")
        statement = insert_if_absent(self.dialect, table, **values)
        result = await self._session.execute(
            statement, execution_options={_CHECKED: True}, bind_arguments={"mapper": inspect(table)}
        )
        assert isinstance(result, CursorResult)
        return result.rowcount == 1

    async def insert_many(self, table: type[OrganizationTable], rows: Sequence[Mapping[str, Any]]) -> None:
        """Inserts rows of this organization, thousands at once: every column of theirs is named, by each of them."""
        if not rows:
            return
        if any(ORGANIZATION in row for row in rows):
            raise OrganizationBreach("an insert that names its organization")
        await self._session.flush()
        # Past the ORM, which would make an object of each: the statement is ours, and names the organization itself.
        own = [{**row, ORGANIZATION: self.organization_id} for row in rows]
        await (await self._session.connection()).execute(insert(inspect(table).local_table), own)

    async def _read(self, statement: Select[*tuple[Any, ...]]) -> Any:
        return await self._session.execute(statement, execution_options={"populate_existing": True})


def _by_id(table: type[Row], row_id: str) -> Select[Row]:
    # An organization's own row has no other id.
    name = "id" if "id" in inspect(table).attrs else ORGANIZATION
    return select(table).where(inspect(table).attrs[name].class_attribute == row_id)


_CHECKED = "organization_checked"


@event.listens_for(BoundSession, "after_begin")
def _name_organization(session: Session, _transaction: object, connection: Connection) -> None:
    """Tells row-level security whose rows this transaction may see; forgotten again when it ends."""
    if connection.dialect.name == "postgresql":
        named = func.set_config("app.organization", session.info[ORGANIZATION], True)
        connection.execute(select(named))


@event.listens_for(BoundSession, "before_attach")
def _attach_own_rows_only(session: Session, row: object) -> None:
    organization_id = session.info[ORGANIZATION]
    if not isinstance(row, OrganizationTable):
        raise OrganizationBreach("a row that belongs to no organization")
    # A row without an organization yet takes the session's; there is no other way to give it one.
    if row.__dict__.get(ORGANIZATION) is None:
        row.organization_id = organization_id
    if row.organization_id != organization_id:
        raise OrganizationBreach("a row of another organization")


@event.listens_for(BoundSession, "before_flush")
def _write_own_rows_only(session: Session, _context: object, _instances: object) -> None:
    for row in [*session.new, *session.dirty, *session.deleted]:
        _attach_own_rows_only(session, row)


@event.listens_for(BoundSession, "do_orm_execute")
def _bind_statement(state: ORMExecuteState) -> None:
    organization_id = state.session.info[ORGANIZATION]
    statement = state.statement
    if isinstance(statement, Insert):
        if not state.execution_options.get(_CHECKED):
            raise OrganizationBreach("a raw insert")
        return
    if not isinstance(statement, Select | Update | Delete):
        raise OrganizationBreach(f"a {type(statement).__name__} cannot be bound to an organization")
    if state.parameters and not isinstance(statement, Select):
        raise OrganizationBreach("a change whose values are not in the statement")
    tables = named_tables(statement)
    if not all(issubclass(table, OrganizationTable) for table in tables):
        raise OrganizationBreach("a table that belongs to no organization")
    state.statement = statement.options(
        *(
            # A function of the entity: a fixed expression would name the table even where an alias of it is joined.
            with_loader_criteria(table, lambda entity: entity.organization_id == organization_id, include_aliases=True)
            for table in tables
        )
    )


@event.listens_for(PlatformSession, "before_attach")
def _attach_platform_rows_only(_session: Session, row: object) -> None:
    if not isinstance(row, PlatformTable):
        raise OrganizationBreach("an organization's row in a platform session")


@event.listens_for(PlatformSession, "do_orm_execute")
def _platform_tables_only(state: ORMExecuteState) -> None:
    statement = state.statement
    tables = {mapped_class(statement.table)} if isinstance(statement, Insert) else named_tables(statement)
    if not all(issubclass(table, PlatformTable) for table in tables):
        raise OrganizationBreach("an organization's table in a platform session")
