"""One payment, two requests: the gateway refused the first for its token or for haste, and carried it out all the same.

C1 and R1 are the checkout and the receipt of the first, C2 and R2 of the second, whose ids Daraja's reply names. Each
request is an attempt with an address of its own to be called back at.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from mpesa_mcp.daraja.tokens import AccessTokens
from mpesa_mcp.payments.desk import payments_to_review, resolve_payment, withdraw_payment
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.requests import PaymentRequest
from mpesa_mcp.payments.schedule import LEAVES_WITHIN, SEND_LEASE
from mpesa_mcp.store.unavailable import StoreUnavailable
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

BUSY = (500, error("500.001.1001", "Unable to lock subscriber, a transaction is already in process"))
NO_ANSWER = (500, error("500.003.1001", "Internal Server Error"))
TOO_FAST = (500, error("500.003.02", "Error Occurred: Spike Arrest Violation"))
TOKEN_REFUSED = error("404.001.03", "Invalid Access Token")
C1, C2 = "ws_CO_9_700000001", "ws_CO_2_700000001"
R1, R2 = "SKE0000ZZ9", "SKE0000AA2"
RECEIVED = "SKE0000AA1"


REASONS = ("haste", "its token")


async def sent_twice(
    shop: Shop,
    clock: FrozenClock,
    request: PaymentRequest,
    turned_away_for: str = "its token",
    *,
    second: tuple[int, object] | None = None,
) -> tuple[str, str, str]:
    """A payment whose first request was turned away; its id, and where the first and the second are called back.

    The second is accepted, unless something else is said.
    """
    payment_id = (await open_payment(shop.core, shop.principal, request)).payment.payment_id
    operation = (await shop.row(payment_id)).kind
    if turned_away_for == "haste":
        shop.daraja.order_spike_arrest(operation)
    else:
        shop.daraja.order(operation, 404, TOKEN_REFUSED)
    if second is not None:
        shop.daraja.order(operation, *second)
    before = len(shop.daraja.of(operation))
    await send_due(shop.core)
    assert (await shop.row(payment_id)).not_sent_count == (turned_away_for == "haste")
    if turned_away_for == "haste":
        clock.advance(timedelta(seconds=3))
    await send_due(shop.core)
    address = "CallBackURL" if operation == "stk_push" else "ResultURL"
    urls = [call.body[address] for call in shop.daraja.of(operation)[before:]]
    clock.advance(timedelta(seconds=5))
    return payment_id, urls[0], urls[1]


async def pushed(shop: Shop, clock: FrozenClock, turned_away_for: str = "its token") -> tuple[str, str, str]:
    return await sent_twice(shop, clock, a_push(), turned_away_for)


def answer_query(shop: Shop, checkout: str, code: str) -> None:
    shop.daraja.order("stk_query", 200, {"ResponseCode": "0", "ResultCode": code, "CheckoutRequestID": checkout})


def bare(number: int) -> dict[str, Any]:
    """A success that does not say what moved."""
    body = stk_callback(number)
    del body["Body"]["stkCallback"]["CallbackMetadata"]
    return body


async def resolve(shop: Shop, payment_id: str, *, succeeded: bool) -> str:
    """A person decides; the status it then has."""
    resolved = await resolve_payment(
        shop.core,
        shop.principal.organization_id,
        payment_id,
        succeeded=succeeded,
        receipt=None,
        reason="Looked it up",
        actor="finance",
        although_asked=True,
    )
    return str(resolved.status)


async def received(shop: Shop) -> PaymentRequest:
    """The request to give back a push that succeeded."""
    await open_payment(shop.core, shop.principal, a_push())
    await send_due(shop.core)
    await shop.call_back(shop.daraja.of("stk_push")[-1].body["CallBackURL"], stk_callback(1, receipt=RECEIVED))
    return a_reversal(RECEIVED)


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
@pytest.mark.parametrize("turned_away_for", REASONS)
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


async def test_a_first_prompt_that_was_dismissed_does_not_end_it_while_the_second_is_open(
    shop: Shop, clock: FrozenClock
) -> None:
    payment_id, first, second = await pushed(shop, clock)
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


@pytest.mark.parametrize("second_says", ["dismissed", "paid", "paid, without saying what"])
@pytest.mark.parametrize("turned_away_for", REASONS)
async def test_a_first_that_our_question_confirmed_does_not_end_it_while_the_second_is_open(
    shop: Shop, clock: FrozenClock, turned_away_for: str, second_says: str
) -> None:
    payment_id, first, second = await pushed(shop, clock, turned_away_for)
    await shop.call_back(first, stk_callback(9, receipt=R1))
    answer_query(shop, C2, "4999")
    answer_query(shop, C1, "0")
    await ask_due(shop.core)
    assert await shop.status(payment_id) == "pending"
    said = {"dismissed": stk_callback(2, code=1032), "paid": stk_callback(2, receipt=R2)}
    await shop.call_back(second, said.get(second_says, bare(2)))
    if second_says not in said:
        answer_query(shop, C2, "0")
        await ask_due(shop.core)
    assert await shop.status(payment_id) == "disputed"


async def test_a_first_that_our_question_confirmed_is_for_a_person_when_the_second_stays_silent(
    shop: Shop, clock: FrozenClock
) -> None:
    payment_id, first, _ = await pushed(shop, clock)
    await shop.call_back(first, stk_callback(9, receipt=R1))
    while (at := (await shop.row(payment_id)).next_action_at) is not None:
        clock.at = max(at, clock.at)
        answer_query(shop, C2, "4999")
        answer_query(shop, C1, "0")
        await ask_due(shop.core)
    assert await shop.status(payment_id) == "unknown"
    assert len(await payments_to_review(shop.core, shop.principal.organization_id)) == 1


async def test_a_phone_that_is_busy_may_be_busy_with_the_first(shop: Shop, clock: FrozenClock) -> None:
    payment_id, first, _ = await sent_twice(shop, clock, a_push(), second=BUSY)
    assert await shop.status(payment_id) == "unknown"
    await shop.call_back(first, stk_callback(9, receipt=R1))
    answer_query(shop, C1, "0")
    await ask_due(shop.core)
    row = await shop.row(payment_id)
    assert (row.status, row.receipt) == ("succeeded", R1)


async def test_a_phone_may_be_busy_with_a_send_long_before(shop: Shop, clock: FrozenClock) -> None:
    payment_id, _, _ = await sent_twice(shop, clock, a_push(), second=(429, TOO_FAST[1]))
    shop.daraja.order("stk_push", *BUSY)
    await send_due(shop.core)
    assert len(shop.daraja.of("stk_push")) == 3
    assert await shop.status(payment_id) == "unknown"


async def test_what_was_told_of_a_token_counts_even_while_the_store_of_tokens_is_away(
    shop: Shop, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment_id = (await open_payment(shop.core, shop.principal, a_push())).payment.payment_id

    async def away(*_: object) -> None:
        raise StoreUnavailable

    shop.daraja.order("stk_push", 404, TOKEN_REFUSED)
    with monkeypatch.context() as patched:
        patched.setattr(AccessTokens, "forget", away)
        await send_due(shop.core)
    shop.daraja.order("stk_push", *BUSY)
    await send_due(shop.core)
    assert [attempt.reply_code for attempt in await shop.attempts(payment_id)] == ["404.001.03", "500.001.1001"]
    assert await shop.status(payment_id) == "unknown"


async def test_a_phone_is_not_busy_with_what_never_left(shop: Shop, clock: FrozenClock) -> None:
    payment_id = (await open_payment(shop.core, shop.principal, a_push())).payment.payment_id

    async def pause(_call: Call | None = None) -> None:
        clock.advance(LEAVES_WITHIN + timedelta(seconds=1))
        shop.daraja.on_token = None

    shop.daraja.on_token = pause
    await send_due(shop.core)
    assert (await shop.row(payment_id)).result_code == "too_late"
    clock.advance(timedelta(seconds=3))
    shop.daraja.order("stk_push", *BUSY)
    await send_due(shop.core)
    assert len(shop.daraja.of("stk_push")) == 1
    assert await shop.status(payment_id) == "failed"


async def test_a_second_that_is_refused_for_what_it_says_has_failed(shop: Shop, clock: FrozenClock) -> None:
    refused = error("400.002.02", "Bad Request - Invalid PhoneNumber")
    payment_id, first, _ = await sent_twice(shop, clock, a_push(), second=(400, refused))
    assert await shop.status(payment_id) == "failed"
    await shop.call_back(first, stk_callback(9, receipt=R1))
    assert await shop.status(payment_id) == "disputed"


@pytest.mark.parametrize("request_of", [a_push, a_payout])
async def test_a_second_token_that_is_refused_says_that_the_app_lacks_the_product(
    shop: Shop, clock: FrozenClock, request_of: Callable[[], PaymentRequest]
) -> None:
    payment_id, *_ = await sent_twice(shop, clock, request_of(), second=(404, TOKEN_REFUSED))
    row = await shop.row(payment_id)
    assert (row.status, row.result_code) == ("failed", "404.001.03")
    assert "lacks the product" in (row.reason or "")
    assert await send_due(shop.core) == 0


@pytest.mark.parametrize("turned_away_for", REASONS)
async def test_when_the_second_was_not_answered_what_became_of_the_first_prompt_ends_nothing(
    shop: Shop, clock: FrozenClock, turned_away_for: str
) -> None:
    payment_id, first, _ = await sent_twice(shop, clock, a_push(), turned_away_for, second=NO_ANSWER)
    await shop.call_back(first, stk_callback(9, code=1032))
    while (at := (await shop.row(payment_id)).next_action_at) is not None:
        clock.at = max(at, clock.at)
        answer_query(shop, C1, "1032")
        await ask_due(shop.core)
    assert await shop.status(payment_id) == "unknown"
    assert len(await payments_to_review(shop.core, shop.principal.organization_id)) == 1


async def test_when_the_second_was_not_answered_a_failure_of_the_first_reversal_ends_nothing(
    shop: Shop, clock: FrozenClock
) -> None:
    request = await received(shop)
    payment_id, first, _ = await sent_twice(shop, clock, request, second=NO_ANSWER)
    await shop.call_back(first, result("AG_reversal_9", code=1))
    await answer_inquiry(shop, conversation="AG_reversal_9", receipt="X", TransactionStatus="Declined")
    assert await shop.status(payment_id) == "unknown"


async def test_what_is_heard_of_both_before_the_answer_is_written_after_its_lease_is_a_dispute(
    shop: Shop, clock: FrozenClock
) -> None:
    async def pause_past_the_lease(call: Call) -> None:
        if len(shop.daraja.of("stk_push")) < 2 or call.operation != "stk_push":
            return
        clock.advance(SEND_LEASE + timedelta(seconds=1))
        await ask_due(shop.core)
        first, second = (call.body["CallBackURL"] for call in shop.daraja.of("stk_push"))
        await shop.call_back(first, stk_callback(9, receipt=R1))
        await shop.call_back(second, stk_callback(2, receipt=R2))
        answer_query(shop, C1, "0")
        answer_query(shop, C2, "0")
        await ask_due(shop.core)

    shop.daraja.on_call = pause_past_the_lease
    payment_id, *_ = await pushed(shop, clock)
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


async def test_a_payout_that_an_answer_without_receipt_settled_is_disputed_by_the_firsts_result(
    shop: Shop, clock: FrozenClock
) -> None:
    payment_id, first, _ = await sent_twice(shop, clock, a_payout())
    clock.advance(timedelta(minutes=2))
    await ask_due(shop.core)
    await answer_inquiry(shop, conversation="AG_b2c_2", TransactionStatus="Completed")
    assert await shop.status(payment_id) == "succeeded"
    await shop.call_back(first, payout_result(9, receipt=R1))
    assert await shop.status(payment_id) == "disputed"


@pytest.mark.parametrize("turned_away_for", REASONS)
async def test_a_payout_of_which_the_first_alone_was_carried_out_succeeds_by_our_question(
    shop: Shop, clock: FrozenClock, turned_away_for: str
) -> None:
    """Both have one id, of which Daraja carries out one, and its answer names the first's conversation."""
    payment_id, first, _ = await sent_twice(shop, clock, a_payout(), turned_away_for)
    await shop.call_back(first, payout_result(9, receipt=R1))
    answer = {"receipt": R1, "ReceiptNo": R1, "TransactionStatus": "Completed"}
    await answer_inquiry(shop, conversation="AG_b2c_9", **answer)
    row = await shop.row(payment_id)
    assert (row.status, row.receipt) == ("succeeded", R1)


