"""The statements that look across organizations: a short list, giving organizations and ids only."""

import ast
import inspect
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from sqlalchemy import update

import mpesa_mcp
from mpesa_mcp.callbacks.models import Callback, CallbackStatus
from mpesa_mcp.payments.batches.models import Batch
from mpesa_mcp.payments.models import Inquiry, Payment
from mpesa_mcp.settings import Settings
from mpesa_mcp.store import callback_log, crossings
from mpesa_mcp.store.crossings import (
    Claim,
    DueTable,
    claim_due,
    find_key,
    find_organization,
    list_organizations,
    next_due,
)
from mpesa_mcp.store.engine import Store, open_store
from mpesa_mcp.store.roles import crossing_functions
from mpesa_mcp.values import FrozenClock, new_id

from .factories import OURS, THEIRS, as_owner, make_ours_and_theirs

pytestmark = pytest.mark.anyio

SOURCE = Path(mpesa_mcp.__file__).parent
LEASE = timedelta(seconds=60)


def a_payment(clock: FrozenClock, payment_id: str, *, due_in: int | None = 0, status: str = "queued") -> Payment:
    return Payment(  # type: ignore[call-arg] # the session gives it its organization
        id=payment_id,
        kind="b2c",
        status=status,
        environment="simulator",
        shortcode_id="sc_1",
        shortcode="174379",
        phone="254700000020",
        amount_cents=100_00,
        reference="INV-1",
        created_by="key:key_1",
        created_at=clock.now(),
        updated_at=clock.now(),
        next_action_at=None if due_in is None else clock.now() + timedelta(seconds=due_in),
    )


async def queue(store: Store, clock: FrozenClock, *payment_ids: str, organization_id: str = OURS) -> None:
    async with store.session(organization_id) as session:
        session.add(*(a_payment(clock, payment_id) for payment_id in payment_ids))


async def claim(
    store: Store, clock: FrozenClock, *, limit: int = 10, statuses: Sequence[str] = ("queued",)
) -> list[Claim]:
    now = clock.now()
    return list(await claim_due(store, DueTable.PAYMENTS, statuses=statuses, now=now, lease=LEASE, limit=limit))


def test_the_list_of_crossings_is_short_and_this() -> None:
    public = {
        name
        for module in (crossings, callback_log)
        for name, thing in vars(module).items()
        if inspect.isfunction(thing) and thing.__module__ == module.__name__ and not name.startswith("_")
    }
    assert public == {
        "find_organization",
        "list_organizations",
        "find_key",
        "find_user",
        "find_refresh_token",
        "find_invitation",
        "claim_due",
        "next_due",
        "unsealed_organizations",
        "usage_totals",
        "find_callback_tokens",
        "store_callbacks",
    }


def test_both_databases_keep_as_many_callbacks_and_throw_the_same_away_first() -> None:
    on_postgresql = crossing_functions()["store_callbacks"]
    assert re.search(r"most CONSTANT integer := (\d+);", on_postgresql)[1] == str(callback_log.MAX_CALLBACKS)  # type: ignore[index] # it has one
    ranks = [re.findall(r"WHEN '(\w+)' THEN (\d)", statement) for statement in (on_postgresql, callback_log._MAKE_ROOM)]
    assert ranks[0] == ranks[1] != []
    # What is not named here goes last, and what nobody has looked at never.
    assert {status for status, _ in ranks[0]} | {"stored"} == {*CallbackStatus}


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        (
            {"unbound", "unbound_reading", "in_one_visit"},
            {"store/engine.py", "store/crossings.py", "store/callback_log.py"},
        ),
        ({"_session"}, {"store/tenancy.py"}),
        ({"_writer", "_reader"}, {"store/engine.py"}),
    ],
    ids=["unbound sessions", "the session underneath", "the engines"],
)
def test_what_passes_by_the_organization_is_used_in_the_store_alone(names: set[str], allowed: set[str]) -> None:
    using = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in names
    }
    assert using <= allowed
    assert using, "the names have changed"


async def test_an_organization_is_found_by_its_slug(store: Store, clock: FrozenClock) -> None:
    await make_ours_and_theirs(store, clock)
    assert await find_organization(store, "theirs") == THEIRS
    assert await find_organization(store, "nobodys") is None
    assert sorted(await list_organizations(store)) == [OURS, THEIRS]


async def test_organizations_are_listed_oldest_first(store: Store, clock: FrozenClock) -> None:
    from .factories import an_organization

    made = [new_id("org") for _ in range(3)]
    for organization_id in reversed(made):
        async with store.session(organization_id) as session:
            session.add(an_organization(clock, organization_id))
    oldest_first = sorted(made)
    assert list(await list_organizations(store)) == oldest_first
    assert list(await list_organizations(store, limit=2)) == oldest_first[:2]
    assert list(await list_organizations(store, after=oldest_first[0], limit=5)) == oldest_first[1:]


async def test_a_key_is_found_by_its_hash(store: Store, clock: FrozenClock) -> None:
    await make_ours_and_theirs(store, clock)
    assert await find_key(store, "hash of theirs None") == (THEIRS, "key_theirs")
    assert await find_key(store, "hash of nobody") is None


