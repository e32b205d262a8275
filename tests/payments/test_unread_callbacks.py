"""A send that was taken for not sent was called back about, and nobody has read that yet: the next must wait."""

from datetime import timedelta

import pytest

from mpesa_mcp.callbacks.inbox import claim_stored
from mpesa_mcp.daraja.bodies import MAX_CODE
from mpesa_mcp.payments.desk import NotWithdrawable, StillAsked, payments_to_review, resolve_payment, withdraw_payment
from mpesa_mcp.payments.dispatch import claim_queued, send_payment
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.reading import payment_of
from mpesa_mcp.payments.schedule import NOT_SENT_TRIES, SEND_LEASE
from mpesa_mcp.values import FrozenClock

from .factories import Shop, a_payout, a_push, apply_due, ask_due, payout_result, send_due, stk_callback
from .fake_daraja import Call

pytestmark = pytest.mark.anyio


async def test_nothing_is_sent_again_past_a_callback_that_is_not_read_yet(shop: Shop, clock: FrozenClock) -> None:
    """Answered 429 and carried out all the same; whoever took its callback died with it."""
    payment_id = (await open_payment(shop.core, shop.principal, a_push())).payment.payment_id
    shop.daraja.order_spike_arrest("stk_push")
    await send_due(shop.core)
    [push] = shop.daraja.of("stk_push")
    await shop.post(push.body["CallBackURL"], stk_callback())
    assert len(await claim_stored(shop.core, 5)) == 1
    for _ in range(3):
        clock.advance(timedelta(seconds=2))
        assert await send_due(shop.core) == 1
        row = await shop.row(payment_id)
        assert (row.status, row.not_sent_count, row.lease_until) == ("queued", 1, None)
        assert row.next_action_at == clock.now() + timedelta(seconds=1)
    assert (len(shop.daraja.of("stk_push")), len(await shop.attempts(payment_id))) == (1, 1)
    clock.advance(timedelta(seconds=30))
    await apply_due(shop.core)
    assert await send_due(shop.core) == 0
    assert await shop.status(payment_id) == "unknown"
    assert len(shop.daraja.of("stk_push")) == 1


async def test_a_callback_about_another_payment_keeps_nobody_waiting(shop: Shop, clock: FrozenClock) -> None:
    first = (await open_payment(shop.core, shop.principal, a_payout(key="payout-1"))).payment.payment_id
    await send_due(shop.core)
    await shop.post(shop.daraja.of("b2c")[0].body["ResultURL"], payout_result())
    second = (await open_payment(shop.core, shop.principal, a_payout(key="payout-2"))).payment.payment_id
    shop.daraja.order_spike_arrest("b2c")
    await send_due(shop.core)
    clock.advance(timedelta(seconds=2))
    await send_due(shop.core)
    assert (await shop.status(first), await shop.status(second)) == ("pending", "pending")


async def test_who_lost_the_payment_does_not_put_it_back(shop: Shop, clock: FrozenClock) -> None:
    payment_id = (await open_payment(shop.core, shop.principal, a_payout())).payment.payment_id
    shop.daraja.order_spike_arrest("b2c")
    await send_due(shop.core)
    await shop.post(shop.daraja.of("b2c")[0].body["ResultURL"], payout_result())
    clock.advance(timedelta(seconds=2))
    [slow] = await claim_queued(shop.core, 1)
    clock.advance(SEND_LEASE)
    [_quick] = await claim_queued(shop.core, 1)
    before = await shop.row(payment_id)
    await send_payment(shop.core, slow)
    assert await shop.row(payment_id) == before
    assert len(shop.daraja.of("b2c")) == 1


async def test_what_is_too_old_is_not_given_up_past_a_callback_that_is_not_read_yet(
    shop: Shop, clock: FrozenClock
) -> None:
    """Expired would say that it may be asked for again: this one was carried out."""
    payment_id = (await open_payment(shop.core, shop.principal, a_push())).payment.payment_id
    shop.daraja.order_spike_arrest("stk_push")
    await send_due(shop.core)
    await shop.post(shop.daraja.of("stk_push")[0].body["CallBackURL"], stk_callback())
    clock.advance(timedelta(minutes=3))
    assert await send_due(shop.core) == 1
    assert await shop.status(payment_id) == "queued"
    await apply_due(shop.core)
    assert await shop.status(payment_id) == "unknown"