async def test_a_reversal_that_an_answer_without_receipt_settles_is_disputed_by_what_the_first_had_said(
    shop: Shop, clock: FrozenClock
) -> None:
    payment_id, first, _ = await sent_twice(shop, clock, await received(shop))
    await shop.call_back(first, reversal_result(9, R1))
    await answer_inquiry(shop, conversation="AG_reversal_2", TransactionStatus="Completed")
    assert await shop.status(payment_id) == "disputed"


async def test_a_second_movement_is_a_dispute_also_when_the_other_was_given_back(
    shop: Shop, clock: FrozenClock
) -> None:
    payment_id, first, second = await pushed(shop, clock)
    await shop.call_back(second, stk_callback(2, receipt=RECEIVED))
    await open_payment(shop.core, shop.principal, a_reversal(RECEIVED))
    await send_due(shop.core)
    await shop.call_back(shop.daraja.of("reversal")[-1].body["ResultURL"], reversal_result(1, "SKE0000CC1"))
    assert await shop.status(payment_id) == "reversed"
    await shop.call_back(first, stk_callback(9, receipt=R1))
    assert await shop.status(payment_id) == "disputed"


@pytest.mark.parametrize("succeeded", [True, False])
async def test_what_a_person_decided_is_not_undone_by_a_callback_that_was_there_already(
    shop: Shop, clock: FrozenClock, succeeded: bool
) -> None:
    payment_id, first, second = await pushed(shop, clock)
    told = [(first, stk_callback(9, receipt=R1)), (second, stk_callback(2, receipt=R2))]
    for url, body in told:
        await shop.call_back(url, body)
    clock.advance(timedelta(minutes=1))
    decided = await resolve(shop, payment_id, succeeded=succeeded)
    for url, body in told:
        clock.advance(timedelta(minutes=1))
        await shop.call_back(url, body)
    assert await shop.status(payment_id) == decided
    await shop.call_back(first, stk_callback(9, receipt="SKE0000ZZ8"))
    assert await shop.status(payment_id) == "disputed"


