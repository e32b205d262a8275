"""Frozen: nothing is paid out, the rest goes on. Suspended: nothing leaves. What waits goes on when that is lifted."""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import anyio
import pytest
from sqlmodel import select

from mpesa_mcp.app.core import open_core
from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.errors import MpesaMcpError
from mpesa_mcp.identity import standing
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.identity.users import add_user
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.dispatch import claim_queued, send_payment
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.models import Attempt, Payment
from mpesa_mcp.payments.requests import PaymentRequest
from mpesa_mcp.payments.standing import (
    OrganizationFrozen,
    OrganizationSuspended,
    activate,
    held_organization,
    lets_leave,
    unfreeze,
)
from mpesa_mcp.payments.states import PaymentKind
from mpesa_mcp.values import FrozenClock, Role

from .factories import (
    Shop,
    a_payout,
    a_push,
    a_reversal,
    a_row,
    open_shop,
    payout_result,
    send_due,
    stk_callback,
    store_rows,
)
from .fake_daraja import Call

pytestmark = pytest.mark.anyio
OPERATOR = Actor("operator:tester", None)


@pytest.fixture
async def shop(database: Mapping[str, Any], acme: str, clock: FrozenClock) -> AsyncIterator[Shop]:
    """One whose Daraja may be called at any pace."""
    async with open_shop(database, clock, organization_id=acme, daraja_calls_per_second=10_000) as opened:
        yield opened


async def opened(shop: Shop, request: PaymentRequest) -> str:
    return (await open_payment(shop.core, shop.principal, request)).payment.payment_id


async def freeze(shop: Shop) -> None:
    core, organization_id = shop.core, shop.principal.organization_id
    await standing.freeze(core.store, core.clock, organization_id=organization_id, actor=OPERATOR)


async def lift_freeze(shop: Shop) -> None:
    core, organization_id = shop.core, shop.principal.organization_id
    async with core.store.session(organization_id) as session:
        user = await add_user(
            session,
            core.clock,
            email="admin@example.com",
            role=Role.ORG_ADMIN,
            password_hash="-",
            actor=OPERATOR.name,
            seats=seats_of,
        )
    admin = Actor(f"user:{user.user_id}", user.role, user.user_id)
    await unfreeze(core, organization_id=organization_id, actor=OPERATOR)
    await unfreeze(core, organization_id=organization_id, actor=admin)


async def suspend(shop: Shop) -> None:
    core, organization_id = shop.core, shop.principal.organization_id
    await standing.suspend(core.store, core.clock, organization_id=organization_id, actor=OPERATOR)


async def rows(shop: Shop) -> list[Payment]:
    async with shop.core.store.reading(shop.principal.organization_id) as session:
        return list(await session.all(select(Payment)))


async def test_a_frozen_organization_collects_and_reads_and_pays_nothing_out(shop: Shop, clock: FrozenClock) -> None:
    received = a_row(shop.principal.organization_id, clock.now(), receipt="SKE0000AA9")
    await store_rows(shop, received)
    before = await opened(shop, a_payout())
    await send_due(shop.core)
    await freeze(shop)
    for request in (a_payout(key="payout-2"), a_reversal("SKE0000AA9")):
        with pytest.raises(OrganizationFrozen, match="org_admin"):
            await opened(shop, request)
    assert await opened(shop, a_payout()) == before, "what was asked before is read by asking again"
    push = await opened(shop, a_push())
    await send_due(shop.core)
    await shop.call_back(shop.daraja.of("stk_push")[0].body["CallBackURL"], stk_callback())
    await shop.call_back(shop.daraja.of("b2c")[0].body["ResultURL"], payout_result())
    assert [await shop.status(payment_id) for payment_id in (push, before)] == ["succeeded"] * 2
    assert {row.id for row in await rows(shop)} == {received.id, before, push}


async def test_a_suspended_organization_opens_nothing(shop: Shop) -> None:
    await suspend(shop)
    for request in (a_payout(), a_push()):
        with pytest.raises(OrganizationSuspended, match="activate"):
            await opened(shop, request)
    assert await rows(shop) == []


async def test_what_is_queued_waits_for_the_lifting_of_a_freeze_without_an_attempt(
    shop: Shop, clock: FrozenClock
) -> None:
    payouts = [await opened(shop, a_payout(key=f"payout-{number}")) for number in range(12)]
    push = await opened(shop, a_push())
    await freeze(shop)
    assert await send_due(shop.core) == 10
    assert await send_due(shop.core) == 1, "the first that learns of it speaks for all payouts; the push leaves"
    assert await shop.status(push) == "pending"
    clock.advance(timedelta(hours=2))
    while await send_due(shop.core):
        pass
    for payment_id in payouts:
        assert await shop.attempts(payment_id) == []
        assert await shop.events(payment_id) == [("allowed", "queued")]
    await lift_freeze(shop)
    while await send_due(shop.core):
        pass
    assert {await shop.status(payment_id) for payment_id in payouts} == {"pending"}
    assert len(shop.daraja.of("b2c")) == 12


