"""While calls of an app are paused payments wait: no attempt, no try used up, the same place. Nothing fails of it."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest
from sqlalchemy import update
from sqlmodel import col, select

from mpesa_mcp.app.core import open_core
from mpesa_mcp.credentials.shortcodes import open_shortcode
from mpesa_mcp.daraja.client import Held, NotAsked, Turn
from mpesa_mcp.daraja.operations import StkQuery
from mpesa_mcp.daraja.trouble import Reason, Trouble
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.dispatch import claim_queued, send_payment
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.requests import PaymentRequest
from mpesa_mcp.payments.schedule import SEND_LEASE
from mpesa_mcp.values import FrozenClock, Secret

from .factories import Shop, a_payout, a_push, apply_due, open_shop, payout_result, send_due, stk_callback
from .fake_daraja import Call

pytestmark = pytest.mark.anyio


async def opened(shop: Shop, request: PaymentRequest) -> str:
    return (await open_payment(shop.core, shop.principal, request)).payment.payment_id


async def payouts(shop: Shop, count: int) -> list[str]:
    return [await opened(shop, a_payout(key=f"payout-{number}", shillings=100 + number)) for number in range(count)]


def amounts(shop: Shop) -> list[int]:
    return [int(call.body["Amount"]) - 100 for call in shop.daraja.of("b2c")]


async def rows(shop: Shop) -> list[Payment]:
    async with shop.core.store.reading(shop.principal.organization_id) as session:
        return list(await session.all(select(Payment).order_by(col(Payment.id))))


async def next_moment(shop: Shop) -> datetime | None:
    """When the next queued payment is due."""
    due = [row.next_action_at for row in await rows(shop) if row.status == "queued" and row.next_action_at]
    return min(due, default=None)


async def to_next_moment(shop: Shop, clock: FrozenClock) -> None:
    if due_at := await next_moment(shop):
        clock.advance(max(due_at - clock.now(), timedelta(0)))


async def a_round(core: Core, limit: int = 32) -> None:
    """What a worker does: takes what is due and sends it side by side."""
    async with anyio.create_task_group() as tasks:
        for claim in await claim_queued(core, limit):
            tasks.start_soon(send_payment, core, claim)


async def test_one_spike_arrest_pauses_the_others_without_an_attempt_or_a_try(shop: Shop, clock: FrozenClock) -> None:
    first, *others = await payouts(shop, 5)
    shop.daraja.order_spike_arrest("b2c")
    await send_due(shop.core)
    assert amounts(shop) == [0]
    refused, *waiting = await rows(shop)
    assert (refused.id, refused.status, refused.not_sent_count) == (first, "queued", 1)
    for row in waiting:
        assert (row.status, row.not_sent_count, row.lease_until) == ("queued", 0, None)
        assert await shop.attempts(row.id) == []
        assert row.next_action_at is not None
        assert timedelta(seconds=0.9) <= row.next_action_at - clock.now() <= timedelta(seconds=1.1)
    assert await send_due(shop.core) == 0, "nobody looks at them again before that"
    assert await shop.events(others[0]) == [("allowed", "queued")]


async def test_who_was_refused_lets_others_probe(shop: Shop, clock: FrozenClock) -> None:
    await payouts(shop, 4)
    shop.daraja.order_spike_arrest("b2c", times=3)
    for _ in range(4):
        await send_due(shop.core)
        await to_next_moment(shop, clock)
    for _ in range(30):
        clock.advance(timedelta(seconds=1))
        await send_due(shop.core)
    assert sorted(amounts(shop)[:4]) == [0, 1, 2, 3], "each probe is another payment"
    assert sorted(amounts(shop)[4:]) == sorted(amounts(shop)[:3])
    assert {(row.status, row.not_sent_count) for row in await rows(shop)} == {("pending", 0), ("pending", 1)}


async def test_a_whole_queue_is_put_back_by_the_first_that_learns_of_the_pause(shop: Shop, clock: FrozenClock) -> None:
    shop.daraja.order_spike_arrest("b2c")
    await opened(shop, a_payout(key="refused"))
    await send_due(shop.core)
    await payouts(shop, 40)
    assert await send_due(shop.core) == 10
    assert await send_due(shop.core) == 0
    assert {row.not_sent_count for row in (await rows(shop))[1:]} == {0}


async def test_a_payment_alone_in_the_queue_outlasts_a_bad_minute(shop: Shop, clock: FrozenClock) -> None:
    payment_id = await opened(shop, a_push())
    ends = clock.now() + timedelta(seconds=60)

    async def limit(call: Call) -> None:
        if clock.now() < ends:
            shop.daraja.order_spike_arrest(call.operation)

    shop.daraja.on_call = limit
    for _ in range(110):
        await send_due(shop.core)
        clock.advance(timedelta(seconds=1))
    assert await shop.status(payment_id) == "pending"


async def test_a_push_that_waits_too_long_expires_in_time(shop: Shop, clock: FrozenClock) -> None:
    push = await opened(shop, a_push())
    row, core = await shop.row(push), shop.core
    shortcode = await open_shortcode(core.store, core.keyring, core.settings, row.organization_id, row.shortcode_id)
    async with core.daraja.turn(shortcode.app) as turn:
        assert isinstance(turn, Turn)
        turn.called, turn.trouble = True, Trouble(Reason.RATE_LIMITED, proven_unsent=True, retry_after_seconds=300)
    await send_due(core)
    row = await shop.row(push)
    assert (row.status, row.next_action_at) == ("queued", row.created_at + timedelta(minutes=2, seconds=1))
    clock.advance(timedelta(minutes=2, seconds=1))
    await send_due(core)
    assert await shop.status(push) == "expired"
    assert shop.daraja.calls == []
    assert await shop.attempts(push) == []


async def test_who_lost_its_lease_puts_nothing_back(shop: Shop, clock: FrozenClock) -> None:
    payment_id = await opened(shop, a_payout())
    [stale] = await claim_queued(shop.core, 1)
    clock.advance(SEND_LEASE)
    await claim_queued(shop.core, 1)
    held = await shop.row(payment_id)
    await pause(shop)
    await send_payment(shop.core, stale)
    row = await shop.row(payment_id)
    assert (row.lease_until, row.next_action_at) == (held.lease_until, held.next_action_at)


async def pause(shop: Shop) -> None:
    """Another payment of the same app is turned away."""
    shop.daraja.order_spike_arrest("stk_push")
    refused = await opened(shop, a_push(reference="PAUSE"))
    for claim in await claim_queued(shop.core, 10):
        await send_payment(shop.core, claim)
    async with shop.core.store.session(shop.principal.organization_id) as session:
        await session.change(update(Payment).where(col(Payment.id) == refused).values(next_action_at=None))


async def test_a_pause_does_not_concern_what_has_left(shop: Shop, clock: FrozenClock) -> None:
    payment_id = await opened(shop, a_push())
    await send_due(shop.core)
    await pause(shop)
    assert await shop.status(payment_id) == "pending"
    await shop.call_back(shop.daraja.of("stk_push")[0].body["CallBackURL"], stk_callback())
    assert await shop.status(payment_id) == "succeeded"


async def test_a_question_is_not_asked_while_the_app_is_paused(shop: Shop, clock: FrozenClock) -> None:
    await opened(shop, a_push())
    await send_due(shop.core)
    await pause(shop)
    row = (await rows(shop))[0]
    core = shop.core
    shortcode = await open_shortcode(core.store, core.keyring, core.settings, row.organization_id, row.shortcode_id)
    answer = await core.daraja.stk_query(
        shortcode.app, StkQuery(shortcode="174379", passkey=Secret("p"), checkout_request_id="ws_CO_1_700000001")
    )
    assert isinstance(answer, NotAsked)
    assert answer.until > clock.now()
    async with core.daraja.turn(shortcode.app) as turn:
        assert isinstance(turn, Held)
    assert shop.daraja.of("stk_query") == []


async def test_server_errors_in_a_row_stop_the_queue_before_all_of_it_is_unknown(
    shop: Shop, clock: FrozenClock
) -> None:
    await payouts(shop, 20)
    for _ in range(20):
        shop.daraja.order_server_error("b2c")
    for _ in range(3):
        await send_due(shop.core)
    statuses = sorted(row.status for row in await rows(shop))
    assert statuses == ["queued"] * 15 + ["unknown"] * 5
    assert {row.not_sent_count for row in await rows(shop)} == {0}


async def test_two_processes_share_one_pause_and_one_probe(database: Mapping[str, Any], clock: FrozenClock) -> None:
    async with open_shop(database, clock) as shop, open_core(shop.core.settings, clock=clock) as elsewhere:
        await payouts(shop, 12)
        shop.daraja.order_spike_arrest("b2c", times=2)
        await send_due(shop.core)
        assert len(amounts(shop)) == 1
        await to_next_moment(shop, clock)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(a_round, elsewhere, 6)
            tasks.start_soon(a_round, shop.core, 6)
        assert len(amounts(shop)) == 2, "one probe of all processes, refused"
        assert sorted(row.not_sent_count for row in await rows(shop)) == [0] * 10 + [1] * 2


async def test_a_storm_of_forty_payouts_is_slowed_down_and_none_fails(
    database: Mapping[str, Any], clock: FrozenClock
) -> None:
    """Every fourth call of the first thirty-six is turned away, in two processes that send side by side."""
    turned_away: list[int] = []

    async def storm(call: Call) -> None:
        number = len(shop.daraja.of("b2c"))
        if number < 36 and number % 4 == 0:
            turned_away.append(number)
            shop.daraja.order_spike_arrest("b2c")

    async with (
        open_shop(database, clock, daraja_calls_per_second=10_000) as shop,
        open_core(shop.core.settings, clock=clock) as elsewhere,
    ):
        shop.daraja.on_call = storm
        await payouts(shop, 40)
        with anyio.fail_after(60):
            while {row.status for row in await rows(shop)} & {"queued", "sending"}:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(a_round, shop.core, 16)
                    tasks.start_soon(a_round, elsewhere, 16)
                await to_next_moment(shop, clock)
        assert len(turned_away) == 8
        accepted = [number for number in range(1, len(shop.daraja.of("b2c")) + 1) if number not in turned_away]
        for number in accepted:
            body = shop.daraja.of("b2c")[number - 1].body
            amount, receipt = int(body["Amount"]), f"SKE{number:07d}"
            await shop.post(body["ResultURL"], payout_result(number, amount=amount, receipt=receipt))
        while await apply_due(shop.core):
            pass
        assert [row.status for row in await rows(shop)] == ["succeeded"] * 40
        assert len(accepted) == 40