@pytest.mark.parametrize("disputed", ["after it was given back", "while it is given back"])
async def test_what_was_given_back_is_reversed_again_once_its_dispute_is_decided(
    shop: Shop, clock: FrozenClock, disputed: str
) -> None:
    payment_id, first, second = await pushed(shop, clock)
    await shop.call_back(second, stk_callback(2, receipt=RECEIVED))
    await open_payment(shop.core, shop.principal, a_reversal(RECEIVED))
    await send_due(shop.core)
    told = [
        (shop.daraja.of("reversal")[-1].body["ResultURL"], reversal_result(1, "SKE0000CC1")),
        (first, stk_callback(9, receipt=R1)),
    ]
    for url, body in told if disputed.startswith("after") else reversed(told):
        await shop.call_back(url, body)
    assert await shop.status(payment_id) == "disputed"
    resolved = await resolve(shop, payment_id, succeeded=True)
    assert resolved == "reversed"


async def test_a_request_that_was_withdrawn_before_it_left_again_is_disputed_by_the_firsts_success(shop: Shop) -> None:
    payment_id = (await open_payment(shop.core, shop.principal, a_push())).payment.payment_id
    shop.daraja.order("stk_push", 404, TOKEN_REFUSED)
    await send_due(shop.core)
    organization_id = shop.principal.organization_id
    await withdraw_payment(shop.core, organization_id, payment_id, reason="Not wanted", actor="finance")
    assert await send_due(shop.core) == 0
    await shop.call_back(shop.daraja.of("stk_push")[0].body["CallBackURL"], stk_callback(9, receipt=R1))
    assert await shop.status(payment_id) == "disputed"