async def test_what_waited_too_long_expires_in_time_and_is_never_sent(shop: Shop, clock: FrozenClock) -> None:
    payout, push = await opened(shop, a_payout()), await opened(shop, a_push())
    await suspend(shop)
    await send_due(shop.core)
    clock.advance(timedelta(minutes=2, seconds=1))
    await send_due(shop.core)
    assert (await shop.status(payout), await shop.status(push)) == ("queued", "expired")
    clock.advance(timedelta(hours=24))
    await send_due(shop.core)
    assert await shop.status(payout) == "expired"
    await activate(shop.core, organization_id=shop.principal.organization_id, actor=OPERATOR)
    await send_due(shop.core)
    assert shop.daraja.calls == []


async def test_an_activated_organization_goes_on_at_once(shop: Shop, clock: FrozenClock) -> None:
    payment_ids = [await opened(shop, a_push()), await opened(shop, a_payout())]
    await suspend(shop)
    assert await send_due(shop.core) == 2
    assert await send_due(shop.core) == 0
    clock.advance(timedelta(minutes=1))
    await activate(shop.core, organization_id=shop.principal.organization_id, actor=OPERATOR)
    assert await send_due(shop.core) == 2
    assert {await shop.status(payment_id) for payment_id in payment_ids} == {"pending"}


async def test_of_fifty_payouts_asked_and_sent_while_a_freeze_commits_none_leaves_after_it(shop: Shop) -> None:
    """Half are queued and being sent by two processes, half are being asked for, when somebody freezes."""
    queued = [await opened(shop, a_payout(key=f"queued-{number}")) for number in range(25)]
    refused: list[MpesaMcpError] = []
    sent_before: list[int] = []
    first_call = anyio.Event()

    async def tell(_call: Call) -> None:
        first_call.set()

    async def ask(number: int) -> None:
        try:
            queued.append(await opened(shop, a_payout(key=f"asked-{number}")))
        except OrganizationFrozen as frozen:
            refused.append(frozen)

    async def freeze_and_count() -> None:
        with anyio.fail_after(60):
            await first_call.wait()
        await freeze(shop)
        sent_before.append(await attempts(shop))

    shop.daraja.on_call = tell
    async with open_core(shop.core.settings, clock=shop.core.clock) as elsewhere:
        async with anyio.create_task_group() as group:
            for core in (shop.core, elsewhere):
                group.start_soon(send_side_by_side, core, 12)
            group.start_soon(freeze_and_count)
            for number in range(25):
                group.start_soon(ask, number)
        while await send_due(elsewhere):
            pass
    [before] = sent_before
    assert len(queued) + len(refused) == 50
    assert await attempts(shop) == before == len(shop.daraja.of("b2c"))
    waiting = [row for row in await rows(shop) if row.status == "queued"]
    assert len(waiting) == len(queued) - before > 0


async def test_a_freeze_waits_for_what_is_being_sent_and_comes_before_what_is_sent_later(shop: Shop) -> None:
    organization_id, order = shop.principal.organization_id, list[str]()
    somebody_was_served = anyio.Event()

    async def freeze_it() -> None:
        await freeze(shop)
        order.append("frozen")
        somebody_was_served.set()

    async def send_later() -> None:
        async with shop.core.store.session(organization_id) as session:
            order.append("sent" if lets_leave((await held_organization(session)).status, PaymentKind.B2C) else "kept")
        somebody_was_served.set()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group, shop.core.store.session(organization_id) as session:
            assert lets_leave((await held_organization(session)).status, PaymentKind.B2C)
            for who in (freeze_it, send_later):
                group.start_soon(who)
                with anyio.move_on_after(0.2):
                    await somebody_was_served.wait()
            assert order == []
    # Kept, since it saw the freeze; which of the two is told first of its own commit is all the same.
    assert {*order} == {"frozen", "kept"}


async def send_side_by_side(core: Core, limit: int) -> None:
    async with anyio.create_task_group() as group:
        for claim in await claim_queued(core, limit):
            group.start_soon(send_payment, core, claim)


async def attempts(shop: Shop) -> int:
    async with shop.core.store.reading(shop.principal.organization_id) as session:
        return len(await session.all(select(Attempt.id)))
