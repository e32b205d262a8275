"""Whatever a statement looks like, it sees rows of its own organization, or is refused before it runs."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import exists, literal, or_, select, true, update
from sqlalchemy.orm import aliased

from mpesa_mcp.store.engine import Store, open_store
from mpesa_mcp.store.migrate import upgrade
from mpesa_mcp.store.tenancy import OrganizationBreach
from mpesa_mcp.values import FrozenClock

from .factories import OURS, THEIRS, a_key, make_ours_and_theirs
from .statements import BOUND, REFUSED, ApiKey, Organization, Statement

# A product of two tables is allowed here: it must not show more than each table would.
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:SELECT statement has a cartesian product")]

Sees = Callable[[str, Any], str]


async def shown(store: Store, statement: Any, organization_id: str = OURS) -> str:
    """Every row the statement gives, as text."""
    async with store.reading(organization_id) as session:
        return repr([tuple(row) for row in await session.rows(statement)])


@pytest.mark.parametrize("statement", BOUND.values(), ids=BOUND.keys())
async def test_a_statement_sees_its_own_rows_only(store: Store, clock: FrozenClock, statement: Statement) -> None:
    await make_ours_and_theirs(store, clock)
    ours = await shown(store, statement())
    assert "theirs" not in ours
    # The same statement, now for the others: what was kept of the first run must not decide the second.
    theirs = await shown(store, statement(), THEIRS)
    assert "ours" not in theirs
    assert await shown(store, statement()) == ours


@pytest.mark.parametrize(
    "name", ["columns", "an alias", "a join to an alias", "a subquery", "an aggregate", "a product"]
)
async def test_a_statement_does_see_its_own_rows(store: Store, clock: FrozenClock, name: str) -> None:
    await make_ours_and_theirs(store, clock)
    assert "secret of ours" in await shown(store, BOUND[name]())
    assert "secret of theirs" in await shown(store, BOUND[name](), THEIRS)


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED.keys())
async def test_a_statement_that_cannot_be_bound_is_refused(
    store: Store, clock: FrozenClock, statement: Statement
) -> None:
    await make_ours_and_theirs(store, clock)
    with pytest.raises(OrganizationBreach):
        await shown(store, statement())


def test_a_refusal_tells_the_caller_nothing() -> None:
    refused = OrganizationBreach("an update of the organization itself")
    assert refused.message == "An internal check stopped this request. Nothing was changed."


names: st.SearchStrategy[Statement] = st.sampled_from(
    [lambda: select(ApiKey.name), lambda: select(aliased(ApiKey).name)]
)


def _wrapped(names: st.SearchStrategy[Statement]) -> st.SearchStrategy[Statement]:
    return st.one_of(
        st.builds(lambda inner: lambda: select(inner().subquery().c.name), names),
        st.builds(lambda inner: lambda: select(inner().cte().c.name), names),
        st.builds(lambda inner: lambda: select(ApiKey.name).where(ApiKey.name.in_(inner())), names),
        st.builds(lambda inner: lambda: select(inner().limit(1).scalar_subquery().label("name")), names),
        st.builds(lambda inner: lambda: inner().where(or_(true(), literal(THEIRS) == THEIRS)), names),
        st.builds(lambda outer, inner: lambda: outer().where(exists(inner().subquery().select())), names, names),
        st.builds(lambda one, other: lambda: _joined(one().subquery(), other().subquery()), names, names),
    )


def _joined(one: Any, other: Any) -> Any:
    return select((one.c.name + ", " + other.c.name).label("name")).select_from(one).join(other, true())


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(statement=st.recursive(names, _wrapped, max_leaves=6))
def test_no_nesting_of_statements_sees_another_organization(sees: Sees, statement: Statement) -> None:
    ours, theirs = sees(OURS, statement()), sees(THEIRS, statement())
    assert "theirs" not in ours
    assert ours == theirs.replace("theirs", "ours")


@pytest.fixture
def sees(tmp_path: Path) -> Sees:
    """Runs a statement for an organization from a test that is no coroutine, as Hypothesis wants them."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'nested.db'}"

    async def prepare() -> None:
        await upgrade(url)
        store = open_store(url)
        await make_ours_and_theirs(store, FrozenClock(datetime(2026, 11, 16, tzinfo=UTC)))
        await store.close()

    async def see(organization_id: str, statement: Any) -> str:
        store = open_store(url)
        try:
            return await shown(store, statement, organization_id)
        finally:
            await store.close()

    anyio.run(prepare)
    return lambda organization_id, statement: anyio.run(see, organization_id, statement)


async def test_a_row_of_others_is_not_there(store: Store, clock: FrozenClock) -> None:
    await make_ours_and_theirs(store, clock)
    async with store.reading(OURS) as session:
        assert (own := await session.get(ApiKey, "key_ours")) is not None
        assert own.name == "secret of ours"
        assert await session.get(ApiKey, "key_theirs") is None
        assert await session.get(ApiKey, "key_nobodys") is None
        assert await session.get(Organization, THEIRS) is None
        assert await session.get(Organization, OURS) is not None


async def test_the_same_id_in_two_organizations_is_two_rows(store: Store, clock: FrozenClock) -> None:
    await make_ours_and_theirs(store, clock)
    for organization_id in (OURS, THEIRS):
        async with store.session(organization_id) as session:
            session.add(a_key(clock, organization_id, "key_same"))
    for organization_id, name in ((OURS, "secret of ours"), (THEIRS, "secret of theirs")):
        async with store.reading(organization_id) as session:
            # Read before by another way: the row kept from that must not answer for another organization.
            await session.all(select(ApiKey))
            row = await session.get(ApiKey, "key_same")
            assert row is not None
            assert row.name == name


async def test_a_row_read_twice_is_read_anew(store: Store, clock: FrozenClock) -> None:
    await make_ours_and_theirs(store, clock)
    async with store.session(OURS) as session:
        row = await session.get(ApiKey, "key_ours")
        assert row is not None
        await session.change(update(ApiKey).values(name="renamed"))
        again = await session.get(ApiKey, "key_ours")
        assert again is row
        assert again.name == "renamed"


def test_no_statement_that_is_refused_is_taken_for_one_that_was_looked_through() -> None:
    """What was found of a statement is kept by its key: even one that differs in nothing but text has another."""
    bound, refused = ([each()._generate_cache_key() for each in kind.values()] for kind in (BOUND, REFUSED))
    kept = {key.key for key in bound if key is not None}
    assert len(kept) > len(bound) / 2
    assert not [key.key for key in refused if key is not None and key.key in kept]
