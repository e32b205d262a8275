"""Reconciliation: asks about what stays silent, believes only its own questions, and gives up to a person."""

from datetime import timedelta
from typing import Any

import pytest

from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.reconciliation import ask_about, claim_silent
from mpesa_mcp.payments.requests import PaymentRequest
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
from .fake_daraja import error

pytestmark = pytest.mark.anyio

PENDING_ANSWER = error("500.001.1001", "The transaction is being processed")


async def a_sent_payment(shop: Shop, request: PaymentRequest | None = None) -> str:
    payment_id = (await open_payment(shop.core, shop.principal, request or a_push())).payment.payment_id
    await send_due(shop.core)
    return payment_id


def url_of(shop: Shop, operation: str, number: int = 1) -> str:
    body = shop.daraja.of(operation)[number - 1].body
    url: str = body.get("CallBackURL") or body["ResultURL"]
    return url


def order_query_answer(shop: Shop, code: str, checkout: str = "ws_CO_1_700000001") -> None:
    answer = {"ResponseCode": "0", "ResultCode": code, "CheckoutRequestID": checkout, "ResultDesc": "prose"}
    shop.daraja.order("stk_query", 200, answer)


async def test_a_silent_push_is_asked_about_by_its_checkout_id_from_the_fifteenth_second(
    shop: Shop, clock: FrozenClock
) -> None:
    payment_id = await a_sent_payment(shop)
    clock.advance(timedelta(seconds=14))
    assert await ask_due(shop.core) == 0
    clock.advance(timedelta(seconds=1))
    order_query_answer(shop, "1032")
    assert await ask_due(shop.core) == 1
    assert [call.body["CheckoutRequestID"] for call in shop.daraja.of("stk_query")] == ["ws_CO_1_700000001"]
    row = await shop.row(payment_id)
    assert (row.status, row.result_code) == ("failed", "1032")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"ResponseCode": "0", "ResultCode": "4999", "ResultDesc": "pending"}),
        (500, PENDING_ANSWER),
        (500, error("500.001.1001", "")),
        (500, error("500.001.1001", "The transaction does not Exist")),
        (200, {"ResponseCode": "0", "ResultCode": "0", "CheckoutRequestID": "ws_CO_of_another"}),
        (200, {"ResponseCode": "0", "ResultCode": "777777"}),
        (503, "<html>"),
        (500, error("500.001.1001", "Wrong credentials")),
    ],
    ids=["4999", "processing", "no text", "not there", "another push", "unlisted code", "web page", "refused"],
)
async def test_an_answer_that_decides_nothing_leaves_the_push_pending_and_asks_again(
    shop: Shop, clock: FrozenClock, status: int, body: object
) -> None:
    payment_id = await a_sent_payment(shop)
    shop.daraja.order("stk_query", status, body)
    clock.advance(timedelta(seconds=15))
    await ask_due(shop.core)
    row = await shop.row(payment_id)
    assert (row.status, row.ask_count) == ("pending", 1)
    assert row.next_action_at is not None
    assert (row.next_action_at - clock.now()).total_seconds() == pytest.approx(10, rel=0.11)


async def test_a_push_that_stays_silent_becomes_unknown_then_waits_for_a_person(shop: Shop, clock: FrozenClock) -> None:
    payment_id = await a_sent_payment(shop)
    shop.daraja.order("stk_query", 500, PENDING_ANSWER, times=100)
    asked_until_unknown = 0
    while await shop.status(payment_id) == "pending":
        clock.advance(timedelta(seconds=15))
        asked_until_unknown += await ask_due(shop.core)
    assert asked_until_unknown == 17
    assert await shop.status(payment_id) == "unknown"
    while (row := await shop.row(payment_id)).next_action_at is not None:
        clock.at = row.next_action_at
        await ask_due(shop.core)
    assert (row.status, row.ask_count) == ("unknown", 22)
    assert "however often it was asked" in (row.reason or "")
    assert len(shop.daraja.of("stk_push")) == 1


async def test_of_what_gave_no_id_to_ask_by_nobody_is_told_that_it_was_asked_about(
    shop: Shop, clock: FrozenClock
) -> None:
    shop.daraja.order("stk_push", 500, {"odd": True})
    payment_id = await a_sent_payment(shop)
    assert await shop.status(payment_id) == "unknown"
    while (row := await shop.row(payment_id)).next_action_at is not None:
        clock.at = row.next_action_at
        await ask_due(shop.core)
    assert (row.status, shop.daraja.of("stk_query")) == ("unknown", [])
    assert (row.reason or "").startswith("Safaricom gave no id to ask about this by")


