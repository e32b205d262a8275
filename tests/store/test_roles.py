"""PostgreSQL's second lock: row-level security, and three roles of which each may do what it must and no more."""

import inspect
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, make_url, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from mpesa_mcp.identity.models import ApiKey
from mpesa_mcp.settings import Settings
from mpesa_mcp.store import callback_log, crossings
from mpesa_mcp.store.engine import Store, open_store
from mpesa_mcp.store.migrate import upgrade
from mpesa_mcp.store.roles import (
    CALLBACK_FUNCTIONS,
    CHANGES_ROWS,
    LOSES_ROWS,
    RoleMayCreate,
    RoleMissing,
    RoleNotItsOwn,
    connected_role,
)
from mpesa_mcp.values import FrozenClock

from .factories import OURS, THEIRS, as_owner, make_ours_and_theirs

pytestmark = [pytest.mark.anyio, pytest.mark.postgresql, pytest.mark.own_database]

OWNER_RIGHTS = "SELECT proname FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace"


async def as_application(settings: Settings, *statements: str, organization_id: str | None = None) -> Any:
    """Runs plain SQL as the application's role, past every guard of ours; what the last statement gave."""
    engine = create_async_engine(settings.effective_database_url)
    try:
        async with engine.begin() as connection:
            if organization_id is not None:
                await connection.execute(select(func.set_config("app.organization", organization_id, True)))
            result = None
            for statement in statements:
                result = await connection.execute(text(statement))
            return [tuple(row) for row in result] if result is not None and result.returns_rows else None
    finally:
        await engine.dispose()


async def test_every_table_with_an_organization_is_protected(store: Store, settings: Settings) -> None:
    found = await as_owner(
        settings,
        "SELECT c.relname, c.relrowsecurity, p.qual, p.with_check, p.cmd, p.permissive FROM pg_class c "
        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'organization_id' "
        "LEFT JOIN pg_policies p ON p.tablename = c.relname "
        "WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace",
    )
    assert len(found) >= 14
    for table in found:
        assert table["relrowsecurity"], table
        assert table["cmd"] == "ALL"
        for condition in (table["qual"], table["with_check"]):
            assert "NULLIF(current_setting('app.organization'::text, true), ''::text)" in condition, table


async def test_without_our_session_row_security_alone_shows_nothing_of_others(
    store: Store, settings: Settings, clock: FrozenClock
) -> None:
    await make_ours_and_theirs(store, clock)
    everything = "SELECT name FROM api_keys"
    assert await as_application(settings, everything) == []
    assert await as_application(settings, everything, organization_id="") == []
    assert await as_application(settings, everything, organization_id=OURS) == [("secret of ours",)]
    await as_application(settings, "UPDATE api_keys SET name = 'owned'", organization_id=OURS)
    [theirs] = await as_owner(settings, f"SELECT name FROM api_keys WHERE organization_id = '{THEIRS}'")
    assert theirs["name"] == "secret of theirs"


async def test_without_our_session_no_row_is_written_into_another_organization(
    store: Store, settings: Settings, clock: FrozenClock
) -> None:
    await make_ours_and_theirs(store, clock)
    for statement in (
        f"UPDATE api_keys SET organization_id = '{THEIRS}', id = 'key_moved'",
        f"INSERT INTO hints (organization_id, id, payment_id, attempt_id, result_code, received_at) "
        f"VALUES ('{THEIRS}', 'h', 'p', 'a', '0', now())",
    ):
        with pytest.raises(DBAPIError, match="row-level security"):
            await as_application(settings, statement, organization_id=OURS)


async def test_a_connection_keeps_no_organization_for_the_next(
    store: Store, settings: Settings, clock: FrozenClock
) -> None:
    await make_ours_and_theirs(store, clock)
    async with store.reading(OURS) as session:
        await session.get(ApiKey, "key_ours")
    async with store.unbound_reading() as unbound:
        assert (await unbound.execute(text("SELECT current_setting('app.organization', true)"))).scalar() in {"", None}
        assert (await unbound.execute(text("SELECT count(*) FROM api_keys"))).scalar() == 0