async def test_a_token_that_is_refused_again_after_something_else_is_replaced_again(
    shop: Shop, clock: FrozenClock
) -> None:
    payment_id, *_ = await sent_twice(shop, clock, a_payout(), "its token", second=TOO_FAST)
    clock.advance(timedelta(hours=2))
    shop.daraja.order("b2c", 404, TOKEN_REFUSED)
    await send_due(shop.core)
    assert await shop.status(payment_id) == "queued"
    await send_due(shop.core)
    assert await shop.status(payment_id) == "pending"


async def test_a_success_that_a_person_knew_of_disputes_what_they_decided_without_a_dispute(
    shop: Shop, clock: FrozenClock
) -> None:
    payment_id = (await open_payment(shop.core, shop.principal, a_push())).payment.payment_id
    shop.daraja.order("stk_push", *NO_ANSWER)
    await send_due(shop.core)
    url = shop.daraja.of("stk_push")[0].body["CallBackURL"]
    await shop.call_back(url, stk_callback(1, receipt=R1))
    clock.advance(timedelta(minutes=1))
    assert await resolve(shop, payment_id, succeeded=False) == "failed"
    await shop.call_back(url, stk_callback(1, receipt=R1))
    assert await shop.status(payment_id) == "disputed"


@pytest.mark.parametrize("when", ["before the reply", "after the reply", "after our question", "the reply lost"])
@pytest.mark.parametrize("request_of", [a_push, a_payout])
async def test_one_movement_called_back_twice_and_again_is_no_dispute(
    shop: Shop, clock: FrozenClock, request_of: Callable[[], PaymentRequest], when: str
) -> None:
    kind = "stk_push" if request_of is a_push else "b2c"
    body = stk_callback(2, receipt=R2) if request_of is a_push else payout_result(2, receipt=R2)

    async def overtake(call: Call) -> None:
        if call.operation == kind and len(shop.daraja.of(kind)) == 2 and when == "before the reply":
            for _ in range(2):
                await shop.post(call.body["CallBackURL" if request_of is a_push else "ResultURL"], body)

    async def confirm() -> None:
        answer_query(shop, C2, "0")
        await ask_due(shop.core)
        await send_due_inquiries(shop.core)
        if shop.daraja.of("transaction_status"):
            told = {"receipt": R2, "ReceiptNo": R2, "TransactionStatus": "Completed"}
            await answer_inquiry(shop, conversation="AG_b2c_2", **told)

    shop.daraja.on_call = overtake
    lost = NO_ANSWER if when == "the reply lost" else None
    payment_id, _, url = await sent_twice(shop, clock, request_of(), second=lost)
    clock.advance(timedelta(seconds=70))
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
