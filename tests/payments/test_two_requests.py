"""One payment, two requests: the gateway refused the first for its token or for haste, and carried it out all the same.

C1 and R1 are the checkout and the receipt of the first, C2 and R2 of the second, whose ids Daraja's reply names.
"""

from datetime import timedelta
from typing import Any

import pytest

from mpesa_mcp.payments.desk import payments_to_review
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.schedule import SEND_LEASE
from mpesa_mcp.values import FrozenClock

from .factories import (
    Shop,
    a_payout,
    a_push,
    a_reversal,
    apply_due,
    ask_due,
    payout_result,
    result,
    send_due,
    send_due_inquiries,
    stk_callback,
)
from .fake_daraja import Call, error

pytestmark = pytest.mark.anyio

TOKEN_REFUSED = error("404.001.03", "Invalid Access Token")
C1, C2 = "ws_CO_9_700000001", "ws_CO_2_700000001"
R1, R2 = "SKE0000ZZ9", "SKE0000AA2"
RECEIVED = "SKE0000AA1"


async def pushed(shop: Shop, clock: FrozenClock, turned_away_for: str = "its token") -> tuple[str, str, str]:
    """A payment whose second request was accepted; its id, and where the first and the second are called back."""
    payment_id = (await open_payment(shop.core, shop.principal, a_push())).payment.payment_id
    if turned_away_for == "haste":
        shop.daraja.order_spike_arrest("stk_push")
        await send_due(shop.core)
        clock.advance(timedelta(seconds=3))
    else:
        shop.daraja.order("stk_push", 404, TOKEN_REFUSED)
    await send_due(shop.core)
    first, second = (call.body["CallBackURL"] for call in shop.daraja.of("stk_push"))
    clock.advance(timedelta(seconds=1))
    return payment_id, first, second


def answer_query(shop: Shop, checkout: str, code: str) -> None:
    shop.daraja.order("stk_query", 200, {"ResponseCode": "0", "ResultCode": code, "CheckoutRequestID": checkout})


def bare(number: int) -> dict[str, Any]:
    """A success that does not say what moved."""
    body = stk_callback(number)
    del body["Body"]["stkCallback"]["CallbackMetadata"]
    return body


async def reversing(shop: Shop) -> str:
    """A reversal of a push that succeeded; queued."""
    await open_payment(shop.core, shop.principal, a_push())
    await send_due(shop.core)
    await shop.call_back(shop.daraja.of("stk_push")[-1].body["CallBackURL"], stk_callback(1, receipt=RECEIVED))
    return (await open_payment(shop.core, shop.principal, a_reversal(RECEIVED))).payment.payment_id


def reversal_result(number: int, receipt: str) -> dict[str, Any]:
    given_back = {"OriginalTransactionID": RECEIVED, "CreditPartyPublicName": "254700000001 - J"}
    return result(f"AG_reversal_{number}", receipt=receipt, Amount="100.00", **given_back)


async def answer_inquiry(shop: Shop, *, conversation: str, **told: Any) -> None:
    """Asks what is due, and answers the question about the payment."""
    await send_due_inquiries(shop.core)
    asked = shop.daraja.of("transaction_status")[-1].body
    told = {"receipt": None, "Amount": "100.00", "ConversationID": conversation} | told
    if "OriginalConversationID" in asked:
        told["OriginatorConversationID"] = asked["OriginalConversationID"]
    number = len(shop.daraja.of("transaction_status"))
    await shop.call_back(asked["ResultURL"], result(f"AG_transaction_status_{number}", **told))


@pytest.mark.parametrize(
    "steps",
    ["first query second", "query first second", "query second first", "first second", "second first", "query first"],
)
@pytest.mark.parametrize("turned_away_for", ["haste", "its token"])
async def test_a_second_movement_is_a_dispute_in_whatever_order_it_is_heard_of(
    shop: Shop, clock: FrozenClock, steps: str, turned_away_for: str
) -> None:
    """first and second: what Safaricom calls back about each; query: settles the second, without a receipt."""
    payment_id, first, second = await pushed(shop, clock, turned_away_for)
    for step in steps.split():
        if step == "first":
            await shop.call_back(first, stk_callback(9, receipt=R1))
        elif step == "second":
            await shop.call_back(second, stk_callback(2, receipt=R2))
        else:
            clock.advance(timedelta(seconds=20))
            answer_query(shop, C2, "0")
            await ask_due(shop.core)
    assert await shop.status(payment_id) == "disputed"
    assert len(await payments_to_review(shop.core, shop.principal.organization_id)) == 1


