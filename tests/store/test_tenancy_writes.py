"""Nothing is written, changed or deleted outside the session's organization, whichever way is tried."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import (
    column,
    delete,
    func,
    insert,
    literal_column,
    select,
    table,
    text,
    update,
)
from sqlalchemy.dialects import sqlite

from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import PlatformKey
from mpesa_mcp.store.tenancy import OrganizationBreach
from mpesa_mcp.values import FrozenClock

from .factories import OURS, THEIRS, a_key, an_organization, as_owner, make_ours_and_theirs, names_of_keys
from .statements import IS_THEIRS, KEYS, OTHER, ApiKey, Organization

pytestmark = [pytest.mark.anyio, pytest.mark.own_database]

Statement = Callable[[], Any]


@pytest.fixture(autouse=True)
async def both(store: Store, settings: Settings, clock: FrozenClock) -> None:
    await make_ours_and_theirs(store, clock)
    if store.is_postgresql:
        # The application may not delete keys at all; here it shall be the session that keeps it from others' rows.
        await as_owner(settings, "GRANT DELETE ON api_keys TO PUBLIC")


async def theirs_is_untouched(store: Store) -> bool:
    return await names_of_keys(store, THEIRS) == ["secret of theirs"]


CHANGES: dict[str, tuple[Statement, int]] = {
    "an update of everything": (lambda: update(ApiKey).values(name="owned"), 1),
    "an update of theirs": (lambda: update(ApiKey).where(IS_THEIRS).values(name="owned"), 0),
    "an update by a subquery": (lambda: update(ApiKey).where(ApiKey.id.in_(select(OTHER.id))).values(name="owned"), 1),
    "an update by their subquery": (
        lambda: update(ApiKey).where(select(OTHER.id).where(OTHER.organization_id == THEIRS).exists()).values(name="x"),
        0,
    ),
    "an update to a subquery": (
        lambda: update(ApiKey).values(name=select(func.max(OTHER.name)).scalar_subquery()),
        1,
    ),
    "an ordered update": (lambda: update(ApiKey).ordered_values((ApiKey.name, "owned"), (ApiKey.role, "x")), 1),
    "a delete of everything": (lambda: delete(ApiKey), 1),
    "a delete of theirs": (lambda: delete(ApiKey).where(IS_THEIRS), 0),
    "a delete by a subquery": (lambda: delete(ApiKey).where(ApiKey.id.in_(select(OTHER.id))), 1),
}

REFUSED: dict[str, Statement] = {
    "text": lambda: text("UPDATE api_keys SET name = 'owned'"),
    "a Core update": lambda: update(KEYS).values(name="owned"),
    "a Core delete": lambda: delete(KEYS),
    "an update of a table by name": lambda: update(table("api_keys", column("name"))).values(name="owned"),
    "a delete from a table by name": lambda: delete(table("api_keys", column("name"))),
    "an update of an alias": lambda: update(OTHER).values(name="owned"),
    "a delete of an alias": lambda: delete(OTHER),
    "an update from a second table": lambda: update(ApiKey).where(ApiKey.id != OTHER.id).values(name=OTHER.name),
    "an update where another table says": lambda: (
        update(ApiKey).where(Organization.organization_id == THEIRS).values(name="owned")
    ),
    "a delete by a second table": lambda: delete(ApiKey).where(ApiKey.id != OTHER.id),
    "an update to text": lambda: update(ApiKey).values(name=text("(SELECT group_concat(name) FROM api_keys)")),
    "an update to a literal column": lambda: update(ApiKey).values(name=literal_column("role")),
    "an update to a Core subquery": lambda: update(ApiKey).values(
        name=select(func.group_concat(KEYS.c.name)).scalar_subquery()
    ),
    "an update to a window": lambda: update(ApiKey).values(name=select(func.max(OTHER.name).over()).scalar_subquery()),
    "an update with a prefix": lambda: update(ApiKey).prefix_with("OR REPLACE").values(name="owned"),
    "an update returning text": lambda: update(ApiKey).values(name="x").returning(literal_column("name")),
    "an update of the organization": lambda: update(ApiKey).values(organization_id=THEIRS),
    "an update of the organization's column": lambda: update(ApiKey).values({ApiKey.organization_id: THEIRS}),
    "an update of the organization's Core column": lambda: update(ApiKey).values({KEYS.c.organization_id: THEIRS}),
    "an ordered update of the organization": lambda: update(ApiKey).ordered_values((ApiKey.organization_id, THEIRS)),
    "an update of an installation's table": lambda: update(PlatformKey).values(name="owned"),
    "a delete from an installation's table": lambda: delete(PlatformKey),
    "an insert": lambda: insert(ApiKey).values(organization_id=THEIRS, id="x"),
    "an insert of ours": lambda: insert(ApiKey).values(organization_id=OURS, id="x"),
    "a Core insert": lambda: insert(KEYS).values(organization_id=THEIRS, id="x"),
    "an insert from a select": lambda: insert(KEYS).from_select(["name"], select(KEYS.c.name)),
    "an upsert": lambda: sqlite.insert(ApiKey).values(id="x").on_conflict_do_update(set_={"name": "owned"}),
}


@pytest.mark.parametrize(("statement", "count"), CHANGES.values(), ids=CHANGES.keys())
async def test_a_change_touches_its_own_rows_only(store: Store, statement: Statement, count: int) -> None:
    async with store.session(OURS) as session:
        assert await session.change(statement()) == count
    assert await theirs_is_untouched(store)
    assert "theirs" not in str(await names_of_keys(store, OURS))


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED.keys())
async def test_a_change_that_cannot_be_bound_is_refused(store: Store, statement: Statement) -> None:
    with pytest.raises(OrganizationBreach):
        async with store.session(OURS) as session:
            await session.change(statement())
    assert await theirs_is_untouched(store)
    assert await names_of_keys(store, OURS) == ["secret of ours"]


async def test_a_new_row_takes_the_organization_of_its_session(store: Store, clock: FrozenClock) -> None:
    async with store.session(OURS) as session:
        session.add(a_key(clock, None, "key_new"))
    async with store.reading(OURS) as session:
        row = await session.get(ApiKey, "key_new")
        assert row is not None
        assert row.organization_id == OURS


async def test_a_new_row_of_others_is_refused(store: Store, clock: FrozenClock) -> None:
    with pytest.raises(OrganizationBreach):
        async with store.session(OURS) as session:
            session.add(a_key(clock, THEIRS, "key_new"))
    assert await theirs_is_untouched(store)


async def test_a_row_read_by_others_cannot_be_attached(store: Store) -> None:
    async with store.reading(THEIRS) as session:
        row = await session.get(ApiKey, "key_theirs")
    assert row is not None
    with pytest.raises(OrganizationBreach):
        async with store.session(OURS) as session:
            row.name = "owned"
            session.add(row)
    assert await theirs_is_untouched(store)


async def test_a_row_cannot_be_given_to_others(store: Store) -> None:
    with pytest.raises(OrganizationBreach):
        async with store.session(OURS) as session:
            row = await session.get(ApiKey, "key_ours")
            assert row is not None
            row.organization_id = THEIRS
    assert await theirs_is_untouched(store)
    assert await names_of_keys(store, OURS) == ["secret of ours"]


async def test_a_new_row_given_to_others_after_it_was_added_is_refused(store: Store, clock: FrozenClock) -> None:
    with pytest.raises(OrganizationBreach):
        async with store.session(OURS) as session:
            row = a_key(clock, OURS, "key_new")
            session.add(row)
            row.organization_id = THEIRS
    assert await theirs_is_untouched(store)


async def test_a_row_of_the_installation_is_refused(store: Store) -> None:
    with pytest.raises(OrganizationBreach):
        async with store.session(OURS) as session:
            session.add(PlatformKey(name="x", wrapped=b"x"))  # type: ignore[arg-type] # the type refuses it, too


async def test_an_insert_if_absent_belongs_to_its_session(store: Store, clock: FrozenClock) -> None:
    values = a_key(clock, None, "key_new").model_dump(exclude={"organization_id"})
    async with store.session(OURS) as session:
        assert await session.insert_if_absent(ApiKey, **values) is True
        assert await session.insert_if_absent(ApiKey, **values) is False
    async with store.session(THEIRS) as session:
        assert await session.insert_if_absent(ApiKey, **values) is True
    for organization_id in (OURS, THEIRS):
        assert len(await names_of_keys(store, organization_id)) == 2


async def test_an_insert_if_absent_for_others_is_refused(store: Store, clock: FrozenClock) -> None:
    with pytest.raises(OrganizationBreach):
        async with store.session(OURS) as session:
            await session.insert_if_absent(ApiKey, **a_key(clock, THEIRS, "key_new").model_dump())
    assert await theirs_is_untouched(store)


def columns_of(clock: FrozenClock, key_id: str, **more: Any) -> dict[str, Any]:
    return {**a_key(clock, None, key_id).model_dump(exclude={"organization_id"}), **more}


async def test_an_appended_row_belongs_to_its_session_and_is_there_when_its_table_is_read(
    store: Store, clock: FrozenClock
) -> None:
    count = select(func.count()).select_from(ApiKey)
    async with store.session(OURS) as session:
        for name in ("key_new", "key_newer"):
            session.append(ApiKey, **columns_of(clock, name))
        assert await session.first(count) == 3
        session.append(ApiKey, **columns_of(clock, "key_newest"))
    assert len(await names_of_keys(store, OURS)) == 4
    assert await theirs_is_untouched(store)


async def test_an_appended_row_goes_with_its_transaction(store: Store, clock: FrozenClock) -> None:
    with pytest.raises(RuntimeError):
        async with store.session(OURS) as session:
            session.append(ApiKey, **columns_of(clock, "key_new"))
            await session.flush()
            raise RuntimeError
    assert len(await names_of_keys(store, OURS)) == 1


@pytest.mark.parametrize("wrong", [{"organization_id": THEIRS}, {"organization_id": OURS}, {"unknown": 1}])
async def test_an_appended_row_that_names_an_organization_or_what_is_no_column_is_refused(
    store: Store, clock: FrozenClock, wrong: dict[str, Any]
) -> None:
    with pytest.raises(OrganizationBreach):
        async with store.session(OURS) as session:
            session.append(ApiKey, **columns_of(clock, "key_new", **wrong))
    assert await theirs_is_untouched(store)
    assert len(await names_of_keys(store, OURS)) == 1


async def test_many_are_changed_at_once_if_they_are_still_as_they_were(store: Store, clock: FrozenClock) -> None:
    async with store.session(OURS) as session:
        session.append(ApiKey, **columns_of(clock, "key_new", name="new"))
        changes = [
            ({"id": "key_ours", "name": "secret of ours", "revoked_at": None}, {"name": "first"}),
            ({"id": "key_new", "name": "not so", "revoked_at": None}, {"name": "second"}),
            ({"id": "key_theirs", "name": "secret of theirs", "revoked_at": None}, {"name": "third"}),
        ]
        assert await session.change_many(ApiKey, changes) == 1
        assert await session.change_many(ApiKey, []) == 0
    assert await names_of_keys(store, OURS) == ["new", "first"]
    assert await theirs_is_untouched(store)


@pytest.mark.parametrize(
    "second",
    [
        ({"id": "key_new", "revoked_at": None}, {"name": "second", "tools": []}),
        ({"id": "key_new"}, {"name": "second"}),
        ({"id": "key_new", "revoked_at": datetime(2026, 1, 5, tzinfo=UTC)}, {"name": "second"}),
    ],
)
async def test_of_a_change_of_many_no_column_is_lost_that_only_some_rows_name(
    store: Store, second: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    with pytest.raises(ValueError, match="changed together"):
        async with store.session(OURS) as session:
            first: tuple[dict[str, Any], dict[str, Any]] = ({"id": "key_ours", "revoked_at": None}, {"name": "first"})
            await session.change_many(ApiKey, [first, second])
    assert await names_of_keys(store, OURS) == ["secret of ours"]


@pytest.mark.parametrize("side", [0, 1])
async def test_a_change_of_many_that_names_an_organization_is_refused(store: Store, side: int) -> None:
    change: list[dict[str, Any]] = [{"id": "key_theirs"}, {"name": "owned"}]
    change[side]["organization_id"] = THEIRS
    with pytest.raises(OrganizationBreach):
        async with store.session(OURS) as session:
            await session.change_many(ApiKey, [(change[0], change[1])])
    assert await theirs_is_untouched(store)


async def test_a_row_cannot_refer_to_a_row_of_others(store: Store, clock: FrozenClock) -> None:
    from sqlalchemy.exc import IntegrityError

    from mpesa_mcp.credentials.models import ShortcodeSecret

    secret = ShortcodeSecret(  # type: ignore[call-arg] # the session gives it its organization
        shortcode_id="sc_theirs", field="passkey", sealed=b"x", key_version=1, set_at=clock.now(), set_by="x"
    )
    with pytest.raises(IntegrityError):
        async with store.session(OURS) as session:
            session.add(secret)


RAW: dict[str, Callable[[Any], Any]] = {
    "values given apart, by key": lambda raw: raw.execute(
        update(ApiKey), [{"organization_id": THEIRS, "id": "key_theirs", "name": "owned"}]
    ),
    "values given apart": lambda raw: raw.execute(update(ApiKey), {"organization_id": THEIRS}),
    "rows given apart": lambda raw: raw.execute(insert(ApiKey), [{"organization_id": THEIRS, "id": "x"}]),
    "text": lambda raw: raw.execute(text("UPDATE api_keys SET name = 'owned'")),
    "a look by key": lambda raw: raw.get(ApiKey, (THEIRS, "key_theirs")),
}


@pytest.mark.parametrize("act", RAW.values(), ids=RAW.keys())
async def test_the_session_underneath_is_guarded_too(store: Store, act: Callable[[Any], Any]) -> None:
    with pytest.raises(OrganizationBreach):
        async with store.session(OURS) as session:
            await act(session._session)
    assert await theirs_is_untouched(store)


PLATFORM_REFUSED: dict[str, Statement] = {
    "a select": lambda: select(ApiKey),
    "a select in a subquery": lambda: select(select(ApiKey.name).subquery()),
    "a Core select": lambda: select(KEYS),
    "text": lambda: text("SELECT name FROM api_keys"),
    "an update": lambda: update(ApiKey).values(name="owned"),
    "a delete": lambda: delete(ApiKey),
    "an insert": lambda: insert(ApiKey).values(organization_id=OURS, id="x"),
    "a Core insert": lambda: insert(KEYS).values(organization_id=OURS, id="x"),
}


@pytest.mark.parametrize("statement", PLATFORM_REFUSED.values(), ids=PLATFORM_REFUSED.keys())
async def test_a_platform_session_does_not_reach_an_organizations_table(store: Store, statement: Statement) -> None:
    with pytest.raises(OrganizationBreach):
        async with store.platform() as session:
            await session.execute(statement())
    with pytest.raises(OrganizationBreach):
        async with store.platform_reading() as session:
            await session.execute(statement())
    assert await theirs_is_untouched(store)


async def test_a_platform_session_takes_no_row_of_an_organization(store: Store, clock: FrozenClock) -> None:
    with pytest.raises(OrganizationBreach):
        async with store.platform() as session:
            session.add(an_organization(clock, "org_new"))
    async with store.reading("org_new") as reading:
        assert await reading.get(Organization, "org_new") is None