async def test_due_rows_of_all_organizations_are_claimed_oldest_first(store: Store, clock: FrozenClock) -> None:
    await queue(store, clock, "pay_2")
    clock.advance(timedelta(seconds=-5))
    await queue(store, clock, "pay_1", organization_id=THEIRS)
    clock.advance(timedelta(seconds=5))
    assert await claim(store, clock, limit=1) == [Claim(THEIRS, "pay_1", 1)]
    assert await claim(store, clock, limit=1) == [Claim(OURS, "pay_2", 1)]
    assert await claim(store, clock, limit=1) == []


async def test_a_row_is_not_claimed_before_it_is_due(store: Store, clock: FrozenClock) -> None:
    async with store.session(OURS) as session:
        session.add(a_payment(clock, "pay_later", due_in=30), a_payment(clock, "pay_never", due_in=None))
    clock.advance(timedelta(seconds=29))
    assert await claim(store, clock) == []
    clock.advance(timedelta(seconds=1))
    assert await claim(store, clock) == [Claim(OURS, "pay_later", 1)]


async def test_only_the_statuses_asked_for_are_claimed(store: Store, clock: FrozenClock) -> None:
    async with store.session(OURS) as session:
        session.add(a_payment(clock, "pay_q"), a_payment(clock, "pay_s", status="succeeded"))
    assert [one.id for one in await claim(store, clock, statuses=("queued", "sending"))] == ["pay_q"]


async def test_no_more_than_the_limit_is_claimed(store: Store, clock: FrozenClock) -> None:
    await queue(store, clock, *(f"pay_{n}" for n in range(5)))
    assert len(await claim(store, clock, limit=3)) == 3
    assert len(await claim(store, clock, limit=3)) == 2


@pytest.mark.postgresql
@pytest.mark.own_database
async def test_no_more_than_the_limit_is_claimed_in_whatever_way_postgresql_joins(
    store: Store, settings: Settings, clock: FrozenClock
) -> None:
    """Of a table whose rows were gone when it was last analysed, a join may look for what is due anew for each row."""
    await queue(store, clock, "pay_gone")
    await as_owner(settings, "DELETE FROM payments")
    await as_owner(settings, "ANALYZE payments")
    await queue(store, clock, *(f"pay_{n}" for n in range(9)))
    assert len(await claim(store, clock, limit=3)) == 3


async def test_a_lease_keeps_others_away_until_it_ends_and_the_fence_grows(store: Store, clock: FrozenClock) -> None:
    await queue(store, clock, "pay_1")
    assert await claim(store, clock) == [Claim(OURS, "pay_1", 1)]
    clock.advance(LEASE - timedelta(microseconds=1))
    assert await claim(store, clock) == []
    clock.advance(timedelta(microseconds=1))
    assert await claim(store, clock) == [Claim(OURS, "pay_1", 2)]


async def test_a_worker_past_its_lease_finds_another_fence(store: Store, clock: FrozenClock) -> None:
    await queue(store, clock, "pay_1")
    [slow] = await claim(store, clock)
    clock.advance(LEASE)
    [quick] = await claim(store, clock)
    for holder, changed in ((slow, 0), (quick, 1)):
        async with store.session(OURS) as session:
            conclude = update(Payment).where(Payment.fence == holder.fence).values(status="sending")  # type: ignore[arg-type] # a column
            assert await session.change(conclude) == changed


async def test_two_claimers_never_get_the_same_row(store: Store, clock: FrozenClock, settings: Settings) -> None:
    await queue(store, clock, *(f"pay_{n:02}" for n in range(30)))
    stores = [store, open_store(settings.effective_database_url), open_store(settings.effective_database_url)]
    taken: list[Claim] = []

    async def work(mine: Store) -> None:
        while found := await claim(mine, clock, limit=2):
            taken.extend(found)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for one in stores:
                tasks.start_soon(work, one)
    for one in stores[1:]:
        await one.close()
    assert sorted(one.id for one in taken) == [f"pay_{n:02}" for n in range(30)]
    assert {one.fence for one in taken} == {1}


@pytest.mark.parametrize(("due", "model"), list(zip(DueTable, (Payment, Inquiry, Callback, Batch), strict=True)))
async def test_every_queue_is_a_table_with_the_columns_of_one(
    store: Store, due: DueTable, model: type, clock: FrozenClock
) -> None:
    assert model.__tablename__ == due.value  # type: ignore[attr-defined] # a table
    assert {"status", "next_action_at", "lease_until", "fence"} <= set(model.model_fields)  # type: ignore[attr-defined] # a model
    assert await claim_due(store, due, statuses=["queued"], now=clock.now(), lease=LEASE, limit=1) == []


async def test_the_next_due_moment_is_the_earliest_that_is_still_to_come(store: Store, clock: FrozenClock) -> None:
    assert await next_due(store, DueTable.PAYMENTS, after=clock.now()) is None
    async with store.session(OURS) as session:
        session.add(a_payment(clock, "pay_now"), a_payment(clock, "pay_soon", due_in=30))
    async with store.session(THEIRS) as session:
        session.add(a_payment(clock, "pay_sooner", due_in=20))
    assert await next_due(store, DueTable.PAYMENTS, after=clock.now()) == clock.now() + timedelta(seconds=20)
