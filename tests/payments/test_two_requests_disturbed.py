"""One payment, two requests, and what must not hide the second: questions without end, a person, or a forger.

The forger knows the address that the first request named, and nothing else.
"""

from datetime import timedelta

import pytest
from sqlalchemy import update

from mpesa_mcp.identity.models import Organization
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.values import FrozenClock

from .factories import (
    Shop,
    a_payout,
    a_push,
    apply_due,
    ask_due,
    payout_result,
    send_due,
    send_due_inquiries,
    stk_callback,
)
from .test_two_requests import (
    BUSY,
    C1,
    C2,
    NO_ANSWER,
    R1,
    R2,
    TOKEN_REFUSED,
    answer_inquiry,
    answer_query,
    bare,
    pushed,
    received,
    resolve,
    reversal_result,
    sent_twice,
)

pytestmark = pytest.mark.anyio


async def forge_failures(shop: Shop, url: str, numbers: range) -> None:
    for number in numbers:
        await shop.call_back(url, stk_callback(number, code=1032))


async def look_often(shop: Shop, clock: FrozenClock) -> None:
    for _ in range(20):
        clock.advance(timedelta(minutes=1))
        await ask_due(shop.core)
        await apply_due(shop.core)


async def test_a_reversal_whose_first_send_was_heard_of_is_asked_about_by_the_schedule_alone(
    shop: Shop, clock: FrozenClock
) -> None:
    payment_id, first, _ = await sent_twice(shop, clock, await received(shop))
    await shop.call_back(first, reversal_result(9, R1))
    for _ in range(40):
        clock.advance(timedelta(hours=1))
        await ask_due(shop.core)
        await send_due_inquiries(shop.core)
        await answer_inquiry(shop, conversation="AG_reversal_2", TransactionStatus="Pending")
    assert await shop.status(payment_id) == "unknown"
    assert (await shop.row(payment_id)).next_action_at is None
    assert len(shop.daraja.of("transaction_status")) <= 7


async def test_two_results_of_a_payout_are_a_dispute_when_the_answer_names_the_first(
    shop: Shop, clock: FrozenClock
) -> None:
    async with shop.core.store.session(shop.principal.organization_id) as session:
        await session.change(update(Organization).values(confirm_payouts_from_cents=0))
    payment_id, first, second = await sent_twice(shop, clock, a_payout())
    await shop.call_back(first, payout_result(9, receipt=R1))
    await shop.call_back(second, payout_result(2, receipt=R2))
    assert await shop.status(payment_id) == "pending"
    told = {"receipt": R1, "ReceiptNo": R1, "TransactionStatus": "Completed"}
    await answer_inquiry(shop, conversation="AG_b2c_9", **told)
    assert await shop.status(payment_id) == "disputed"


@pytest.mark.parametrize("second_answer", [NO_ANSWER, BUSY], ids=["not answered", "busy"])
async def test_after_a_person_called_the_first_the_payment_the_seconds_success_is_a_dispute(
    shop: Shop, clock: FrozenClock, second_answer: tuple[int, object]
) -> None:
    payment_id, first, second = await sent_twice(shop, clock, a_push(), second=second_answer)
    await shop.call_back(first, stk_callback(9, receipt=R1))
    clock.advance(timedelta(minutes=1))
    assert await resolve(shop, payment_id, succeeded=True) == "succeeded"
    await shop.call_back(second, stk_callback(2, receipt=R2))
    assert await shop.status(payment_id) == "disputed"


async def test_when_a_reversal_turns_out_to_have_failed_what_it_gave_back_is_a_dispute(
    shop: Shop, clock: FrozenClock
) -> None:
    reversal_id, first, second = await sent_twice(shop, clock, await received(shop))
    await shop.call_back(second, reversal_result(2, R2))
    original_id = (await shop.row(reversal_id)).reverses_payment_id or ""
    assert await shop.status(original_id) == "reversed"
    await shop.call_back(first, reversal_result(9, R1))
    clock.advance(timedelta(minutes=1))
    assert await resolve(shop, reversal_id, succeeded=False) == "failed"
    assert await shop.status(original_id) == "disputed"
    assert await resolve(shop, original_id, succeeded=True) == "succeeded"


