"""Successes that do not count by a callback alone: much money, and what came before our own reply was recorded."""

from datetime import timedelta

import pytest

from mpesa_mcp.identity.organizations import change_organization
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.payments.desk import payments_to_review
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.requests import PaymentRequest
from mpesa_mcp.values import FrozenClock, Kes

from .factories import (
    PHONE,
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

LARGE = 10_000


async def a_sent_payment(shop: Shop, request: PaymentRequest) -> str:
    payment_id = (await open_payment(shop.core, shop.principal, request)).payment.payment_id
    await send_due(shop.core)
    return payment_id


def result_url(shop: Shop, operation: str = "b2c") -> str:
    url: str = shop.daraja.of(operation)[-1].body["ResultURL"]
    return url


async def a_large_payout(shop: Shop, shillings: int = LARGE) -> str:
    return await a_sent_payment(shop, a_payout(shillings=shillings))


async def report_success(shop: Shop, shillings: int = LARGE) -> None:
    await shop.call_back(result_url(shop), payout_result(amount=shillings))


async def answer_question(shop: Shop, word: str, *, number: int = 1, **parameters: str) -> None:
    """Safaricom's answer to our own question about the payout."""
    call = shop.daraja.of("transaction_status")[number - 1]
    said = {"TransactionStatus": word, "Amount": str(LARGE)} | parameters
    said["OriginatorConversationID"] = call.body["OriginalConversationID"]
    await shop.call_back(call.body["ResultURL"], result(f"AG_transaction_status_{number}", **said))


async def choose_threshold(shop: Shop, shillings: int) -> None:
    await change_organization(
        shop.core.store,
        shop.core.clock,
        organization_id=shop.principal.organization_id,
        confirm_payouts_from=Kes.from_shillings(shillings),
        actor=Actor("operator:tester", None),
    )


async def test_a_large_payouts_success_is_kept_asked_about_at_once_and_settled_by_the_answer(shop: Shop) -> None:
    payment_id = await a_large_payout(shop)
    await report_success(shop)
    row = await shop.row(payment_id)
    assert (row.status, row.receipt) == ("pending", None)
    assert "our own question" in (row.reason or "")
    assert await send_due_inquiries(shop.core) == 1
    # The answer need not repeat the receipt: the callback told it.
    await answer_question(shop, "Completed")
    row = await shop.row(payment_id)
    assert (row.status, row.receipt, row.result_code) == ("succeeded", "SKE0000BB1", "0")


async def test_the_receipt_of_the_answer_outranks_that_of_the_callback(shop: Shop) -> None:
    payment_id = await a_large_payout(shop)
    await report_success(shop)
    await send_due_inquiries(shop.core)
    await answer_question(shop, "Completed", ReceiptNo="SKE0000BB7")
    assert (await shop.row(payment_id)).receipt == "SKE0000BB7"


async def test_one_shilling_less_counts_by_the_callback_alone(shop: Shop) -> None:
    payment_id = await a_large_payout(shop, LARGE - 1)
    await report_success(shop, LARGE - 1)
    assert await shop.status(payment_id) == "succeeded"
    assert await send_due_inquiries(shop.core) == 0


@pytest.mark.parametrize(("threshold", "status"), [(0, "pending"), (100, "pending"), (101, "succeeded")])
async def test_the_organization_chooses_from_which_amount(shop: Shop, threshold: int, status: str) -> None:
    await choose_threshold(shop, threshold)
    payment_id = await a_large_payout(shop, 100)
    await report_success(shop, 100)
    assert await shop.status(payment_id) == status


async def test_a_collection_of_any_amount_counts_by_its_callback(shop: Shop) -> None:
    await choose_threshold(shop, 0)
    payment_id = await a_sent_payment(shop, a_push())
    await shop.call_back(shop.daraja.of("stk_push")[0].body["CallBackURL"], stk_callback())
    assert await shop.status(payment_id) == "succeeded"


async def test_a_large_reversals_success_is_confirmed_before_anything_is_called_reversed(shop: Shop) -> None:
    await choose_threshold(shop, 100)
    received = await a_sent_payment(shop, a_push())
    await shop.call_back(shop.daraja.of("stk_push")[0].body["CallBackURL"], stk_callback(receipt="SKE0000AA1"))
    reversal = await a_sent_payment(shop, a_reversal("SKE0000AA1"))
    said = {"Amount": "100.00", "OriginalTransactionID": "SKE0000AA1"}
    await shop.call_back(result_url(shop, "reversal"), result("AG_reversal_1", receipt="SKE0000CC1", **said))
    assert (await shop.status(reversal), await shop.status(received)) == ("pending", "succeeded")
    await send_due_inquiries(shop.core)
    answer = {"TransactionStatus": "Completed", "Amount": "100", "ConversationID": "AG_reversal_1"}
    await shop.call_back(result_url(shop, "transaction_status"), result("AG_transaction_status_1", **answer))
    assert (await shop.status(reversal), await shop.status(received)) == ("succeeded", "reversed")
    assert (await shop.row(reversal)).receipt == "SKE0000CC1"


async def test_a_large_failure_counts_at_once(shop: Shop) -> None:
    payment_id = await a_large_payout(shop)
    await shop.call_back(result_url(shop), payout_result(amount=LARGE, code=2040))
    assert await shop.status(payment_id) == "failed"


async def test_an_answer_that_denies_a_reported_success_is_a_dispute(shop: Shop) -> None:
    payment_id = await a_large_payout(shop)
    await report_success(shop)
    await send_due_inquiries(shop.core)
    await answer_question(shop, "Declined")
    assert await shop.status(payment_id) == "disputed"


async def test_a_confirmation_that_stays_unanswered_is_repeated_on_the_schedule(shop: Shop, clock: FrozenClock) -> None:
    payment_id = await a_large_payout(shop)
    await report_success(shop)
    await send_due_inquiries(shop.core)
    await answer_question(shop, "Authorized")
    clock.advance(timedelta(minutes=1))
    await ask_due(shop.core)
    assert await send_due_inquiries(shop.core) == 1
    await answer_question(shop, "Completed", number=2)
    assert (await shop.row(payment_id)).receipt == "SKE0000BB1"


@pytest.mark.parametrize("how", ["answer", "refusal"])
async def test_where_nobody_may_ask_a_person_is_asked_at_once(shop: Shop, clock: FrozenClock, how: str) -> None:
    payment_id = await a_large_payout(shop)
    await report_success(shop)
    if how == "refusal":
        refusal = error("401.003.01", "Error Occurred - Invalid Access Token - Invalid API call")
        shop.daraja.order("transaction_status", 401, refusal, times=2)
    await send_due_inquiries(shop.core)
    if how == "answer":
        await shop.call_back(result_url(shop, "transaction_status"), result("AG_transaction_status_1", code=21))
    row = await shop.row(payment_id)
    assert (row.status, row.next_action_at) == ("unknown", None)
    [item] = await payments_to_review(shop.core, shop.principal.organization_id)
    assert (item.payment.payment_id, item.why) == (payment_id, row.reason)
    assert "a person must find out" in item.why
    clock.advance(timedelta(days=2))
    assert await ask_due(shop.core) == 0


@pytest.mark.parametrize("request_", [a_push(), a_payout()], ids=["stk_push", "b2c"])
async def test_a_success_that_came_before_our_reply_is_confirmed_by_our_own_question(
    shop: Shop, clock: FrozenClock, request_: PaymentRequest
) -> None:
    """Posted while the request is being answered: whoever did that could not know the ids of the answer."""
    is_push = request_.kind.value == "stk_push"

    async def call_back_first(call: Call) -> None:
        shop.daraja.on_call = None
        if is_push:
            await shop.post(call.body["CallBackURL"], stk_callback(receipt="SKE0000AA1"))
        else:
            await shop.post(call.body["ResultURL"], payout_result(receipt="SKE0000AA1"))
        clock.advance(timedelta(seconds=1))

    shop.daraja.on_call = call_back_first
    payment_id = await a_sent_payment(shop, request_)
    await apply_due(shop.core)
    assert (await shop.status(payment_id), (await shop.row(payment_id)).receipt) == ("pending", None)
    if is_push:
        answer = {"ResponseCode": "0", "ResultCode": "0", "CheckoutRequestID": "ws_CO_1_700000001"}
        shop.daraja.order("stk_query", 200, answer)
        assert await ask_due(shop.core) == 1
    else:
        await send_due_inquiries(shop.core)
        await answer_question(shop, "Completed", Amount="100")
    row = await shop.row(payment_id)
    assert (row.status, row.receipt) == ("succeeded", "SKE0000AA1")


async def test_a_callback_read_while_our_question_is_answered_still_brings_its_receipt(
    shop: Shop, clock: FrozenClock
) -> None:
    async def call_back_first(call: Call) -> None:
        shop.daraja.on_call = read_it_now
        await shop.post(call.body["CallBackURL"], stk_callback(receipt="SKE0000AA1"))
        clock.advance(timedelta(seconds=1))

    async def read_it_now(call: Call) -> None:
        if call.operation == "stk_query":
            await apply_due(shop.core)

    shop.daraja.on_call = call_back_first
    payment_id = await a_sent_payment(shop, a_push())
    clock.advance(timedelta(seconds=15))
    answer = {"ResponseCode": "0", "ResultCode": "0", "CheckoutRequestID": "ws_CO_1_700000001"}
    shop.daraja.order("stk_query", 200, answer)
    assert await ask_due(shop.core) == 1
    row = await shop.row(payment_id)
    assert (row.status, row.receipt) == ("succeeded", "SKE0000AA1")


async def test_an_early_success_that_our_question_denies_is_a_dispute(shop: Shop, clock: FrozenClock) -> None:
    async def call_back_first(call: Call) -> None:
        shop.daraja.on_call = None
        await shop.post(call.body["CallBackURL"], stk_callback())
        clock.advance(timedelta(seconds=1))

    shop.daraja.on_call = call_back_first
    payment_id = await a_sent_payment(shop, a_push())
    await apply_due(shop.core)
    answer = {"ResponseCode": "0", "ResultCode": "1032", "CheckoutRequestID": "ws_CO_1_700000001"}
    shop.daraja.order("stk_query", 200, answer)
    await ask_due(shop.core)
    assert await shop.status(payment_id) == "disputed"


async def test_a_confirmation_is_not_asked_twice_for_the_same_callback(shop: Shop) -> None:
    await a_large_payout(shop)
    for _ in range(3):
        await report_success(shop)
    await send_due_inquiries(shop.core)
    assert len(shop.daraja.of("transaction_status")) == 1
    assert PHONE in shop.daraja.of("b2c")[0].body["PartyB"]


async def test_a_receipt_told_by_a_path_alone_is_not_taken_over(shop: Shop) -> None:
    """The answer confirms that the payout was carried out; not who told the receipt."""
    payment_id = await a_large_payout(shop)
    forged = payout_result(amount=LARGE, receipt="SKE0000FF9")
    del forged["Result"]["ConversationID"]
    await shop.call_back(result_url(shop), forged)
    await send_due_inquiries(shop.core)
    await answer_question(shop, "Completed")
    row = await shop.row(payment_id)
    assert (row.status, row.receipt) == ("succeeded", None)
    await report_success(shop)
    row = await shop.row(payment_id)
    assert (row.status, row.receipt) == ("succeeded", "SKE0000BB1")
