"""The inbox in time: before our reply, without one, twice, by two workers, and about a reversal."""

from datetime import timedelta
from typing import Any

import anyio
import pytest

from mpesa_mcp.callbacks.inbox import apply_callback, claim_stored
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.questions import questions_about
from mpesa_mcp.payments.replies import conclude_send
from mpesa_mcp.payments.schedule import SEND_LEASE
from mpesa_mcp.values import FrozenClock

from .factories import (
    NOT_SENT,
    OTHER_PHONE,
    UNCLEAR,
    Sent,
    a_payout,
    a_push,
    a_reversal,
    accepted,
    apply_due,
    attempt_of,
    callbacks_stored,
    hints_of,
    last_event,
    payment_of,
    receive,
    result_body,
    send,
    status_of,
    stk_body,
    store_callback,
)

pytestmark = pytest.mark.anyio


async def a_pending_push(core: Core, merchant: Principal) -> Sent:
    return await send(core, merchant, a_push(), accepted())


@pytest.mark.parametrize(
    "body",
    [stk_body(MpesaReceiptNumber=None), stk_body(Amount=None), stk_body(Amount="a lot")],
    ids=["no receipt", "no amount", "unreadable amount"],
)
async def test_a_success_that_does_not_say_what_moved_waits_for_our_own_question(
    core: Core, merchant: Principal, body: dict[str, Any]
) -> None:
    sent = await a_pending_push(core, merchant)
    assert (await receive(core, merchant, sent, body)).status == "unconfirmed"
    payment = await payment_of(core, merchant, sent)
    assert (payment.status, payment.next_action_at) == ("pending", core.clock.now())


@pytest.mark.parametrize("body", [stk_body(), stk_body(code=1032)], ids=["success", "failure"])
async def test_without_an_accepted_reply_a_callback_is_a_hint(
    core: Core, merchant: Principal, body: dict[str, Any]
) -> None:
    sent = await send(core, merchant, a_push(), UNCLEAR)
    assert (await receive(core, merchant, sent, body)).status == "unconfirmed"
    payment = await payment_of(core, merchant, sent)
    assert (payment.status, payment.receipt, payment.next_action_at) == ("unknown", None, core.clock.now())
    assert (await attempt_of(core, merchant, sent)).checkout_request_id is None
    [hint] = await hints_of(core, merchant, sent)
    assert (hint.checkout_request_id, hint.merchant_request_id) == ("ws_CO_1_700000001", "merchant-1")


async def test_a_callback_about_a_send_that_was_not_sent_keeps_the_payment_from_the_next_send(
    core: Core, merchant: Principal
) -> None:
    sent = await send(core, merchant, a_payout(), NOT_SENT)
    assert await status_of(core, merchant, sent) == "queued"
    await receive(core, merchant, sent, result_body())
    assert await status_of(core, merchant, sent) == "unknown"


async def test_a_callback_that_overtakes_our_reply_waits_for_it(
    core: Core, merchant: Principal, clock: FrozenClock
) -> None:
    sent = await send(core, merchant, a_push())
    callback = await receive(core, merchant, sent, stk_body())
    assert (callback.status, await status_of(core, merchant, sent)) == ("stored", "sending")
    assert callback.next_action_at == clock.now() + timedelta(milliseconds=200)
    clock.advance(timedelta(seconds=1))
    await apply_due(core)
    assert await status_of(core, merchant, sent) == "sending"
    await conclude_send(core, sent.claim, sent.attempt_id, accepted())
    clock.advance(timedelta(seconds=1))
    await apply_due(core)
    payment = await payment_of(core, merchant, sent)
    # It could not know what the reply would say: our own question must confirm it, at once.
    assert (payment.status, payment.receipt, payment.next_action_at) == ("pending", None, clock.now())
    assert "must confirm" in (payment.reason or "")
    [hint] = await hints_of(core, merchant, sent)
    assert hint.receipt == "SKE0000AA1"


async def test_without_a_reply_a_callback_waits_for_the_end_of_the_lease_and_is_then_a_hint(
    core: Core, merchant: Principal, clock: FrozenClock
) -> None:
    sent = await send(core, merchant, a_push())
    clock.advance(SEND_LEASE - timedelta(milliseconds=100))
    callback = await receive(core, merchant, sent, stk_body())
    assert (callback.status, callback.next_action_at) == ("stored", clock.now() + timedelta(milliseconds=100))
    clock.advance(timedelta(milliseconds=100))
    await apply_due(core)
    [callback] = await callbacks_stored(core, merchant)
    assert (callback.status, await status_of(core, merchant, sent)) == ("unconfirmed", "unknown")
    payment = await payment_of(core, merchant, sent)
    # Due at once: the hint's id is asked about next.
    assert (payment.status, payment.next_action_at) == ("unknown", clock.now())


