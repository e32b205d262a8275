"""The organization-bound session: a query that forgets the organization cannot be written.

Promise: through an OrganizationSession only rows of its organization are read, changed, added or deleted.
How: the organization is a criterion on every ORM statement, nested ones included; objects of another organization
are refused when they are attached; whatever cannot be given the criterion (text, Core tables, set operations, raw
inserts, changes by means of a second table) is refused before it reaches the database. The identity map cannot leak,
because the organization is part of every primary key. On PostgreSQL row-level security stands behind this as a second
lock.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import (
    CTE,
    CompoundSelect,
    Connection,
    CursorResult,
    Delete,
    FromClause,
    Insert,
    Join,
    Select,
    Subquery,
    Table,
    Update,
    event,
    func,
    inspect,
    select,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ColumnClause, ColumnElement, TextClause
from sqlalchemy.sql.operators import custom_op
from sqlalchemy.sql.selectable import TextualSelect

from mpesa_mcp.errors import InternalFault
from mpesa_mcp.store.counters import Bounded, Counts, in_order, upsert, upsert_within
from mpesa_mcp.store.tables import OrganizationTable, PlatformTable, insert_if_absent
from mpesa_mcp.store.wakeups import CHANNEL

Row = TypeVar("Row", bound=OrganizationTable)
Value = TypeVar("Value")
_ORGANIZATION = "organization_id"
# The first half of the names of PostgreSQL's locks that are about organizations, and about something inside one.
_ORGANIZATIONS, _TURNS = 1, 2


class OrganizationBreach(InternalFault):
    """Our own code tried to reach past its organization. Nothing was read or written."""

    code = "organization_breach"

    def __init__(self, why: str) -> None:
        super().__init__("An internal check stopped this request. Nothing was changed.")
        self.why = why

    def __str__(self) -> str:
        return f"organization breach: {self.why}"


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

    def _own(self, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        # Past the ORM: the statements are ours, and name the organization themselves.
        return [{_ORGANIZATION: self.organization_id} | row for row in rows]

    async def tell_other_processes(self) -> None:
        """Says the topics to other processes, with the commit and only then. On SQLite they notice by themselves."""
        if self.topics and self.dialect == "postgresql":
            said = select(func.pg_notify(CHANNEL, " ".join(sorted(self.topics))))
            await (await self._session.connection()).execute(said)

    def add(self, *rows: OrganizationTable) -> None:
        """Adds new rows. Raises OrganizationBreach for a row of another organization."""
        self._session.add_all(rows)

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

    async def insert_if_absent(self, table: type[OrganizationTable], **values: Any) -> bool:
        """Inserts a row of this organization unless one with the same key is there; says whether it did."""
        if values.setdefault(_ORGANIZATION, self.organization_id) != self.organization_id:
            raise OrganizationBreach("an insert for another organization")
        statement = insert_if_absent(self.dialect, table, **values)
        result = await self._session.execute(
            statement, execution_options={_CHECKED: True}, bind_arguments={"mapper": inspect(table)}
        )
        assert isinstance(result, CursorResult)
        return result.rowcount == 1

    async def _read(self, statement: Select[*tuple[Any, ...]]) -> Any:
        return await self._session.execute(statement, execution_options={"populate_existing": True})


def _by_id(table: type[Row], row_id: str) -> Select[Row]:
    # An organization's own row has no other id.
    name = "id" if "id" in inspect(table).attrs else _ORGANIZATION
    return select(table).where(inspect(table).attrs[name].class_attribute == row_id)


_CHECKED = "organization_checked"


@event.listens_for(BoundSession, "after_begin")
def _name_organization(session: Session, _transaction: object, connection: Connection) -> None:
    """Tells row-level security whose rows this transaction may see; forgotten again when it ends."""
    if connection.dialect.name == "postgresql":
        named = func.set_config("app.organization", session.info[_ORGANIZATION], True)
        connection.execute(select(named))


@event.listens_for(BoundSession, "before_attach")
def _attach_own_rows_only(session: Session, row: object) -> None:
    organization_id = session.info[_ORGANIZATION]
    if not isinstance(row, OrganizationTable):
        raise OrganizationBreach("a row that belongs to no organization")
    # A row without an organization yet takes the session's; there is no other way to give it one.
    if row.__dict__.get(_ORGANIZATION) is None:
        row.organization_id = organization_id
    if row.organization_id != organization_id:
        raise OrganizationBreach("a row of another organization")


@event.listens_for(BoundSession, "before_flush")
def _write_own_rows_only(session: Session, _context: object, _instances: object) -> None:
    for row in [*session.new, *session.dirty, *session.deleted]:
        _attach_own_rows_only(session, row)


@event.listens_for(BoundSession, "do_orm_execute")
def _bind_statement(state: ORMExecuteState) -> None:
    organization_id = state.session.info[_ORGANIZATION]
    statement = state.statement
    if isinstance(statement, Insert):
        if not state.execution_options.get(_CHECKED):
            raise OrganizationBreach("a raw insert")
        return
    if not isinstance(statement, Select | Update | Delete):
        raise OrganizationBreach(f"a {type(statement).__name__} cannot be bound to an organization")
    if state.parameters and not isinstance(statement, Select):
        raise OrganizationBreach("a change whose values are not in the statement")
    tables = _named_tables(statement)
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
    tables = {_mapped_class(statement.table)} if isinstance(statement, Insert) else _named_tables(statement)
    if not all(issubclass(table, PlatformTable) for table in tables):
        raise OrganizationBreach("an organization's table in a platform session")


def _named_tables(statement: Any) -> set[type]:
    """The mapped classes a statement names anywhere; raises OrganizationBreach for what no criterion reaches.

    A criterion reaches a mapped class, its aliases and its columns. It does not reach text, nor a Core table or
    column: those are told apart by the ORM's annotation.
    """
    found: set[type] = set()
    for element in visitors.iterate(statement):
        _refuse_text(element)
        # A column of a table, be it the ORM's, Core's or one made up by name; not of a subquery, visited itself.
        if isinstance(element, ColumnClause) and not isinstance(element.table, Subquery | CTE | None):
            found.add(_mapped_class(element))
        if isinstance(element, Select):
            joined = (join[0] for join in element._setup_joins)
            for source in (*element._raw_columns, *element._from_obj, *joined):
                found.update(_mapped_class(part) for part in _parts(source))
            # Some expressions (a window, a filtered aggregate) hide their entity, and Core would run the statement.
            if not _is_orm(element) and element.get_final_froms():
                raise OrganizationBreach("a Core select cannot be bound to an organization")
        if isinstance(element, Update | Delete):
            found.add(_mapped_class(element.table))
            if not _is_of_one_table(element):
                raise OrganizationBreach("a change of an alias, or by means of a second table")
        if isinstance(element, Update) and _sets_organization(element):
            raise OrganizationBreach("an update of the organization itself")
        if isinstance(element, Insert):
            raise OrganizationBreach("a raw insert")
    return found


def _refuse_text(element: Any) -> None:
    """Raises OrganizationBreach for SQL text in any of its disguises, and for set operations."""
    if isinstance(element, TextClause | TextualSelect | CompoundSelect):
        raise OrganizationBreach("SQL text or a set operation cannot be bound to an organization")
    if isinstance(element, ColumnClause) and element.is_literal and element.name != "*":
        raise OrganizationBreach("SQL text cannot be bound to an organization")
    if isinstance(getattr(element, "operator", None), custom_op):
        raise OrganizationBreach("an operator of SQL text cannot be bound to an organization")
    if any(getattr(element, place, None) for place in ("_prefixes", "_suffixes", "_hints", "_statement_hints")):
        raise OrganizationBreach("a prefix, suffix or hint of SQL text cannot be bound to an organization")


def _is_orm(statement: Select[Any]) -> bool:
    return statement._propagate_attrs.get("compile_state_plugin") == "orm"


def _parts(source: Any) -> Iterator[Any]:
    """A source and, if it is a join, what it joins; subqueries left out, since they are visited themselves."""
    if isinstance(source, FromClause) and not isinstance(source, Subquery | CTE | ColumnElement):
        yield source
    if isinstance(source, Join):
        yield from _parts(source.left)
        yield from _parts(source.right)


def _mapped_class(element: Any) -> type:
    entity = element._annotations.get("parententity")
    if entity is None:
        raise OrganizationBreach("a Core table or column cannot be bound to an organization")
    mapped: type = entity.mapper.class_
    return mapped


def _is_of_one_table(statement: Update | Delete) -> bool:
    # The criterion of a change reaches its own table only. A subquery has no sources here: it is a select.
    written = getattr(statement, "_values", None) or {}
    clauses = (*statement._where_criteria, *written.values())
    sources = (source for clause in clauses for source in clause._from_objects)
    return isinstance(statement.table, Table) and all(source == statement.table for source in sources)


def _sets_organization(statement: Update) -> bool:
    named = list(statement._values or {})
    return any(getattr(column, "name", getattr(column, "key", column)) == _ORGANIZATION for column in named)