async def test_a_silent_payout_is_asked_about_by_its_own_id_and_settled_by_the_answer(
    shop: Shop, clock: FrozenClock
) -> None:
    payment_id = await a_sent_payment(shop, a_payout())
    clock.advance(timedelta(minutes=1))
    await ask_due(shop.core)
    await send_due_inquiries(shop.core)
    [asked] = shop.daraja.of("transaction_status")
    ours = (await shop.row(payment_id)).originator_conversation_id
    assert (asked.body["OriginalConversationID"], asked.body.get("TransactionID", "")) == (ours, "")
    answer = result(
        "AG_transaction_status_1",
        TransactionStatus="Declined",
        Amount="100",
        OriginatorConversationID=ours,
    )
    await shop.call_back(url_of(shop, "transaction_status"), answer)
    assert await shop.status(payment_id) == "failed"


@pytest.mark.parametrize("word", ["Pending Authorized", "Authorized", "Initiated", "Reversed?"])
async def test_a_status_word_that_is_not_final_settles_nothing(shop: Shop, clock: FrozenClock, word: str) -> None:
    payment_id = await a_sent_payment(shop, a_payout())
    clock.advance(timedelta(minutes=1))
    await ask_due(shop.core)
    await send_due_inquiries(shop.core)
    answer = result("AG_transaction_status_1", TransactionStatus=word, Amount="100")
    await shop.call_back(url_of(shop, "transaction_status"), answer)
    assert await shop.status(payment_id) == "pending"


@pytest.mark.parametrize(
    "parameters",
    [
        {"Amount": "101"},
        {"OriginatorConversationID": "of-another"},
        {"ConversationID": "AG_of_another"},
        {"CreditPartyName": "254700000002 - SOMEBODY ELSE"},
    ],
    ids=["amount", "originator", "conversation", "phone"],
)
async def test_a_status_answer_that_disagrees_with_the_payment_settles_nothing(
    shop: Shop, clock: FrozenClock, parameters: dict[str, str]
) -> None:
    payment_id = await a_sent_payment(shop, a_payout())
    clock.advance(timedelta(minutes=1))
    await ask_due(shop.core)
    await send_due_inquiries(shop.core)
    ours = (await shop.row(payment_id)).originator_conversation_id
    said: dict[str, Any] = {"TransactionStatus": "Completed", "Amount": "100", "OriginatorConversationID": ours}
    await shop.call_back(url_of(shop, "transaction_status"), result("AG_transaction_status_1", **(said | parameters)))
    [callback] = await shop.callbacks()
    assert (await shop.status(payment_id), callback.status) == ("pending", "mismatched")


async def test_a_question_under_way_is_not_asked_a_second_time(shop: Shop, clock: FrozenClock) -> None:
    await a_sent_payment(shop, a_payout())
    clock.advance(timedelta(minutes=1))
    await ask_due(shop.core)
    clock.advance(timedelta(minutes=6))
    await ask_due(shop.core)
    await send_due_inquiries(shop.core)
    assert len(shop.daraja.of("transaction_status")) == 1


async def test_a_silent_reversal_is_asked_about_by_the_id_of_its_acknowledgement(
    shop: Shop, clock: FrozenClock
) -> None:
    await a_sent_payment(shop)
    await shop.call_back(url_of(shop, "stk_push"), stk_callback(receipt="SKE0000AA1"))
    reversal_id = await a_sent_payment(shop, a_reversal("SKE0000AA1"))
    clock.advance(timedelta(minutes=1))
    await ask_due(shop.core)
    await send_due_inquiries(shop.core)
    assert shop.daraja.of("transaction_status")[0].body["OriginalConversationID"] == "AG_reversal_1"
    assert await shop.status(reversal_id) == "pending"


async def test_a_reversal_without_acknowledgement_is_not_asked_about_but_waits_for_its_callback(
    shop: Shop, clock: FrozenClock
) -> None:
    await a_sent_payment(shop)
    await shop.call_back(url_of(shop, "stk_push"), stk_callback(receipt="SKE0000AA1"))
    shop.daraja.order_server_error("reversal")
    reversal_id = await a_sent_payment(shop, a_reversal("SKE0000AA1"))
    clock.advance(timedelta(minutes=1))
    await ask_due(shop.core)
    assert await send_due_inquiries(shop.core) == 0
    assert await shop.status(reversal_id) == "unknown"


async def test_a_callback_for_an_unclear_reply_settles_only_after_our_own_question(
    shop: Shop, clock: FrozenClock
) -> None:
    shop.daraja.order_server_error("stk_push")
    payment_id = await a_sent_payment(shop)
    assert await shop.status(payment_id) == "unknown"
    await shop.call_back(url_of(shop, "stk_push"), stk_callback(receipt="SKE0000AA1"))
    assert (await shop.status(payment_id), (await shop.callbacks())[0].status) == ("unknown", "unconfirmed")
    order_query_answer(shop, "0")
    # At once, without waiting for the next question's time.
    assert await ask_due(shop.core) == 1
    row = await shop.row(payment_id)
    assert (row.status, row.receipt) == ("succeeded", "SKE0000AA1")
    [attempt] = await shop.attempts(payment_id)
    assert (attempt.checkout_request_id, attempt.merchant_request_id) == ("ws_CO_1_700000001", "merchant-1")
    assert len(shop.daraja.of("stk_push")) == 1


