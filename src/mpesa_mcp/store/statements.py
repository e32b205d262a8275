"""Which tables a statement names; what cannot be bound to an organization is refused before it reaches the database."""

from collections.abc import Hashable, Iterator, Set
from typing import Any

from sqlalchemy import CTE, CompoundSelect, Delete, FromClause, Insert, Join, Select, Subquery, Table, Update
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ColumnClause, ColumnElement, TextClause
from sqlalchemy.sql.operators import custom_op
from sqlalchemy.sql.selectable import TextualSelect

from mpesa_mcp.errors import InternalFault

ORGANIZATION = "organization_id"
_PLACES_OF_TEXT = ("_prefixes", "_suffixes", "_hints", "_statement_hints")
_FOUND: dict[Hashable, Set[type]] = {}
_MOST_FOUND = 2_000


class OrganizationBreach(InternalFault):
    """Our own code tried to reach past its organization. Nothing was read or written."""

    code = "organization_breach"

    def __init__(self, why: str) -> None:
        super().__init__("An internal check stopped this request. Nothing was changed.")
        self.why = why

    def __str__(self) -> str:
        return f"organization breach: {self.why}"


def named_tables(statement: Any) -> Set[type]:
    """The mapped classes a statement names anywhere; raises OrganizationBreach for what no criterion reaches.

    A criterion reaches a mapped class, its aliases and its columns. It does not reach text, nor a Core table or
    column: those are told apart by the ORM's annotation.

    Looking through a statement takes longer than SQLite takes to run it. What was found is kept by the key that
    SQLAlchemy keeps the SQL by: everything a statement is but for the values it is given, which name no table.
    """
    key = statement._generate_cache_key()
    if key is None:
        return _looked_through(statement)
    found = _FOUND.get(key.key)
    if found is None:
        found = _looked_through(statement)
        if len(_FOUND) >= _MOST_FOUND:
            _FOUND.clear()
        _FOUND[key.key] = found
    return found


def _looked_through(statement: Any) -> Set[type]:
    found: set[type] = set()
    for element in visitors.iterate(statement):
        _refuse_text(element)
        # A column of a table, be it the ORM's, Core's or one made up by name; not of a subquery, visited itself.
        if isinstance(element, ColumnClause) and not isinstance(element.table, Subquery | CTE | None):
            found.add(mapped_class(element))
        if isinstance(element, Select):
            joined = (join[0] for join in element._setup_joins)
            for source in (*element._raw_columns, *element._from_obj, *joined):
                found.update(mapped_class(part) for part in _parts(source))
            # Some expressions (a window, a filtered aggregate) hide their entity, and Core would run the statement.
            if not _is_orm(element) and element.get_final_froms():
                raise OrganizationBreach("a Core select cannot be bound to an organization")
        if isinstance(element, Update | Delete):
            found.add(mapped_class(element.table))
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
    # Its own attributes alone: asking a column for one that it has not is dear, and this is asked of every element.
    own = element.__dict__
    if isinstance(own.get("operator"), custom_op):
        raise OrganizationBreach("an operator of SQL text cannot be bound to an organization")
    if any(own.get(place) for place in _PLACES_OF_TEXT):
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


def mapped_class(element: Any) -> type:
    """The class that a table, a column or an alias belongs to. Raises OrganizationBreach for what Core alone knows."""
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
    return any(getattr(column, "name", getattr(column, "key", column)) == ORGANIZATION for column in named)
