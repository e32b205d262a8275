"""Outcomes: what evidence does to a payment, once, twice, late, and in contradiction."""

from datetime import timedelta

import pytest
from sqlmodel import select

from mpesa_mcp import audit
from mpesa_mcp.daraja.codes import Verdict
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.outcomes import Evidence, apply_evidence
from mpesa_mcp.payments.requests import PaymentRequest
from mpesa_mcp.values import FrozenClock

from .factories import (
    Shop,
    a_payout,
    a_push,
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


async def a_sent_payment(shop: Shop, request: PaymentRequest | None = None) -> str:
    payment_id = (await open_payment(shop.core, shop.principal, request or a_push())).payment.payment_id
    await send_due(shop.core)
    return payment_id


def callback_url(shop: Shop) -> str:
    url: str = shop.daraja.of("stk_push")[-1].body["CallBackURL"]
    return url


def payout_url(shop: Shop) -> str:
    url: str = shop.daraja.of("b2c")[-1].body["ResultURL"]
    return url


def evidence(verdict: Verdict, *, receipt: str | None = None) -> Evidence:
    return Evidence(verdict=verdict, source="callback", code="0", reason="A reason.", receipt=receipt)


async def apply(shop: Shop, payment_id: str, said: Evidence) -> None:
    async with shop.core.store.session(shop.principal.organization_id) as session:
        await apply_evidence(shop.core, session, payment_id, said)


async def test_a_status_change_its_history_and_its_audit_entry_are_one_commit(shop: Shop) -> None:
    payment_id = await a_sent_payment(shop)
    await shop.call_back(callback_url(shop), stk_callback(receipt="SKE0000AA1"))
    row = await shop.row(payment_id)
    assert (row.status, row.receipt, row.result_code, row.next_action_at) == ("succeeded", "SKE0000AA1", "0", None)
    assert row.settled_at == shop.core.clock.now()
    assert await shop.events(payment_id) == [
        ("allowed", "queued"),
        ("attempt_committed", "sending"),
        ("accepted", "pending"),
        ("success", "succeeded"),
    ]
    async with shop.core.store.reading(shop.principal.organization_id) as session:
        entries = await session.all(select(audit.AuditEntry).where(audit.AuditEntry.subject == payment_id))
    assert {entry.action for entry in entries} == {
        "payment.opened",
        "payment.sending",
        "payment.pending",
        "payment.succeeded",
    }


async def test_a_change_that_is_rolled_back_leaves_the_payment_as_it_was(shop: Shop) -> None:
    payment_id = await a_sent_payment(shop)
    before = await shop.events(payment_id)
    with pytest.raises(LookupError):
        async with shop.core.store.session(shop.principal.organization_id) as session:
            await apply_evidence(shop.core, session, payment_id, evidence(Verdict.SUCCEEDED))
            raise LookupError
    assert await shop.status(payment_id) == "pending"
    assert await shop.events(payment_id) == before


@pytest.mark.parametrize(("verdict", "status"), [(Verdict.SUCCEEDED, "succeeded"), (Verdict.FAILED, "failed")])
async def test_repeated_evidence_changes_nothing_and_is_recorded(shop: Shop, verdict: Verdict, status: str) -> None:
    payment_id = await a_sent_payment(shop)
    await apply(shop, payment_id, evidence(verdict))
    settled = await shop.row(payment_id)
    await apply(shop, payment_id, evidence(verdict))
    again = await shop.row(payment_id)
    assert (again.status, again.updated_at, again.settled_at) == (status, settled.updated_at, settled.settled_at)
    assert (await shop.events(payment_id))[-1] == ({"succeeded": "success", "failed": "failure"}[status], None)


@pytest.mark.parametrize(("first", "then"), [(Verdict.FAILED, Verdict.SUCCEEDED), (Verdict.SUCCEEDED, Verdict.FAILED)])
async def test_a_final_answer_that_contradicts_is_a_dispute_and_stays_one(
    shop: Shop, first: Verdict, then: Verdict
) -> None:
    payment_id = await a_sent_payment(shop)
    await apply(shop, payment_id, evidence(first))
    await apply(shop, payment_id, evidence(then))
    assert await shop.status(payment_id) == "disputed"
    for verdict in Verdict:
        await apply(shop, payment_id, evidence(verdict))
    assert await shop.status(payment_id) == "disputed"
    assert (await shop.row(payment_id)).next_action_at is None


async def test_a_late_success_after_a_failure_is_a_dispute_with_the_receipt(shop: Shop) -> None:
    """Quirks 5 and 6: 1037, and minutes later the customer has paid after all."""
    payment_id = await a_sent_payment(shop)
    await shop.call_back(callback_url(shop), stk_callback(code=1037))
    assert await shop.status(payment_id) == "failed"
    await shop.call_back(callback_url(shop), stk_callback(receipt="SKE0000AA1"))
    row = await shop.row(payment_id)
    assert (row.status, row.receipt) == ("disputed", "SKE0000AA1")


async def test_a_failure_reported_after_a_query_said_success_is_a_dispute(shop: Shop, clock: FrozenClock) -> None:
    payment_id = await a_sent_payment(shop)
    await answer_query(shop, clock, code="0")
    assert await shop.status(payment_id) == "succeeded"
    await shop.call_back(callback_url(shop), stk_callback(code=1032))
    assert await shop.status(payment_id) == "disputed"


async def answer_query(shop: Shop, clock: FrozenClock, *, code: str, number: int = 1) -> None:
    """Lets the time of the next question come and answers it."""
    shop.daraja.order(
        "stk_query",
        200,
        {
            "ResponseCode": "0",
            "ResultCode": code,
            "CheckoutRequestID": f"ws_CO_{number}_700000001",
            "ResultDesc": "prose",
        },
    )
    clock.advance(timedelta(seconds=15))
    await ask_due(shop.core)


async def test_a_success_known_from_a_query_has_no_receipt_until_the_callback_brings_it(
    shop: Shop, clock: FrozenClock
) -> None:
    payment_id = await a_sent_payment(shop)
    await answer_query(shop, clock, code="0")
    row = await shop.row(payment_id)
    assert (row.status, row.receipt) == ("succeeded", None)
    await shop.call_back(callback_url(shop), stk_callback(receipt="SKE0000AA1"))
    row = await shop.row(payment_id)
    assert (row.status, row.receipt) == ("succeeded", "SKE0000AA1")
    assert (await shop.events(payment_id))[-1] == ("success", None)


async def test_a_receipt_once_known_is_not_replaced(shop: Shop) -> None:
    payment_id = await a_sent_payment(shop)
    await apply(shop, payment_id, evidence(Verdict.SUCCEEDED, receipt="SKE0000AA1"))
    await apply(shop, payment_id, evidence(Verdict.SUCCEEDED, receipt="SKE0000AA2"))
    assert (await shop.row(payment_id)).receipt == "SKE0000AA1"


async def test_the_receipt_of_another_payment_settles_nothing(shop: Shop) -> None:
    first = await a_sent_payment(shop, a_push(reference="INV-1"))
    second = await a_sent_payment(shop, a_push(reference="INV-2"))
    await apply(shop, first, evidence(Verdict.SUCCEEDED, receipt="SKE0000AA1"))
    await apply(shop, second, evidence(Verdict.SUCCEEDED, receipt="SKE0000AA1"))
    assert await shop.status(second) == "pending"
    assert (await shop.events(second))[-1] == ("receipt_taken", None)


async def test_an_unclear_answer_makes_a_pending_payment_unknown_and_due_at_once(shop: Shop) -> None:
    payment_id = await a_sent_payment(shop)
    await apply(shop, payment_id, evidence(Verdict.UNKNOWN))
    row = await shop.row(payment_id)
    assert (row.status, row.next_action_at) == ("unknown", shop.core.clock.now())


async def test_a_payout_that_daraja_calls_a_duplicate_is_asked_about_not_failed(shop: Shop, clock: FrozenClock) -> None:
    shop.daraja.order("b2c", 500, error("500.002.1001", "Duplicate OriginatorConversationID."))
    payment_id = await a_sent_payment(shop, a_payout())
    assert await shop.status(payment_id) == "unknown"
    clock.advance(timedelta(minutes=1))
    await ask_due(shop.core)
    await send_due_inquiries(shop.core)
    [asked] = shop.daraja.of("transaction_status")
    ours = (await shop.row(payment_id)).originator_conversation_id
    assert asked.body["OriginalConversationID"] == ours
    await shop.call_back(
        asked.body["ResultURL"],
        result(
            "AG_transaction_status_1",
            TransactionStatus="Completed",
            Amount="100",
            ReceiptNo="SKE0000BB1",
            OriginatorConversationID=ours,
        ),
    )
    row = await shop.row(payment_id)
    assert (row.status, row.receipt) == ("succeeded", "SKE0000BB1")
    assert len(shop.daraja.of("b2c")) == 1


@pytest.mark.parametrize("code", [15, 17, 26, 2029])
async def test_a_payout_whose_code_does_not_prove_that_nothing_moved_is_asked_about_at_once(
    shop: Shop, code: int
) -> None:
    payment_id = await a_sent_payment(shop, a_payout())
    await shop.call_back(payout_url(shop), payout_result(code=code))
    assert await shop.status(payment_id) == "unknown"
    await ask_due(shop.core)
    await send_due_inquiries(shop.core)
    [asked] = shop.daraja.of("transaction_status")
    assert asked.body["OriginalConversationID"] == (await shop.row(payment_id)).originator_conversation_id


@pytest.mark.parametrize("code", [15, 100000100])
async def test_a_push_whose_failure_nobody_documents_is_asked_about_at_once(
    shop: Shop, clock: FrozenClock, code: int
) -> None:
    payment_id = await a_sent_payment(shop)
    await shop.call_back(callback_url(shop), stk_callback(code=code))
    assert await shop.status(payment_id) == "unknown"
    await answer_query(shop, clock, code="0")
    assert await shop.status(payment_id) == "succeeded"


@pytest.mark.parametrize("code", ["999999", 77, "SOMETHING-NEW"])
async def test_a_code_that_is_not_listed_is_neither_success_nor_failure(shop: Shop, code: object) -> None:
    payment_id = await a_sent_payment(shop, a_payout())
    await shop.call_back(payout_url(shop), payout_result(code=code))
    assert await shop.status(payment_id) == "unknown"


async def test_evidence_for_what_waits_in_the_queue_again_keeps_it_from_being_sent(
    shop: Shop, clock: FrozenClock
) -> None:
    """The gateway said it was not submitted, and then Safaricom calls back about it."""
    shop.daraja.order_spike_arrest("stk_push")
    payment_id = await a_sent_payment(shop)
    assert await shop.status(payment_id) == "queued"
    await shop.call_back(callback_url(shop), stk_callback(receipt="SKE0000AA1"))
    assert await shop.status(payment_id) == "unknown"
    clock.advance(timedelta(seconds=30))
    assert await send_due(shop.core) == 0
    await answer_query(shop, clock, code="0")
    row = await shop.row(payment_id)
    assert (row.status, row.receipt, len(shop.daraja.of("stk_push"))) == ("succeeded", "SKE0000AA1", 1)


async def test_nothing_settles_twice_however_often_and_in_whatever_order_it_is_told(shop: Shop) -> None:
    payment_id = await a_sent_payment(shop)
    for _ in range(3):
        await shop.post(callback_url(shop), stk_callback(receipt="SKE0000AA1"))
    assert await apply_due(shop.core) == 3
    settled = [event for event in await shop.events(payment_id) if event[1] == "succeeded"]
    assert len(settled) == 1
    assert (await shop.events(payment_id))[-2:] == [("success", None), ("success", None)]