async def test_the_application_owns_nothing_and_cannot_switch_the_lock_off(store: Store, settings: Settings) -> None:
    for statement in (
        "ALTER TABLE api_keys DISABLE ROW LEVEL SECURITY",
        "DROP POLICY own_organization ON api_keys",
        "CREATE TABLE mine (x int)",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "TRUNCATE api_keys",
        "UPDATE alembic_version SET version_num = '9'",
        "SET ROLE shop_owner",
    ):
        with pytest.raises(DBAPIError):
            await as_application(settings, statement)


async def test_the_application_may_append_and_not_rewrite_the_past(store: Store, settings: Settings) -> None:
    granted = await as_owner(
        settings,
        "SELECT table_name, string_agg(privilege_type, ' ' ORDER BY privilege_type) AS rights "
        "FROM information_schema.role_table_grants WHERE grantee = 'shop_application' GROUP BY table_name",
    )
    rights = {row["table_name"]: row["rights"] for row in granted}
    assert rights.pop("alembic_version") == "SELECT"
    for table in CHANGES_ROWS:
        assert rights.pop(table) == ("DELETE INSERT SELECT UPDATE" if table in LOSES_ROWS else "INSERT SELECT UPDATE")
    assert rights == dict.fromkeys(
        ("approval_decisions", "audit_entries", "audit_seals", "payment_history", "balance_snapshots", "plans"),
        "INSERT SELECT",
    )


async def test_the_functions_with_the_owners_rights_are_the_crossings_and_no_others(
    store: Store, settings: Settings
) -> None:
    in_database = {row["proname"] for row in await as_owner(settings, OWNER_RIGHTS)}
    ours = {
        name
        for module in (crossings, callback_log)
        for name, thing in vars(module).items()
        if inspect.isfunction(thing) and thing.__module__ == module.__name__ and not name.startswith("_")
    }
    assert in_database == ours
    # Laid on by name: one defined a second time would replace the first.
    defined = re.findall(
        r"(?m)^CREATE FUNCTION (\w+)", (Path(inspect.getfile(crossings)).parent / "crossings.sql").read_text()
    )
    assert sorted(defined) == sorted(ours)


async def test_the_functions_fix_their_search_path_and_are_not_everybodys(store: Store, settings: Settings) -> None:
    found = await as_owner(
        settings, f"SELECT proname, proconfig, proacl::text AS acl FROM pg_proc WHERE proname IN ({OWNER_RIGHTS})"
    )
    for function in found:
        assert {*function["proconfig"]} - {"enable_seqscan=off"} == {"search_path=public, pg_temp"}, function
        grantees = {entry.split("=")[0] for entry in function["acl"].strip("{}").split(",")}
        callable_by = {"shop_owner", "shop_application"}
        assert grantees == callable_by | ({"shop_callbacks"} if function["proname"] in CALLBACK_FUNCTIONS else set())


