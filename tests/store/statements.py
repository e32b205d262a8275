"""Statements over keys: those that can be bound to one organization, and those that must be refused.

What belongs to the others contains "theirs"; a statement that asks for a fact about them gives the literal "theirs".
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    String,
    and_,
    case,
    cast,
    column,
    exists,
    func,
    insert,
    join,
    literal,
    literal_column,
    not_,
    or_,
    select,
    table,
    text,
    true,
    tuple_,
    union,
    union_all,
    values,
)
from sqlalchemy.orm import Bundle, aliased
from sqlalchemy.orm import join as orm_join

from mpesa_mcp.daraja import tokens
from mpesa_mcp.identity import models
from mpesa_mcp.store import keyring

from .factories import OURS, THEIRS

# SQLModel gives columns the types of their values, which SQLAlchemy's functions do not take.
ApiKey: Any = models.ApiKey
Organization: Any = models.Organization
PlatformKey: Any = keyring.PlatformKey
DarajaToken: Any = tokens.DarajaToken

Statement = Callable[[], Any]
KEYS: Any = ApiKey.__table__
OTHER = aliased(ApiKey)
SUBQUERY = select(ApiKey.name, ApiKey.organization_id).subquery()
COMMON = select(ApiKey.name, ApiKey.organization_id).cte()
IS_THEIRS = ApiKey.organization_id == THEIRS
OTHER_IS_THEIRS = OTHER.organization_id == THEIRS

BOUND: dict[str, Statement] = {
    "columns": lambda: select(ApiKey.name),
    "all columns": lambda: select(column("*", is_literal=True)).select_from(ApiKey),
    "a column without a table": lambda: select(column("name")).select_from(ApiKey),
    "a bundle": lambda: select(Bundle("pair", ApiKey.id, ApiKey.name)),
    "an alias": lambda: select(OTHER.name),
    "a subquery": lambda: select(SUBQUERY.c.name),
    "a whole subquery": lambda: select(SUBQUERY),
    "a subquery in a subquery": lambda: select(select(SUBQUERY.c.name).subquery().c.name),
    "a subquery of an alias": lambda: select(select(OTHER.name).subquery().c.name),
    "an alias of a subquery": lambda: select(aliased(ApiKey, select(ApiKey).subquery()).name),
    "an alias of a common table": lambda: select(aliased(ApiKey, select(ApiKey).cte()).name),
    "an alias of the table": lambda: select(aliased(ApiKey, KEYS.alias()).name),
    "a common table expression": lambda: select(COMMON.c.name),
    "a scalar subquery": lambda: select(select(ApiKey.name).where(IS_THEIRS).scalar_subquery()),
    "a scalar subquery in a function": lambda: select(
        func.coalesce(select(func.aggregate_strings(ApiKey.name, ",")).scalar_subquery(), "nothing")
    ),
    "a correlated subquery": lambda: select(
        Organization.name,
        select(ApiKey.name).where(ApiKey.organization_id != Organization.organization_id).scalar_subquery(),
    ),
    "exists": lambda: select(exists().where(IS_THEIRS)),
    "exists of a column": lambda: select(select(ApiKey.id).where(IS_THEIRS).exists()),
    "where exists": lambda: select(literal("theirs")).where(exists(select(ApiKey.id).where(IS_THEIRS))),
    "where exists an alias": lambda: select(literal("theirs")).where(exists(select(OTHER.id).where(OTHER_IS_THEIRS))),
    "in": lambda: select(literal("theirs")).where(literal("secret of theirs").in_(select(ApiKey.name))),
    "in pairs": lambda: select(literal("theirs")).where(
        tuple_(literal(THEIRS), literal("key_theirs")).in_(select(ApiKey.organization_id, ApiKey.id))
    ),
    "a condition alone": lambda: select(literal("theirs")).where(IS_THEIRS),
    "a condition on an alias alone": lambda: select(literal("theirs")).where(OTHER_IS_THEIRS),
    "an or": lambda: select(ApiKey.name).where(or_(true(), IS_THEIRS)),
    "a not": lambda: select(ApiKey.name).where(not_(ApiKey.organization_id == OURS)),
    "an aggregate": lambda: select(func.aggregate_strings(ApiKey.name, ",")),
    "a second entity's aggregate with a filter": lambda: select(
        Organization.name, func.aggregate_strings(ApiKey.name, ",").filter(true())
    ).group_by(Organization.name),
    "a second entity's window": lambda: select(Organization.name, func.max(ApiKey.name).over()),
    "a window of an alias": lambda: select(Organization.name, func.max(OTHER.name).over()),
    "a case": lambda: select(case((ApiKey.name != "", ApiKey.name), else_="nothing")),
    "a concatenation": lambda: select(Organization.name, literal("a ") + ApiKey.name),
    "a cast": lambda: select(cast(ApiKey.name, String)),
    "json": lambda: select(func.json_array(ApiKey.name)),
    "having": lambda: (
        select(literal("theirs"))
        .select_from(Organization)
        .group_by(Organization.name)
        .having(select(func.count(ApiKey.id)).where(IS_THEIRS).scalar_subquery() > 0)
    ),
    "ordered by a subquery": lambda: select(Organization.name).order_by(
        select(ApiKey.name).where(IS_THEIRS).scalar_subquery()
    ),
    "a join": lambda: select(Organization.name, ApiKey.name).join(ApiKey, true()),
    "a join the other way": lambda: select(Organization.name, ApiKey.name).join_from(Organization, ApiKey, true()),
    "an outer join": lambda: select(Organization.name, ApiKey.name).outerjoin(ApiKey, IS_THEIRS),
    "a full join": lambda: select(Organization.name, ApiKey.name).join(ApiKey, true(), full=True),
    "a join to an alias": lambda: select(Organization.name, OTHER.name).join(OTHER, true()),
    "an outer join to an alias": lambda: select(Organization.name, OTHER.name).outerjoin(OTHER, OTHER_IS_THEIRS),
    "a join to itself": lambda: select(ApiKey.name, OTHER.name).join(OTHER, true()),
    "a join to a subquery": lambda: select(Organization.name, SUBQUERY.c.name).join(SUBQUERY, true()),
    "a join of entities": lambda: select(ApiKey.name).select_from(orm_join(Organization, ApiKey, true())),
    "a product": lambda: select(Organization.name, ApiKey.name, OTHER.name),
}

REFUSED: dict[str, Statement] = {
    "text": lambda: text("SELECT name FROM api_keys"),
    "text as a column": lambda: select(text("name FROM api_keys")),
    "text as a condition": lambda: select(ApiKey.name).where(text("1 = 1) OR (1 = 1")),
    "text as an order": lambda: select(ApiKey.name).order_by(text("name")),
    "text in a list": lambda: select(ApiKey.name).where(ApiKey.name.in_(text("'secret of theirs'"))),
    "a literal column": lambda: select(literal_column("(SELECT group_concat(name) FROM api_keys)")),
    "a column that is text": lambda: select(column("name FROM api_keys --", is_literal=True)),
    "a prefix": lambda: select(ApiKey.name).prefix_with("name FROM api_keys --"),
    "a suffix": lambda: select(ApiKey.name).suffix_with("UNION SELECT name FROM api_keys"),
    "a hint": lambda: select(ApiKey.name).with_hint(ApiKey, "NOT INDEXED"),
    "a hint on the statement": lambda: select(ApiKey.name).with_statement_hint("UNION SELECT name FROM api_keys"),
    "an operator that is text": lambda: select(
        literal("").op("|| (SELECT group_concat(name) FROM api_keys) ||")(literal(""))
    ),
    "a statement for an entity": lambda: select(ApiKey).from_statement(text("SELECT * FROM api_keys")),
    "a Core statement for an entity": lambda: select(ApiKey).from_statement(select(KEYS)),
    "a union": lambda: union(select(ApiKey.name), select(OTHER.name)),
    "a union in a subquery": lambda: select(union_all(select(ApiKey.name), select(OTHER.name)).subquery().c.name),
    "a Core table": lambda: select(KEYS),
    "a Core column": lambda: select(KEYS.c.name),
    "a Core alias": lambda: select(KEYS.alias().c.name),
    "a Core column in a function": lambda: select(func.count(KEYS.c.name)),
    "a Core column in a condition": lambda: select(Organization.name).where(KEYS.c.organization_id == THEIRS),
    "a Core alias in a condition": lambda: select(Organization.name).where(KEYS.alias().c.organization_id == THEIRS),
    "a Core table to count": lambda: select(func.count()).select_from(KEYS),
    "a Core table in exists": lambda: select(Organization.name).where(exists(select(literal(1)).select_from(KEYS))),
    "a Core subquery": lambda: select(select(KEYS.c.name).subquery().c.name),
    "a Core join": lambda: select(ApiKey.name).select_from(join(KEYS, KEYS.alias(), true())),
    "a join to a Core table": lambda: select(Organization.name).join(KEYS, true()),
    "a join to a Core alias": lambda: select(Organization.name).select_from(
        orm_join(Organization, KEYS.alias(), true())
    ),
    "an alias of a Core subquery": lambda: select(aliased(ApiKey, select(KEYS).subquery()).name),
    "a table by name": lambda: select(table("api_keys", column("name")).c.name),
    "a table by name in a condition": lambda: select(Organization.name).where(
        table("api_keys", column("name")).c.name != ""
    ),
    "a join to a table by name": lambda: select(Organization.name).join(table("api_keys", column("name")), true()),
    "a count of a table by name": lambda: select(func.count()).select_from(table("api_keys")),
    "the database's own table": lambda: select(table("sqlite_master", column("name")).c.name),
    "a table function": lambda: select(func.pragma_table_info("api_keys").table_valued("name").c.name),
    "values": lambda: select(values(column("name", String), name="v").data([("theirs",)])),
    "a window alone": lambda: select(func.first_value(ApiKey.name).over(order_by=ApiKey.name)),
    "a window in a subquery": lambda: select(select(func.max(ApiKey.name).over().label("q")).subquery().c.q),
    "a filtered aggregate alone": lambda: select(func.group_concat(ApiKey.name).filter(true())),
    "a conjunction alone": lambda: select(and_(ApiKey.name != "", ApiKey.id != "")),
    "an insert inside": lambda: select(literal(1)).add_cte(insert(ApiKey).values(organization_id=OURS, id="x").cte()),
    "an installation's table": lambda: select(PlatformKey),
    "an installation's table in a subquery": lambda: select(select(DarajaToken.sealed).subquery().c.sealed),
    "an installation's table in exists": lambda: select(Organization.name).where(exists(select(PlatformKey.name))),
    "an installation's Core table": lambda: select(DarajaToken.__table__),
}