async def test_forged_failures_do_not_hide_the_firsts_success_from_a_payment_that_has_settled(
    shop: Shop, clock: FrozenClock
) -> None:
    payment_id, first, _ = await pushed(shop, clock)
    await forge_failures(shop, first, range(50, 53))
    answer_query(shop, C2, "0")
    await ask_due(shop.core)
    assert await shop.status(payment_id) == "succeeded"
    await shop.call_back(first, stk_callback(9, receipt=R1))
    assert await shop.status(payment_id) == "disputed"


@pytest.mark.parametrize("second_says", [stk_callback(2, receipt=R2), stk_callback(2, code=1032)])
async def test_forged_failures_do_not_push_out_the_firsts_success_that_our_question_confirmed(
    shop: Shop, clock: FrozenClock, second_says: dict[str, object]
) -> None:
    payment_id, first, second = await pushed(shop, clock)
    await shop.call_back(first, stk_callback(9, receipt=R1))
    clock.advance(timedelta(minutes=4))
    answer_query(shop, C2, "4999")
    answer_query(shop, C1, "0")
    await ask_due(shop.core)
    clock.advance(timedelta(seconds=5))
    await forge_failures(shop, first, range(50, 53))
    await shop.call_back(second, second_says)
    assert await shop.status(payment_id) == "disputed"


async def test_a_flood_of_forged_failures_does_not_delete_the_firsts_success(shop: Shop, clock: FrozenClock) -> None:
    payment_id, first, second = await pushed(shop, clock)
    await forge_failures(shop, first, range(50, 72))
    clock.advance(timedelta(seconds=1))
    await shop.call_back(first, stk_callback(9, receipt=R1))
    await forge_failures(shop, first, range(72, 75))
    await shop.call_back(second, stk_callback(2, receipt=R2))
    await look_often(shop, clock)
    assert await shop.status(payment_id) == "disputed"


async def test_a_forged_success_that_says_nothing_does_not_pass_for_the_firsts(shop: Shop, clock: FrozenClock) -> None:
    payment_id, first, second = await pushed(shop, clock)
    forged = bare(9)
    del forged["Body"]["stkCallback"]["MerchantRequestID"]
    del forged["Body"]["stkCallback"]["CheckoutRequestID"]
    await shop.call_back(first, forged)
    await shop.call_back(second, stk_callback(2, receipt=R2))
    await shop.call_back(first, bare(9))
    assert await shop.status(payment_id) == "disputed"


async def test_a_receipt_is_not_believed_of_the_address_of_another_send(shop: Shop, clock: FrozenClock) -> None:
    payment_id, first, _ = await pushed(shop, clock)
    await shop.call_back(first, stk_callback(2, receipt="FORGED0001"))
    clock.advance(timedelta(seconds=20))
    answer_query(shop, C2, "0")
    await ask_due(shop.core)
    row = await shop.row(payment_id)
    assert (row.status, row.receipt) == ("succeeded", None)


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}"])
@pytest.mark.parametrize("path", ["", "/timeout"])
async def test_anything_at_the_address_of_the_first_keeps_the_second_from_going_out(
    shop: Shop, clock: FrozenClock, body: bytes, path: str
) -> None:
    await open_payment(shop.core, shop.principal, a_push())
    shop.daraja.order("stk_push", 404, TOKEN_REFUSED)
    await send_due(shop.core)
    await shop.post(shop.daraja.of("stk_push")[-1].body["CallBackURL"] + path, body)
    await send_due(shop.core)
    await apply_due(shop.core)
    clock.advance(timedelta(seconds=5))
    await send_due(shop.core)
    assert len(shop.daraja.of("stk_push")) == 1


async def test_a_refused_token_that_cannot_be_replaced_is_not_shown_again(shop: Shop, clock: FrozenClock) -> None:
    payment_id = (await open_payment(shop.core, shop.principal, a_push())).payment.payment_id
    shop.daraja.order("stk_push", 404, TOKEN_REFUSED)
    asked = 0

    async def away_at_the_second() -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise RuntimeError

    shop.daraja.on_token = away_at_the_second
    await send_due(shop.core)
    await send_due(shop.core)
    assert len(shop.daraja.of("stk_push")) == 1
    clock.advance(timedelta(seconds=9))
    await send_due(shop.core)
    assert len(shop.daraja.of("stk_push")) == 2
    assert await shop.status(payment_id) == "pending"
