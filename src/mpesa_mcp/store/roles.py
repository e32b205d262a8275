"""PostgreSQL's second lock: row-level security, the crossings with the owner's rights, and who may do what.

Three roles (docs/decisions/0006): the owner has the tables and runs the migrations; the application reads and writes
rows of the organization it names and owns nothing; the role of `callbacks`, the only process that faces the internet,
may look a callback token up and store callbacks. All of it is laid on anew at the end of every `db upgrade`, so that a
table that is added cannot be forgotten.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, make_url, text

from mpesa_mcp.errors import InputError

_CROSSINGS = Path(__file__).parent / "crossings.sql"
# What the callbacks role may run. The application may run all of crossings.sql.
CALLBACK_FUNCTIONS = frozenset({"find_callback_tokens", "store_callbacks"})
# The tables whose rows the application may change, and those it may delete from. In every other it adds rows and reads
# them: a table that nobody put on a list keeps its past.
LOSES_ROWS = frozenset(
    {
        "audit_unsealed",
        "callbacks",
        "data_keys",
        "hints",
        "process_traces",
        "shortcode_defaults",
        "shortcode_secrets",
        "shortcodes",
        "sign_in_failures",
        "spend_rules",
        "spending",
    }
)
CHANGES_ROWS = LOSES_ROWS | {
    "api_keys",
    "approvals",
    "attempts",
    "batch_lines",
    "batches",
    "daraja_apps",
    "daraja_tokens",
    "inquiries",
    "invitations",
    "login_sessions",
    "organizations",
    "payments",
    "platform_keys",
    "rate_limits",
    "refresh_tokens",
    "rule_proposals",
    "stk_claims",
    "subscriptions",
    "support_grants",
    "usage_calls",
    "usage_payments",
    "users",
}
_VERSION_TABLE = "alembic_version"


class RoleMissing(InputError):
    """The role of a database URL does not exist yet, so nothing can be granted to it."""

    code = "database_role_missing"

    def __init__(self, role: str) -> None:
        super().__init__(
            f"The database has no role {role}. Make it first, with LOGIN and a password and nothing more: it must own "
            "nothing and have neither SUPERUSER nor BYPASSRLS."
        )


class RoleNotItsOwn(InputError):
    """One role named for two parts."""

    code = "database_role_not_its_own"

    def __init__(self, role: str) -> None:
        super().__init__(
            f"The role {role} cannot be the one of `callbacks` too: the process that faces the internet needs a role "
            "of its own, which may do nothing else."
        )


class RoleMayCreate(InputError):
    """A role that must be able to do little could make itself the owner."""

    code = "database_role_may_create"

    def __init__(self, role: str) -> None:
        super().__init__(
            f"The role {role} may create things in the schema of the tables, and could make itself their owner. "
            "As the schema's owner run: REVOKE CREATE ON SCHEMA public FROM PUBLIC; give it no such right of its own."
        )


@dataclass(frozen=True, slots=True)
class DatabaseRole:
    """What a role may do beyond what any role of the program's should."""

    name: str
    is_superuser: bool
    bypasses_row_security: bool
    owns_tables: bool
    creates: bool

    @property
    def is_restricted(self) -> bool:
        """Whether row-level security binds it."""
        return not self.beyond

    @property
    def beyond(self) -> str:
        """What is too much, as "is a superuser and owns tables"; empty when nothing is."""
        marks = {
            "is a superuser": self.is_superuser,
            "has BYPASSRLS": self.bypasses_row_security,
            "owns tables": self.owns_tables,
            "may create in the schema": self.creates,
        }
        return " and ".join(words for words, is_so in marks.items() if is_so)


@dataclass(frozen=True, slots=True)
class CallbacksRole:
    """A role of `callbacks`: the tables it may read or write, of which there should be none, and what it lacks."""

    role: DatabaseRole
    tables: Sequence[str]
    missing: Sequence[str]


