"""The synchronous sessions under the others, and the listeners that guard them.

The organization is a criterion on every ORM statement, nested ones included; objects of another organization are
refused when they are attached; whatever cannot be given the criterion (text, Core tables, set operations, raw inserts,
changes by means of a second table) is refused before it reaches the database. The identity map cannot leak, because
the organization is part of every primary key.
"""

from functools import cache
from typing import Any, cast

from sqlalchemy import Connection, Delete, Insert, Select, Update, event, func, insert, inspect, select
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria

from mpesa_mcp.store.statements import ORGANIZATION, OrganizationBreach, mapped_class, named_tables
from mpesa_mcp.store.tables import OrganizationTable, PlatformTable

# On a statement that names its organization itself.
CHECKED = "organization_checked"


class BoundSession(Session):
    """The synchronous session under an OrganizationSession; the listeners below guard it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.appended: dict[type[OrganizationTable], list[dict[str, Any]]] = {}

    def write_appended(self) -> None:
        """Sends what was appended, after the rows it may refer to: all of a table's in one statement."""
        self.flush()
        appended, self.appended = self.appended, {}
        for table, rows in appended.items():
            # Past the ORM, which would make an object of each: the statement is ours, and each row names the
            # organization itself.
            self.connection().execute(_insert(table), rows)


@cache
def _insert(table: type[OrganizationTable]) -> Insert:
    return insert(inspect(table).local_table)


class PlatformSession(Session):
    """A session for PlatformTables only."""


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
        if not state.execution_options.get(CHECKED):
            raise OrganizationBreach("a raw insert")
        return
    if not isinstance(statement, Select | Update | Delete):
        raise OrganizationBreach(f"a {type(statement).__name__} cannot be bound to an organization")
    if state.parameters and not isinstance(statement, Select):
        raise OrganizationBreach("a change whose values are not in the statement")
    tables = named_tables(statement)
    if not all(issubclass(table, OrganizationTable) for table in tables):
        raise OrganizationBreach("a table that belongs to no organization")
    session = cast(BoundSession, state.session)
    if not session.appended.keys().isdisjoint(tables):
        session.write_appended()
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
