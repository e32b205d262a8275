"""The commands on PostgreSQL: an upgrade with the owner's role, grants, and what `doctor` says of the roles."""

import asyncio
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from .conftest import Terminal

pytestmark = [pytest.mark.postgresql, pytest.mark.own_database]


@pytest.fixture
def terminal(bare_terminal: Terminal) -> Terminal:
    """The database is elsewhere."""
    return bare_terminal


def database_of(database: dict[str, Any]) -> dict[str, str]:
    return {"DATABASE_URL": database["database_url"], "DATABASE_OWNER_URL": database["database_owner_url"]}


def finding(terminal: Terminal, name: str, **variables: str) -> dict[str, Any]:
    found = {each["name"]: each for each in terminal.run("doctor", "--json", **variables).value}
    named: dict[str, Any] = found[name]
    return named


def test_an_upgrade_grants_to_the_user_of_the_database_url(terminal: Terminal, database: dict[str, Any]) -> None:
    urls = database_of(database)
    upgraded = terminal.ask("db", "upgrade", "--callbacks-role", "shop_callbacks", **urls)
    assert upgraded == {"state": "current", "changed": False, "granted_to": ["shop_application", "shop_callbacks"]}
    made = terminal.ask("org", "create", "Acme Ltd", "--slug", "acme", **urls)
    assert [each["organization_id"] for each in terminal.ask("org", "list", **urls)] == [made["organization_id"]]
    assert finding(terminal, "database", **urls)["status"] == "ok"
    assert finding(terminal, "database_role", **urls)["status"] == "ok"


def test_a_program_that_connects_as_the_owner_is_warned(terminal: Terminal, database: dict[str, Any]) -> None:
    warning = finding(terminal, "database_role", DATABASE_URL=database["database_owner_url"])
    assert warning["status"] == "warning"
    assert "owns tables" in warning["message"]
    assert "MPESA_MCP_DATABASE_OWNER_URL" in warning["fix"]


def test_a_superuser_is_warned(terminal: Terminal, database: dict[str, Any]) -> None:
    url = make_url(database["database_url"]).set(username="postgres").render_as_string()
    assert "is a superuser" in finding(terminal, "database_role", DATABASE_URL=url)["message"]


def test_a_grant_that_is_missing_is_told_as_one_and_not_as_a_database_away(
    terminal: Terminal, database: dict[str, Any]
) -> None:
    urls = database_of(database)
    terminal.ask("db", "upgrade", **urls)
    url = make_url(database["database_owner_url"]).set(drivername="postgresql").render_as_string()
    asyncio.run(_as(url, "REVOKE INSERT ON audit_entries, organizations FROM shop_application"))
    outcome = terminal.run("org", "create", "Acme Ltd", "--slug", "acme", **urls)
    assert outcome.exit_code == 1
    assert "lacks a right" in outcome.stderr
    assert "db upgrade" in outcome.stderr
    told = finding(terminal, "database_rights", **urls)
    assert (told["status"], told["message"].count("INSERT on")) == ("problem", 2)
    terminal.ask("db", "upgrade", **urls)
    terminal.ask("org", "create", "Acme Ltd", "--slug", "acme", **urls)


def test_a_role_of_callbacks_that_may_do_more_or_less_than_it_should_is_told(
    terminal: Terminal, database: dict[str, Any]
) -> None:
    urls = database_of(database)
    owner = make_url(database["database_owner_url"]).set(drivername="postgresql")
    postgres = owner.set(username="postgres")
    terminal.ask("db", "upgrade", "--callbacks-role", "shop_callbacks", **urls)
    assert finding(terminal, "callbacks_role", **urls)["status"] == "ok"
    for who, statement, status, said in (
        (owner, "GRANT SELECT ON payments TO shop_callbacks", "warning", "may read or write payments"),
        (postgres, "ALTER ROLE shop_callbacks BYPASSRLS", "warning", "has BYPASSRLS"),
        (postgres, "ALTER ROLE shop_callbacks NOBYPASSRLS", "warning", "may read or write payments"),
        (owner, "REVOKE EXECUTE ON FUNCTION store_callbacks FROM shop_callbacks", "problem", "run store_callbacks"),
    ):
        asyncio.run(_as(who.render_as_string(), statement))
        told = finding(terminal, "callbacks_role", **urls)
        assert (told["status"], said in told["message"]) == (status, True), told
    assert "--callbacks-role shop_callbacks" in told["fix"]
    terminal.ask("db", "upgrade", "--callbacks-role", "shop_callbacks", **urls)
    assert finding(terminal, "callbacks_role", **urls)["status"] == "ok"


async def _as(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def test_a_role_that_is_not_there_is_named_and_nothing_changes(terminal: Terminal, database: dict[str, Any]) -> None:
    outcome = terminal.run("db", "upgrade", "--callbacks-role", "nobody_yet", **database_of(database))
    assert outcome.exit_code == 1
    assert outcome.stderr.count("\n") == 1
    assert "no role nobody_yet" in outcome.stderr


def test_a_server_that_is_away_is_said_in_one_line_without_its_address(terminal: Terminal) -> None:
    url = "postgresql+asyncpg://shop:hunter2@127.0.0.1:1/payments"
    for words in (("db", "upgrade"), ("org", "list")):
        outcome = terminal.run(*words, DATABASE_URL=url)
        assert outcome.exit_code == 1
        assert outcome.stderr.count("\n") == 1
        assert "hunter2" not in outcome.stderr
    assert finding(terminal, "database", DATABASE_URL=url)["status"] == "problem"


@pytest.mark.parametrize(
    ("what", "said"),
    [({"username": "nobody_yet"}, "user or the password"), ({"database": "no_such"}, "no database of that name")],
    ids=["role", "database"],
)
def test_what_the_server_refuses_is_told_apart_from_a_server_that_is_away(
    terminal: Terminal, database: dict[str, Any], what: dict[str, Any], said: str
) -> None:
    url = make_url(database["database_url"]).set(**what).render_as_string()
    assert said in finding(terminal, "database", DATABASE_URL=url)["message"]
    outcome = terminal.run("db", "upgrade", DATABASE_URL=database["database_url"], DATABASE_OWNER_URL=url)
    assert (outcome.exit_code, outcome.stderr.count("\n")) == (1, 1)
    assert said in outcome.stderr
    assert "MPESA_MCP_DATABASE_OWNER_URL" in outcome.stderr


def test_an_upgrade_without_the_owner_says_that_it_needs_the_owner(
    terminal: Terminal, database: dict[str, Any]
) -> None:
    outcome = terminal.run("db", "upgrade", DATABASE_URL=database["database_url"])
    assert outcome.exit_code == 1
    assert "MPESA_MCP_DATABASE_OWNER_URL" in outcome.stderr