async def test_the_callbacks_role_reads_no_table_and_runs_two_functions(store: Store, settings: Settings) -> None:
    url = make_url(settings.effective_database_url).set(username="shop_callbacks")
    engine = create_async_engine(url)
    tables = await as_owner(settings, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    try:
        for statement in (
            *(f"SELECT 1 FROM {row['tablename']}" for row in tables),
            "INSERT INTO callbacks (organization_id, id) VALUES ('o', 'c')",
            "SELECT * FROM find_key('x')",
            "SELECT * FROM list_organizations()",
            "SELECT * FROM claim_due('payments', '{}', now(), '1 s', 1, '{}')",
        ):
            with pytest.raises(DBAPIError, match="permission denied"):
                async with engine.begin() as connection:
                    await connection.execute(text(statement))
        async with engine.begin() as connection:
            assert (await connection.execute(text("SELECT * FROM find_callback_tokens('{x}', '{y}')"))).all() == []
            assert (
                await connection.execute(
                    text("SELECT * FROM store_callbacks('{}', '{}', '{}', '{}', '{}', '{}', '{}')")
                )
            ).all() == []
    finally:
        await engine.dispose()


async def test_a_claim_takes_rows_of_queues_only(store: Store, settings: Settings) -> None:
    with pytest.raises(DBAPIError, match="not a queue"):
        await as_application(settings, "SELECT * FROM claim_due('api_keys', '{}', now(), '1 s', 1, '{}')")


@pytest.mark.parametrize(("owner", "restricted"), [(False, True), (True, False)], ids=["application", "owner"])
async def test_who_is_connected_is_known(settings: Settings, owner: bool, restricted: bool) -> None:
    engine = create_async_engine(settings.owner_database_url if owner else settings.effective_database_url)
    async with engine.connect() as connection:
        role = await connection.run_sync(connected_role)
    await engine.dispose()
    assert role.is_restricted is restricted
    assert role.owns_tables is owner


async def test_upgrading_again_changes_nothing_and_keeps_the_rows(
    store: Store, settings: Settings, clock: FrozenClock
) -> None:
    await make_ours_and_theirs(store, clock)
    await upgrade(settings.owner_database_url, application_url=settings.effective_database_url)
    async with store.session(OURS) as session:
        assert await session.change(update(ApiKey).values(name="renamed")) == 1
    assert [row["proname"] for row in await as_owner(settings, OWNER_RIGHTS)]


async def test_upgrading_again_leaves_the_callbacks_role_what_it_has(settings: Settings) -> None:
    """The messages that ask for an upgrade do not know its name; without its grants every callback would be a 503."""
    granted = await upgrade(settings.owner_database_url, application_url=settings.effective_database_url)
    assert granted == ["shop_application", "shop_callbacks"]
    engine = create_async_engine(make_url(settings.effective_database_url).set(username="shop_callbacks"))
    async with engine.begin() as connection:
        assert (await connection.execute(text("SELECT * FROM find_callback_tokens('{x}', '{y}')"))).all() == []
    await engine.dispose()


async def test_a_role_that_is_not_there_is_named(settings: Settings) -> None:
    url = make_url(settings.effective_database_url).set(username="nobody_yet")
    with pytest.raises(RoleMissing, match="nobody_yet"):
        await upgrade(settings.owner_database_url, application_url=url.render_as_string())


async def test_a_reader_cannot_write_even_by_plain_sql(store: Store) -> None:
    with pytest.raises(Exception, match="not available"):
        async with store.unbound_reading() as session:
            await session.execute(text("SELECT set_config('app.organization', 'x', true)"))
            await session.execute(text("UPDATE api_keys SET name = 'x'"))


async def test_the_owner_alone_still_works_for_a_small_installation(settings: Settings, clock: FrozenClock) -> None:
    store = open_store(settings.owner_database_url)
    await make_ours_and_theirs(store, clock)
    async with store.reading(OURS) as session:
        assert await session.get(ApiKey, "key_theirs") is None
    await store.close()


@asynccontextmanager
async def callbacks_engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """Connects as the role of `callbacks`."""
    engine = create_async_engine(make_url(settings.effective_database_url).set(username="shop_callbacks"))
    yield engine
    await engine.dispose()


async def add_attempts_of_theirs(settings: Settings, count: int = 1) -> None:
    """The other organization's: `att_1` and so on, called back at paths whose tokens hash to `hash1` and so on."""
    await as_owner(
        settings,
        "INSERT INTO attempts (organization_id, id, operation, callback_token_sha256, sent_at, in_flight_until) "
        f"SELECT '{THEIRS}', 'att_' || n, 'b2c', 'hash' || n, now(), now() FROM generate_series(1, {count}) AS n",
    )


async def posted(
    connection: AsyncConnection,
    *,
    token: str = "hash1",
    callback: str = "cbk_1",
    channel: str = "result",
    body: str = "{}",
    moment: str = "2026-11-16T08:30:00Z",
) -> list[str]:
    """What the function stores of one callback to the other organization's path."""
    asked = {"token": token, "callback": callback, "channel": channel, "body": body, "moment": moment}
    arrays = (f"ARRAY[CAST(:{name} AS text)]" for name in ("token", "callback", "channel"))
    statement = (
        f"SELECT id FROM store_callbacks(ARRAY['theirs'], {', '.join(arrays)}, ARRAY[''], ARRAY[CAST(:body AS text)], "
        "ARRAY[CAST(CAST(:moment AS text) AS timestamptz)])"
    )
    return [*(await connection.execute(text(statement), asked)).scalars()]


async def test_the_callbacks_role_adds_only_to_an_attempt_whose_path_it_knows(
    store: Store, settings: Settings, clock: FrozenClock
) -> None:
    await make_ours_and_theirs(store, clock)
    await add_attempts_of_theirs(settings)
    async with callbacks_engine(settings) as engine:
        for token, kept in (("guess", []), ("hash1", ["cbk_1"])):
            async with engine.begin() as connection:
                assert await posted(connection, token=token) == kept


async def test_what_a_callback_costs_does_not_grow_with_the_tables(
    store: Store, settings: Settings, clock: FrozenClock
) -> None:
    """Without statistics of them, as on the first busy day, a plan of PostgreSQL's own choice reads them whole."""
    await make_ours_and_theirs(store, clock)
    await add_attempts_of_theirs(settings, 3000)
    scans = (
        "SELECT count(*), sum(seq_scan) FROM pg_stat_xact_user_tables "
        "WHERE relname IN ('attempts', 'callbacks', 'organizations')"
    )
    engine = create_async_engine(settings.owner_database_url)
    async with engine.begin() as connection:
        for number in range(10):  # the plan of the sixth time and later is kept
            assert await posted(connection, token=f"hash{number + 1}", callback=f"cbk_{number}") == [f"cbk_{number}"]
        assert tuple((await connection.execute(text(scans))).one()) == (3, 0)
    await engine.dispose()


async def test_everybodys_right_to_create_is_taken_away(settings: Settings) -> None:
    await as_owner(settings, "GRANT CREATE ON SCHEMA public TO PUBLIC")
    await upgrade(settings.owner_database_url, application_url=settings.effective_database_url)
    with pytest.raises(DBAPIError, match="permission denied for schema"):
        await as_application(
            settings, "CREATE OPERATOR public.= (leftarg = varchar, rightarg = text, function = texteq)"
        )


async def test_a_role_that_may_create_is_refused(settings: Settings) -> None:
    await as_owner(settings, "GRANT CREATE ON SCHEMA public TO shop_application")
    with pytest.raises(RoleMayCreate, match="shop_application"):
        await upgrade(settings.owner_database_url, application_url=settings.effective_database_url)


async def test_the_callbacks_role_cannot_store_what_would_stop_the_worker(
    store: Store, settings: Settings, clock: FrozenClock
) -> None:
    await make_ours_and_theirs(store, clock)
    await add_attempts_of_theirs(settings)
    async with callbacks_engine(settings) as engine:
        for number, odd in enumerate(
            (
                {"moment": "12000-01-01"},
                {"moment": "infinity"},
                {"channel": "weird"},
                {"body": "x" * 300_000},
            )
        ):
            async with engine.begin() as connection:
                await posted(connection, callback=f"cbk_{number}", **odd)
    kept = await as_owner(settings, "SELECT id, next_action_at <= now() AS is_due FROM callbacks ORDER BY id")
    assert [(row["id"], row["is_due"]) for row in kept] == [("cbk_0", True), ("cbk_1", True)]


async def test_the_callbacks_role_is_nobody_elses(settings: Settings) -> None:
    for role in ("shop_application", "shop_owner"):
        with pytest.raises(RoleNotItsOwn, match=role):
            url = settings.effective_database_url
            await upgrade(settings.owner_database_url, application_url=url, callbacks_role=role)