async def test_when_the_first_was_paid_and_the_second_dismissed_it_is_a_dispute(shop: Shop, clock: FrozenClock) -> None:
    payment_id, first, second = await pushed(shop, clock)
    await shop.call_back(first, stk_callback(9, receipt=R1))
    assert await shop.status(payment_id) == "pending"
    await shop.call_back(second, stk_callback(2, code=1032))
    assert await shop.status(payment_id) == "disputed"


@pytest.mark.parametrize("turned_away_for", ["haste", "its token"])
async def test_a_first_prompt_that_was_dismissed_does_not_end_it_while_the_second_is_open(
    shop: Shop, clock: FrozenClock, turned_away_for: str
) -> None:
    payment_id, first, second = await pushed(shop, clock, turned_away_for)
    await shop.call_back(first, stk_callback(9, code=1032))
    answer_query(shop, C2, "4999")
    answer_query(shop, C1, "1032")
    await ask_due(shop.core)
    assert await shop.status(payment_id) == "pending"
    clock.advance(timedelta(minutes=1))
    answer_query(shop, C2, "0")
    await ask_due(shop.core)
    await shop.call_back(second, stk_callback(2, receipt=R2))
    row = await shop.row(payment_id)
    assert (row.status, row.receipt) == ("succeeded", R2)


async def test_when_both_were_dismissed_it_has_failed(shop: Shop, clock: FrozenClock) -> None:
    payment_id, first, second = await pushed(shop, clock)
    await shop.call_back(first, stk_callback(9, code=1037))
    await shop.call_back(second, stk_callback(2, code=1032))
    assert await shop.status(payment_id) == "failed"


async def test_a_second_request_that_is_refused_leaves_the_first_in_doubt(shop: Shop) -> None:
    """Daraja refuses a second prompt to a phone that is looking at the first."""
    payment_id = (await open_payment(shop.core, shop.principal, a_push())).payment.payment_id
    shop.daraja.order("stk_push", 404, TOKEN_REFUSED)
    shop.daraja.order("stk_push", 500, error("500.001.1001", "Unable to lock subscriber"))
    await send_due(shop.core)
    assert await shop.status(payment_id) == "unknown"


async def test_when_the_second_was_not_answered_a_failure_of_the_first_prompt_ends_nothing(
    shop: Shop, clock: FrozenClock
) -> None:
    payment_id = (await open_payment(shop.core, shop.principal, a_push())).payment.payment_id
    shop.daraja.order("stk_push", 404, TOKEN_REFUSED)
    shop.daraja.order_server_error("stk_push")
    await send_due(shop.core)
    await shop.call_back(shop.daraja.of("stk_push")[-1].body["CallBackURL"], stk_callback(9, code=1032))
    while (at := (await shop.row(payment_id)).next_action_at) is not None:
        clock.at = max(at, clock.at)
        answer_query(shop, C1, "1032")
        await ask_due(shop.core)
    assert await shop.status(payment_id) == "unknown"
    assert len(await payments_to_review(shop.core, shop.principal.organization_id)) == 1


async def test_when_the_second_was_not_answered_a_failure_of_the_first_reversal_ends_nothing(shop: Shop) -> None:
    payment_id = await reversing(shop)
    shop.daraja.order("reversal", 404, TOKEN_REFUSED)
    shop.daraja.order_server_error("reversal")
    await send_due(shop.core)
    await shop.call_back(shop.daraja.of("reversal")[-1].body["ResultURL"], result("AG_reversal_9", code=1))
    await answer_inquiry(shop, conversation="AG_reversal_9", receipt="X", TransactionStatus="Declined")
    assert await shop.status(payment_id) == "unknown"


async def test_an_answer_written_after_its_lease_disputes_what_ended_meanwhile(shop: Shop, clock: FrozenClock) -> None:
    payment_id = (await open_payment(shop.core, shop.principal, a_push())).payment.payment_id
    shop.daraja.order("stk_push", 404, TOKEN_REFUSED)

    async def pause_past_the_lease(call: Call) -> None:
        if len(shop.daraja.of("stk_push")) < 2 or call.operation != "stk_push":
            return
        clock.advance(SEND_LEASE + timedelta(seconds=1))
        await ask_due(shop.core)
        await shop.call_back(call.body["CallBackURL"], stk_callback(9, receipt=R1))
        await shop.call_back(call.body["CallBackURL"], stk_callback(2, receipt=R2))
        answer_query(shop, C1, "0")
        await ask_due(shop.core)
        assert await shop.status(payment_id) == "succeeded"

    shop.daraja.on_call = pause_past_the_lease
    await send_due(shop.core)
    assert await shop.status(payment_id) == "disputed"