async def test_a_callback_whose_sender_died_is_looked_at_ever_more_rarely_until_the_lease_ends(
    core: Core, merchant: Principal, clock: FrozenClock
) -> None:
    sent = await send(core, merchant, a_push())
    ends_at = clock.now() + SEND_LEASE
    callback = await receive(core, merchant, sent, stk_body())
    looks = 1
    while clock.now() < ends_at:
        assert callback.next_action_at is not None
        assert callback.next_action_at <= ends_at
        clock.at = callback.next_action_at
        looks += await apply_due(core)
        [callback] = await callbacks_stored(core, merchant)
    assert callback.status == "unconfirmed"
    assert looks < 25


async def test_a_success_that_names_our_id_but_no_amount_keeps_its_receipt_for_our_question(
    core: Core, merchant: Principal
) -> None:
    sent = await a_pending_push(core, merchant)
    assert (await receive(core, merchant, sent, stk_body(Amount=None))).status == "unconfirmed"
    async with core.store.reading(merchant.organization_id) as session:
        [question] = await questions_about(session, await payment_of(core, merchant, sent))
    assert question.checkout_request_id == "ws_CO_1_700000001"
    assert [hint.receipt for hint in question.hints] == ["SKE0000AA1"]


async def test_the_same_callback_three_times_settles_once(core: Core, merchant: Principal) -> None:
    sent = await a_pending_push(core, merchant)
    callbacks = [await receive(core, merchant, sent, stk_body()) for _ in range(3)]
    assert [callback.status for callback in callbacks] == ["applied"] * 3
    payment = await payment_of(core, merchant, sent)
    assert (payment.status, payment.receipt) == ("succeeded", "SKE0000AA1")
    assert await last_event(core, merchant, sent) == ("success", None)


async def test_a_callback_taken_by_two_workers_is_applied_by_the_later_one_only(
    core: Core, merchant: Principal, clock: FrozenClock
) -> None:
    sent = await send(core, merchant, a_push())
    await receive(core, merchant, sent, stk_body())
    await conclude_send(core, sent.claim, sent.attempt_id, accepted())
    clock.advance(timedelta(seconds=1))
    [slow] = await claim_stored(core, 10)
    clock.advance(timedelta(seconds=31))
    [quick] = await claim_stored(core, 10)
    await apply_callback(core, slow)
    assert await status_of(core, merchant, sent) == "pending"
    await apply_callback(core, quick)
    assert await status_of(core, merchant, sent) == "succeeded"
    await apply_callback(core, quick)
    assert await last_event(core, merchant, sent) == ("success", "succeeded")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"OriginalTransactionID": "SKE0000AA9"}, "original_receipt"),
        ({"Amount": 101}, "amount"),
        ({"CreditPartyPublicName": f"{OTHER_PHONE} - JANE DOE"}, "phone"),
    ],
)
async def test_a_reversal_result_that_disagrees_reverses_nothing(
    core: Core, merchant: Principal, changed: dict[str, object], field: str
) -> None:
    push = await a_pending_push(core, merchant)
    await receive(core, merchant, push, stk_body())
    sent = await send(core, merchant, a_reversal("SKE0000AA1"), accepted(2))
    said = {"OriginalTransactionID": "SKE0000AA1", "Amount": 100, "TransactionReceipt": None, "TransactionAmount": None}
    callback = await receive(
        core, merchant, sent, result_body(2, parameters=said | changed, TransactionID="SKE0000CC1")
    )
    assert (callback.status, callback.note) == ("mismatched", f"disagrees in: {field}")
    assert (await status_of(core, merchant, sent), await status_of(core, merchant, push)) == ("pending", "succeeded")
    await receive(core, merchant, sent, result_body(2, parameters=said, TransactionID="SKE0000CC1"))
    assert (await status_of(core, merchant, sent), await status_of(core, merchant, push)) == ("succeeded", "reversed")


async def test_that_a_payment_was_reversed_earlier_does_not_say_by_whom(core: Core, merchant: Principal) -> None:
    push = await a_pending_push(core, merchant)
    await receive(core, merchant, push, stk_body())
    sent = await send(core, merchant, a_reversal("SKE0000AA1"), accepted(2))
    await receive(core, merchant, sent, result_body(2, code="R000001", ResultParameters=None))
    assert (await status_of(core, merchant, sent), await status_of(core, merchant, push)) == ("unknown", "succeeded")


async def test_a_failure_and_an_unconfirmed_success_at_the_same_moment_are_always_a_dispute(
    core: Core, merchant: Principal, clock: FrozenClock
) -> None:
    """Two workers, two callbacks of one payment: whichever comes second sees what the first has written."""
    payments = []
    for number in range(1, 9):
        sent = await send(core, merchant, a_push(reference=f"INV-{number}"), accepted(number))
        success = stk_body(number, MerchantRequestID=None, CheckoutRequestID=None)
        for body in (stk_body(number, code=1032), success):
            await store_callback(core, merchant, sent, body)
        payments.append(sent)
    claims = await claim_stored(core, 100)
    assert len(claims) == 16
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for claim in claims:
                group.start_soon(apply_callback, core, claim)
    assert [await status_of(core, merchant, sent) for sent in payments] == ["disputed"] * 8