def protect(connection: Connection) -> None:
    """Lays row-level security on every table with an organization, and makes the crossings anew."""
    for table in _tables_of_organizations(connection):
        # A transaction that names no organization compares with NULL, which equals nothing.
        own = "organization_id = nullif(current_setting('app.organization', true), '')"
        for statement in (
            f"ALTER TABLE {_quoted(table)} ENABLE ROW LEVEL SECURITY",
            f"DROP POLICY IF EXISTS own_organization ON {_quoted(table)}",
            f"CREATE POLICY own_organization ON {_quoted(table)} USING ({own}) WITH CHECK ({own})",
        ):
            connection.exec_driver_sql(statement)
    schema = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
    # Before PostgreSQL 15 everybody may create in `public`, and an operator there could come before the system's own.
    connection.exec_driver_sql(f"REVOKE CREATE ON SCHEMA {_quoted(schema)} FROM PUBLIC")
    for name, definition in crossing_functions().items():
        _drop_function(connection, name)
        connection.exec_driver_sql(definition.replace("{schema}", _quoted(schema)))
    for name in crossing_functions():
        connection.exec_driver_sql(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")


def roles_of_callbacks(connection: Connection) -> list[str]:
    """Who was made the role of `callbacks` by an earlier `grant`: it may run those functions and no other crossing."""
    runs = (
        "SELECT DISTINCT pg_get_userbyid(grantee) FROM pg_proc, aclexplode(proacl) "
        "WHERE pronamespace = current_schema()::regnamespace AND proname = ANY(:names) AND grantee <> 0"
    )
    others = crossing_functions().keys() - CALLBACK_FUNCTIONS
    run_ours, run_others = (
        {*connection.execute(text(runs), {"names": list(names)}).scalars()} for names in (CALLBACK_FUNCTIONS, others)
    )
    return sorted(run_ours - run_others)


def grant(connection: Connection, *, application_url: str | None, callbacks_roles: Sequence[str]) -> list[str]:
    """Gives the application's role, and that of `callbacks`, what they need; returns them. Raises RoleMissing."""
    granted = []
    owner = connection.exec_driver_sql("SELECT current_user").scalar_one()
    application = make_url(application_url).username if application_url else None
    if application and application != owner:
        _require_role(connection, application)
        _require_no_creating(connection, application)
        _grant_application(connection, _quoted(application))
        granted.append(application)
    for callbacks_role in callbacks_roles:
        if callbacks_role in {application, owner}:
            raise RoleNotItsOwn(callbacks_role)
        _require_role(connection, callbacks_role)
        _require_no_creating(connection, callbacks_role)
        _grant_callbacks(connection, _quoted(callbacks_role))
        granted.append(callbacks_role)
    return granted


def connected_role(connection: Connection) -> DatabaseRole:
    """Who this connection is, for `doctor`."""
    return _role(connection, connection.exec_driver_sql("SELECT current_user").scalar_one())


def callbacks_roles(connection: Connection) -> list[CallbacksRole]:
    """What each role of `callbacks` may do that it should not, and what it cannot do that it must, for `doctor`."""
    reached = text(
        "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' "
        "AND has_table_privilege(:role, oid, 'SELECT, INSERT, UPDATE, DELETE') ORDER BY relname"
    )
    missing = text(
        "SELECT 'run ' || proname FROM pg_proc WHERE pronamespace = current_schema()::regnamespace "
        "AND proname = ANY(:names) AND NOT has_function_privilege(:role, oid, 'EXECUTE') "
        "UNION ALL SELECT 'use the schema' WHERE NOT has_schema_privilege(:role, current_schema(), 'USAGE')"
    )
    return [
        CallbacksRole(
            _role(connection, role),
            tables=connection.execute(reached, {"role": role}).scalars().all(),
            missing=connection.execute(missing, {"role": role, "names": list(CALLBACK_FUNCTIONS)}).scalars().all(),
        )
        for role in roles_of_callbacks(connection)
    ]


def missing_rights(connection: Connection) -> list[str]:
    """What `grant` gives the application and the role of this connection does not have, in words, for `doctor`."""
    needed = [(table, right) for table in _tables(connection) for right in _rights_on(table)]
    on_tables = connection.execute(
        text(
            "SELECT needed.privilege, needed.name FROM unnest(cast(:names AS text[]), cast(:rights AS text[])) "
            "AS needed(name, privilege) WHERE NOT has_table_privilege(quote_ident(needed.name), needed.privilege)"
        ),
        {"names": [table for table, _ in needed], "rights": [right for _, right in needed]},
    )
    on_functions = connection.execute(
        text(
            "SELECT proname FROM pg_proc WHERE pronamespace = current_schema()::regnamespace "
            "AND proname = ANY(:names) AND NOT has_function_privilege(oid, 'EXECUTE')"
        ),
        {"names": list(crossing_functions())},
    )
    return [f"{right} on {table}" for right, table in on_tables] + [f"run {name}" for name in on_functions.scalars()]


def crossing_functions() -> dict[str, str]:
    """The definitions in crossings.sql by name; the list a test compares with the database and with `crossings`."""
    definitions = re.split(r"(?m)^(?=CREATE FUNCTION )", _CROSSINGS.read_text())[1:]
    return {re.match(r"CREATE FUNCTION (\w+)", definition)[1]: definition for definition in definitions}  # type: ignore[index] # split there


def _grant_application(connection: Connection, role: str) -> None:
    schema = _quoted(connection.exec_driver_sql("SELECT current_schema()").scalar_one())
    statements = [
        f"GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role}",
    ]
    for table in _tables(connection):
        statements.append(f"GRANT {', '.join(_rights_on(table))} ON {_quoted(table)} TO {role}")
    statements += [f"GRANT EXECUTE ON FUNCTION {name} TO {role}" for name in crossing_functions()]
    for statement in statements:
        connection.exec_driver_sql(statement)


def _tables(connection: Connection) -> list[str]:
    found = connection.exec_driver_sql("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
    return sorted(found.scalars())


def _rights_on(table: str) -> list[str]:
    """What the application may do with a table's rows."""
    rights = ["SELECT"] if table == _VERSION_TABLE else ["SELECT", "INSERT"]
    if table in CHANGES_ROWS:
        rights.append("UPDATE")
    if table in LOSES_ROWS:
        rights.append("DELETE")
    return rights


def _grant_callbacks(connection: Connection, role: str) -> None:
    schema = _quoted(connection.exec_driver_sql("SELECT current_schema()").scalar_one())
    for statement in (
        f"GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role}",
        f"REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {schema} FROM {role}",
        *(f"GRANT EXECUTE ON FUNCTION {name} TO {role}" for name in sorted(CALLBACK_FUNCTIONS)),
    ):
        connection.exec_driver_sql(statement)


def _tables_of_organizations(connection: Connection) -> list[str]:
    found = connection.exec_driver_sql(
        "SELECT table_name FROM information_schema.columns "
        "WHERE table_schema = current_schema() AND column_name = 'organization_id' ORDER BY table_name"
    )
    return list(found.scalars())


def _drop_function(connection: Connection, name: str) -> None:
    found = connection.execute(
        text(
            "SELECT oid::regprocedure::text FROM pg_proc "
            "WHERE proname = :name AND pronamespace = current_schema()::regnamespace"
        ),
        {"name": name},
    )
    for signature in found.scalars().all():
        connection.exec_driver_sql(f"DROP FUNCTION {signature}")


def _role(connection: Connection, name: str) -> DatabaseRole:
    row = connection.execute(
        text(
            "SELECT rolname, rolsuper, rolbypassrls, EXISTS (SELECT 1 FROM pg_class "
            "WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' "
            "AND pg_has_role(pg_roles.oid, relowner, 'MEMBER')), "
            "has_schema_privilege(oid, current_schema(), 'CREATE') "
            "FROM pg_roles WHERE rolname = :name"
        ),
        {"name": name},
    ).one()
    return DatabaseRole(*row)


def _require_role(connection: Connection, role: str) -> None:
    found = connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}).first()
    if found is None:
        raise RoleMissing(role)


def _require_no_creating(connection: Connection, role: str) -> None:
    may_create = text("SELECT has_schema_privilege(:role, current_schema(), 'CREATE')")
    if connection.execute(may_create, {"role": role}).scalar_one():
        raise RoleMayCreate(role)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