@pytest.mark.parametrize("order", ["first, then second", "second, then first"])
async def test_a_success_without_a_receipt_is_a_second_movement_by_its_ids(
    shop: Shop, clock: FrozenClock, order: str
) -> None:
    payment_id, first, second = await pushed(shop, clock)
    told = [(first, bare(9)), (second, stk_callback(2, receipt=R2))]
    for url, body in told if order.startswith("first") else reversed(told):
        await shop.call_back(url, body)
    assert await shop.status(payment_id) == "disputed"


@pytest.mark.parametrize("receipts", [(R1,), (R1, "SKE0000ZZ8")], ids=["its receipt known", "two receipts told of it"])
@pytest.mark.parametrize("second_says", [bare(2), stk_callback(2, receipt=R2)], ids=["bare", "with its receipt"])
async def test_the_first_confirmed_by_our_question_and_the_second_by_its_callback_are_two(
    shop: Shop, clock: FrozenClock, receipts: tuple[str, ...], second_says: dict[str, Any]
) -> None:
    payment_id, first, second = await pushed(shop, clock)
    for receipt in receipts:
        await shop.call_back(first, stk_callback(9, receipt=receipt))
    answer_query(shop, C2, "4999")
    answer_query(shop, C1, "0")
    await ask_due(shop.core)
    assert await shop.status(payment_id) == ("succeeded" if len(receipts) == 1 else "disputed")
    await shop.call_back(second, second_says)
    assert await shop.status(payment_id) == "disputed"


async def test_a_payout_that_an_answer_without_receipt_settled_is_disputed_by_the_firsts_result(
    shop: Shop, clock: FrozenClock
) -> None:
    payment_id = (await open_payment(shop.core, shop.principal, a_payout())).payment.payment_id
    shop.daraja.order("b2c", 404, TOKEN_REFUSED)
    await send_due(shop.core)
    clock.advance(timedelta(minutes=2))
    await ask_due(shop.core)
    await answer_inquiry(shop, conversation="AG_b2c_2", TransactionStatus="Completed")
    assert await shop.status(payment_id) == "succeeded"
    await shop.call_back(shop.daraja.of("b2c")[-1].body["ResultURL"], payout_result(9, receipt=R1))
    assert await shop.status(payment_id) == "disputed"


async def test_a_reversal_that_an_answer_without_receipt_settles_is_disputed_by_what_the_first_had_said(
    shop: Shop,
) -> None:
    payment_id = await reversing(shop)
    shop.daraja.order("reversal", 404, TOKEN_REFUSED)
    await send_due(shop.core)
    await shop.call_back(shop.daraja.of("reversal")[-1].body["ResultURL"], reversal_result(9, R1))
    await answer_inquiry(shop, conversation="AG_reversal_2", TransactionStatus="Completed")
    assert await shop.status(payment_id) == "disputed"


@pytest.mark.parametrize("when", ["before the reply", "after the reply", "after our question", "the reply lost"])
@pytest.mark.parametrize("kind", ["stk_push", "b2c"])
async def test_one_movement_called_back_twice_and_again_is_no_dispute(
    shop: Shop, clock: FrozenClock, kind: str, when: str
) -> None:
    is_push = kind == "stk_push"
    opened = await open_payment(shop.core, shop.principal, a_push() if is_push else a_payout())
    payment_id = opened.payment.payment_id
    body = stk_callback(2, receipt=R2) if is_push else payout_result(2, receipt=R2)
    address = "CallBackURL" if is_push else "ResultURL"
    shop.daraja.order(kind, 404, TOKEN_REFUSED)
    if when == "the reply lost":
        shop.daraja.order_server_error(kind)

    async def overtake(call: Call) -> None:
        if call.operation == kind and len(shop.daraja.of(kind)) == 2 and when == "before the reply":
            for _ in range(2):
                await shop.post(call.body[address], body)

    shop.daraja.on_call = overtake
    await send_due(shop.core)
    url = shop.daraja.of(kind)[-1].body[address]
    clock.advance(timedelta(seconds=70))

    async def confirm() -> None:
        answer_query(shop, C2, "0")
        await ask_due(shop.core)
        await send_due_inquiries(shop.core)
        if shop.daraja.of("transaction_status"):
            told = {"receipt": R2, "ReceiptNo": R2, "TransactionStatus": "Completed"}
            await answer_inquiry(shop, conversation="AG_b2c_2", **told)

    if when == "after our question":
        await confirm()
    for _ in range(2):
        if when != "before the reply":
            await shop.call_back(url, body)
    await apply_due(shop.core)
    await confirm()
    await shop.call_back(url, body)
    row = await shop.row(payment_id)
    assert (row.status, row.receipt) == ("succeeded", R2)
