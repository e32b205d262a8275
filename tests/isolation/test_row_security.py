"""Row-level security alone: with the session's own filter switched off, nothing of another organization is seen.

The filter is what a query through OrganizationSession is bound by (`store.tenancy`). Without it, on SQLite everything
would be open, which shows that the switch works; on PostgreSQL the second lock holds.
"""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from mcp.types import CallToolResult
from sqlalchemy import Table, event, select
from sqlalchemy.orm import Session

from mpesa_mcp.app.local import LocalPlatform
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.store import bound_session
from mpesa_mcp.store.engine import StoreUnavailable
from mpesa_mcp.store.tables import OrganizationTable

from .asking import accepted, as_asker, each_kind, nothing_comes_of
from .factories import Theirs, make_organization, marks_in, rows_of, tables_of_organizations

pytestmark = pytest.mark.anyio

GUARDS = (
    ("do_orm_execute", bound_session._bind_statement),
    ("before_attach", bound_session._attach_own_rows_only),
    ("before_flush", bound_session._write_own_rows_only),
)


@pytest.fixture
def no_filter() -> Iterator[None]:
    """Sessions that name their organization to PostgreSQL and check nothing themselves."""
    for name, guard in GUARDS:
        event.remove(bound_session.BoundSession, name, guard)
    event.listen(bound_session.BoundSession, "before_attach", _give_organization)
    yield
    event.remove(bound_session.BoundSession, "before_attach", _give_organization)
    for name, guard in GUARDS:
        event.listen(bound_session.BoundSession, name, guard)


def _give_organization(session: Session, row: object) -> None:
    assert isinstance(row, OrganizationTable)
    if row.__dict__.get("organization_id") is None:
        row.organization_id = session.info["organization_id"]


@pytest.mark.usefixtures("no_filter")
async def test_without_the_filter_sqlite_is_open_and_postgresql_is_not(platform: LocalPlatform, theirs: Theirs) -> None:
    found = await as_asker(platform)("get_payment", {"id": theirs.named["a receipt"]})
    assert found.is_error is platform.core.store.is_postgresql


@pytest.mark.postgresql
@pytest.mark.usefixtures("no_filter")
async def test_every_tool_answers_without_the_filter_as_for_nothing(platform: LocalPlatform, theirs: Theirs) -> None:
    before = await rows_of(platform.core, theirs.organization.organization_id)
    ask = as_asker(platform)
    for case in each_kind(theirs):
        await nothing_comes_of(platform, theirs, ask, case)
    assert await rows_of(platform.core, theirs.organization.organization_id) == before


@pytest.mark.postgresql
@pytest.mark.usefixtures("no_filter")
async def test_lists_and_totals_without_the_filter_hold_our_own_alone(platform: LocalPlatform, theirs: Theirs) -> None:
    made = await make_organization(platform.core, "nothing-yet")
    ask = as_asker(platform, made.organization_id)
    for tool in ("list_payments", "transaction_report", "check_balance"):
        said: CallToolResult = await ask(tool, await accepted(platform, tool))
        assert not said.is_error
        assert not marks_in(said.model_dump_json(), theirs)


@pytest.mark.postgresql
@pytest.mark.usefixtures("no_filter")
@pytest.mark.parametrize("table", [table.name for table in tables_of_organizations()])
async def test_no_row_of_theirs_is_read_changed_moved_deleted_or_added(
    platform: LocalPlatform, theirs: Theirs, table: str
) -> None:
    [mapped] = [each for each in OrganizationTable.__subclasses__() if each.__table__.name == table]  # type: ignore[attr-defined] # every table's class has it
    store, own_id = platform.core.store, platform.organization.organization_id
    their_id = theirs.organization.organization_id
    before = await rows_of(platform.core, their_id)
    assert before[table], "theirs has a row to be left alone"
    columns: Table = mapped.__table__  # type: ignore[attr-defined] # as above
    of_theirs = columns.c.organization_id == their_id
    async with store.reading(own_id) as session:
        assert await session.all(select(mapped).where(of_theirs)) == []
    async with store.session(their_id) as session:
        row = (await session.all(select(mapped)))[0]
    copied = {column.name: getattr(row, column.name) for column in columns.columns}
    for change in (
        columns.update().where(of_theirs).values(organization_id=own_id),
        columns.delete().where(of_theirs),
    ):
        assert await _done(platform, own_id, change) in {0, None}
    # A row of theirs under a new key, so that no other constraint speaks first.
    new: dict[str, Any] = {name: f"{uuid.uuid4().hex}" for name in ("id", "slug", "callback_id") if name in copied}
    assert await _done(platform, own_id, columns.insert().values(copied | new)) is None
    has_own = (await rows_of(platform.core, own_id))[table]
    moved = await _done(platform, own_id, columns.update().values(organization_id=their_id))
    assert moved is None if has_own else moved in {0, None}
    assert await rows_of(platform.core, their_id) == before


async def _done(platform: LocalPlatform, own_id: str, change: Any) -> int | None:
    """How many rows a change touched; None when the database refused it."""
    try:
        async with platform.core.store.session(own_id) as session:
            return await session.change(change)
    except StoreUnavailable as refused:
        said = str(refused.__cause__)
        assert "row-level security" in said or "permission denied" in said, said
        return None


@pytest.mark.postgresql
@pytest.mark.usefixtures("no_filter")
async def test_a_new_row_for_them_is_refused_by_the_database(platform: LocalPlatform, theirs: Theirs) -> None:
    with pytest.raises(StoreUnavailable) as refused:
        async with platform.core.store.session(platform.organization.organization_id) as session:
            session.add(Payment(**{**_any_payment(platform), "organization_id": theirs.organization.organization_id}))
    assert "row-level security" in str(refused.value.__cause__)


def _any_payment(platform: LocalPlatform) -> dict[str, Any]:
    now = platform.core.clock.now()
    return {
        "id": "pay_of_nobody",
        "kind": "b2c",
        "status": "queued",
        "environment": "simulator",
        "shortcode_id": "sc",
        "shortcode": "600998",
        "phone": "254700000001",
        "amount_cents": 1,
        "created_by": "x",
        "created_at": now,
        "updated_at": now,
    }