async def test_what_is_called_back_about_is_not_withdrawn(shop: Shop) -> None:
    payment_id = (await open_payment(shop.core, shop.principal, a_push())).payment.payment_id
    shop.daraja.order_spike_arrest("stk_push")
    await send_due(shop.core)
    await shop.post(shop.daraja.of("stk_push")[0].body["CallBackURL"], stk_callback())
    with pytest.raises(NotWithdrawable):
        await withdraw_payment(
            shop.core, shop.principal.organization_id, payment_id, reason="Ordered twice", actor="operator:tester"
        )
    assert await shop.status(payment_id) == "queued"


async def test_a_success_reported_after_it_expired_makes_a_dispute(shop: Shop, clock: FrozenClock) -> None:
    opened = await open_payment(shop.core, shop.principal, a_push(key=None))
    payment_id = opened.payment.payment_id
    shop.daraja.order_spike_arrest("stk_push")
    await send_due(shop.core)
    clock.advance(timedelta(minutes=3))
    await send_due(shop.core)
    assert await shop.status(payment_id) == "expired"
    await shop.call_back(shop.daraja.of("stk_push")[0].body["CallBackURL"], stk_callback())
    assert await shop.status(payment_id) == "disputed"
    [item] = await payments_to_review(shop.core, shop.principal.organization_id)
    assert item.payment.payment_id == payment_id
    record = await payment_of(shop.core, shop.principal.organization_id, payment_id)
    assert not record.status.nothing_moved


async def test_the_last_try_does_not_fail_past_a_callback_that_is_not_read_yet(shop: Shop, clock: FrozenClock) -> None:
    payment_id = (await open_payment(shop.core, shop.principal, a_payout())).payment.payment_id
    shop.daraja.order_spike_arrest("b2c", times=NOT_SENT_TRIES)

    async def call_back_last(call: Call) -> None:
        if len(shop.daraja.of("b2c")) == NOT_SENT_TRIES:
            await shop.post(call.body["ResultURL"], payout_result())

    shop.daraja.on_call = call_back_last
    while await shop.status(payment_id) == "queued":
        await send_due(shop.core)
        clock.advance(timedelta(seconds=20))
    row = await shop.row(payment_id)
    assert (len(shop.daraja.of("b2c")), row.status) == (NOT_SENT_TRIES, "unknown")
    assert row.next_action_at is not None


async def test_a_person_does_not_call_failed_what_is_called_back_about(shop: Shop, clock: FrozenClock) -> None:
    payment_id = (await open_payment(shop.core, shop.principal, a_push())).payment.payment_id
    shop.daraja.order_server_error("stk_push")
    await send_due(shop.core)
    while (at := (await shop.row(payment_id)).next_action_at) is not None:
        clock.at = at
        await ask_due(shop.core)
    await shop.post(shop.daraja.of("stk_push")[0].body["CallBackURL"], stk_callback())
    with pytest.raises(StillAsked):
        await resolve_payment(
            shop.core,
            shop.principal.organization_id,
            payment_id,
            succeeded=False,
            reason="Nothing came",
            receipt=None,
            actor="operator:tester",
        )


async def test_the_longest_code_daraja_may_send_is_kept(shop: Shop, clock: FrozenClock) -> None:
    longest = "messaging.adaptors.http.flow.GatewayTimeout".ljust(MAX_CODE, "x")
    payment_id = (await open_payment(shop.core, shop.principal, a_payout())).payment.payment_id
    fault = {"faultstring": "Gateway Timeout", "detail": {"errorcode": longest}}
    shop.daraja.order("b2c", 504, {"fault": fault})
    await send_due(shop.core)
    assert await shop.status(payment_id) == "unknown"
    [attempt] = await shop.attempts(payment_id)
    assert attempt.reply == "unknown"
    assert attempt.reply_code == (await shop.row(payment_id)).result_code == longest