async def test_a_hint_that_our_question_denies_changes_nothing(shop: Shop) -> None:
    """Somebody who knows the path claims a success; Safaricom does not know the checkout."""
    shop.daraja.order_server_error("stk_push")
    payment_id = await a_sent_payment(shop)
    await shop.call_back(url_of(shop, "stk_push"), stk_callback(receipt="SKE0000AA1"))
    shop.daraja.order("stk_query", 500, error("500.001.1001", "The transaction does not Exist"))
    await ask_due(shop.core)
    row = await shop.row(payment_id)
    assert (row.status, row.receipt) == ("unknown", None)
    assert (await shop.attempts(payment_id))[0].checkout_request_id is None


@pytest.mark.parametrize(("hinted", "answered"), [(0, "1032"), (1032, "0")], ids=["success", "failure"])
async def test_a_hint_that_our_question_contradicts_settles_nothing(shop: Shop, hinted: int, answered: str) -> None:
    """Who posts the id of another prompt of the same phone, not knowing how that one ended, settles nothing by it."""
    shop.daraja.order_server_error("stk_push")
    payment_id = await a_sent_payment(shop)
    await shop.call_back(url_of(shop, "stk_push"), stk_callback(code=hinted, receipt="SKE0000AA1"))
    order_query_answer(shop, answered)
    await ask_due(shop.core)
    row = await shop.row(payment_id)
    assert (row.status, row.receipt) == ("unknown", None)
    assert (await shop.attempts(payment_id))[0].checkout_request_id is None


@pytest.mark.parametrize(
    ("forged", "field"),
    [
        (stk_callback(1, receipt="SKE0000AA9"), "checkout_request_id"),
        (stk_callback(2, receipt="SKE0000AA9", amount=1000), "amount"),
        (stk_callback(2, receipt="SKE0000AA9", phone="254700000002"), "phone"),
        (stk_callback(2, receipt="SKE0000AA1"), "receipt"),
    ],
    ids=["id of another payment", "amount", "phone", "receipt of another payment"],
)
async def test_a_forged_hint_is_refused_and_asked_about_never(
    shop: Shop, forged: dict[str, object], field: str
) -> None:
    first = await a_sent_payment(shop, a_push(reference="INV-1"))
    await shop.call_back(url_of(shop, "stk_push"), stk_callback(1, receipt="SKE0000AA1"))
    assert await shop.status(first) == "succeeded"
    shop.daraja.order_server_error("stk_push")
    second = await a_sent_payment(shop, a_push(reference="INV-2"))
    await shop.call_back(url_of(shop, "stk_push", 2), forged)
    callback = (await shop.callbacks())[-1]
    assert (callback.status, await shop.status(second)) == ("mismatched", "unknown")
    assert field in (callback.note or "")
    assert await claim_silent(shop.core, 10) == []


async def test_a_payout_with_an_unclear_reply_is_settled_by_the_status_answer_not_by_its_callback(
    shop: Shop, clock: FrozenClock
) -> None:
    shop.daraja.order("b2c", 500, error("500.002.1001", "System internal error."))
    payment_id = await a_sent_payment(shop, a_payout())
    await shop.call_back(url_of(shop, "b2c"), payout_result())
    assert await shop.status(payment_id) == "unknown"
    await ask_due(shop.core)
    await send_due_inquiries(shop.core)
    ours = (await shop.row(payment_id)).originator_conversation_id
    answer = result(
        "AG_transaction_status_1",
        TransactionStatus="Completed",
        Amount="100",
        ReceiptNo="SKE0000BB1",
        OriginatorConversationID=ours,
    )
    await shop.call_back(url_of(shop, "transaction_status"), answer)
    row = await shop.row(payment_id)
    assert (row.status, row.receipt, len(shop.daraja.of("b2c"))) == ("succeeded", "SKE0000BB1", 1)


async def test_a_question_that_was_overtaken_by_a_callback_does_not_put_the_next_one_off(
    shop: Shop, clock: FrozenClock
) -> None:
    """While Daraja is being asked, a hint arrives: its question is due at once, not after the usual wait."""
    shop.daraja.order_server_error("stk_push")
    payment_id = await a_sent_payment(shop)
    clock.advance(timedelta(seconds=15))
    [asking] = await claim_silent(shop.core, 10)
    await shop.post(url_of(shop, "stk_push"), stk_callback(receipt="SKE0000AA1"))
    await apply_due(shop.core)
    # The slow question ends now; it was asked before the hint was there.
    shop.daraja.order("stk_query", 500, PENDING_ANSWER)
    await ask_about(shop.core, asking)
    assert (await shop.row(payment_id)).next_action_at == clock.now()
