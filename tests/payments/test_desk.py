"""What a person sees and decides: the list, resolving, withdrawing, and what may come after."""

from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

import anyio
import pytest
from sqlmodel import select

from mpesa_mcp import audit
from mpesa_mcp.daraja.codes import Verdict
from mpesa_mcp.errors import InputError, NotFoundError
from mpesa_mcp.payments.desk import (
    NotResolvable,
    NotWithdrawable,
    ReceiptTaken,
    ReversedOtherwise,
    ReviewItem,
    StillAsked,
    payments_to_review,
    resolve_payment,
    withdraw_payment,
)
from mpesa_mcp.payments.dispatch import claim_queued, send_payment
from mpesa_mcp.payments.inquiry_dispatch import claim_stale_inquiries, expire_inquiry
from mpesa_mcp.payments.intake import NotReversible, ReversalExists, open_payment
from mpesa_mcp.payments.outcomes import Evidence, apply_evidence
from mpesa_mcp.payments.reading import history_of
from mpesa_mcp.payments.records import PaymentRecord
from mpesa_mcp.payments.requests import PaymentRequest
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.values import FrozenClock

from .factories import (
    Shop,
    a_payout,
    a_push,
    a_reversal,
    a_row,
    ask_due,
    make_organization,
    payout_result,
    send_due,
    send_due_inquiries,
    stk_callback,
    store_rows,
)
from .fake_daraja import Call

pytestmark = pytest.mark.anyio

OPERATOR = "operator:tester"
RECEIPT = "SKE0000AA1"


async def sent(shop: Shop, request: PaymentRequest | None = None) -> str:
    payment_id = (await open_payment(shop.core, shop.principal, request or a_push())).payment.payment_id
    await send_due(shop.core)
    return payment_id


async def unknown(shop: Shop, request: PaymentRequest | None = None) -> str:
    request = request or a_push()
    shop.daraja.order_server_error(request.kind.value)
    payment_id = await sent(shop, request)
    assert await shop.status(payment_id) == "unknown"
    return payment_id


async def stored(shop: Shop, status: PaymentStatus, **values: Any) -> str:
    row = a_row(shop.principal.organization_id, shop.core.clock.now(), status=status, **values)
    payment_id = row.id
    await store_rows(shop, row)
    return payment_id


async def resolve(
    shop: Shop,
    payment_id: str,
    decision: str = "succeeded",
    *,
    reason: str = "Seen in the portal",
    receipt: str | None = None,
    although_asked: bool = False,
) -> PaymentRecord:
    return await resolve_payment(
        shop.core,
        shop.principal.organization_id,
        payment_id,
        succeeded=decision == "succeeded",
        reason=reason,
        receipt=receipt,
        although_asked=although_asked,
        actor=OPERATOR,
    )


async def withdraw(shop: Shop, payment_id: str, *, reason: str = "Ordered twice") -> PaymentRecord:
    return await withdraw_payment(shop.core, shop.principal.organization_id, payment_id, reason=reason, actor=OPERATOR)


async def listed(shop: Shop) -> list[ReviewItem]:
    return list(await payments_to_review(shop.core, shop.principal.organization_id))


async def run_out_of_questions(shop: Shop, clock: FrozenClock, payment_id: str) -> int:
    """Lets the whole schedule pass; how often the payment was looked at."""
    looked = 0
    while (at := (await shop.row(payment_id)).next_action_at) is not None:
        assert await listed(shop) == []
        clock.at = max(clock.at, at)
        looked += await ask_due(shop.core)
        assert looked < 40
    return looked


async def evidence(shop: Shop, payment_id: str, verdict: Verdict, receipt: str | None = None) -> None:
    said = Evidence(verdict=verdict, source="callback", code="0", reason="A reason.", receipt=receipt)
    async with shop.core.store.session(shop.principal.organization_id) as session:
        await apply_evidence(shop.core, session, payment_id, said)


@pytest.mark.parametrize(("kind", "looks"), [("stk_push", 22), ("reversal", 5)])
async def test_what_cannot_be_asked_about_is_listed_after_the_last_step_and_not_before(
    shop: Shop, clock: FrozenClock, kind: str, looks: int
) -> None:
    request: PaymentRequest = a_push(reference="INV-2")
    if kind == "reversal":
        await received(shop)
        request = a_reversal(RECEIPT)
    payment_id = await unknown(shop, request)
    assert await run_out_of_questions(shop, clock, payment_id) == looks
    [item] = await listed(shop)
    assert (item.payment.payment_id, item.payment.kind) == (payment_id, PaymentKind(kind))
    assert "a person must find out" in item.why


async def test_a_payout_is_listed_only_when_its_last_question_has_ended(shop: Shop, clock: FrozenClock) -> None:
    payment_id = await unknown(shop, a_payout())
    assert await run_out_of_questions_with_inquiries(shop, clock, payment_id) == 5
    [item] = await listed(shop)
    assert item.payment.payment_id == payment_id


async def run_out_of_questions_with_inquiries(shop: Shop, clock: FrozenClock, payment_id: str) -> int:
    """Every question is sent and never answered; how many were."""
    for _ in range(40):
        at = (await shop.row(payment_id)).next_action_at
        if at is None:
            break
        clock.at = max(clock.at, at)
        await ask_due(shop.core)
        await send_due_inquiries(shop.core)
        assert await listed(shop) == []
        clock.advance(timedelta(minutes=5))
        for claim in await claim_stale_inquiries(shop.core, 10):
            await expire_inquiry(shop.core, claim)
    return len(shop.daraja.of("transaction_status"))


async def test_a_question_that_could_not_be_asked_because_another_is_open_does_not_count(
    shop: Shop, clock: FrozenClock
) -> None:
    payment_id = await unknown(shop, a_payout())
    clock.advance(timedelta(minutes=1))
    await ask_due(shop.core)
    await send_due_inquiries(shop.core)
    clock.advance(timedelta(minutes=4, seconds=30))
    await ask_due(shop.core)
    row = await shop.row(payment_id)
    assert (row.ask_count, len(shop.daraja.of("transaction_status"))) == (1, 1)
    # It is looked at again just after the open question ends.
    assert row.next_action_at is not None
    assert timedelta(0) < row.next_action_at - clock.now() < timedelta(minutes=1)


async def test_disputes_and_late_successes_are_listed_and_settled_or_pending_ones_are_not(
    shop: Shop, clock: FrozenClock
) -> None:
    pending = await sent(shop, a_push(reference="PENDING"))
    disputed = await sent(shop, a_push(reference="DISPUTED"))
    await evidence(shop, disputed, Verdict.FAILED)
    clock.advance(timedelta(seconds=1))
    await evidence(shop, disputed, Verdict.SUCCEEDED)
    expired = await stored(shop, PaymentStatus.EXPIRED)
    for status in (PaymentStatus.SUCCEEDED, PaymentStatus.FAILED, PaymentStatus.EXPIRED, PaymentStatus.DECLINED):
        await stored(shop, status)
    clock.advance(timedelta(seconds=1))
    await evidence(shop, expired, Verdict.SUCCEEDED)
    items = await listed(shop)
    assert [item.payment.payment_id for item in items] == [disputed, expired]
    assert pending not in [item.payment.payment_id for item in items]
    assert (items[0].since, items[0].last_code) == (clock.now() - timedelta(seconds=1), "0")
    assert "both that this succeeded and that it did not" in items[0].why
    assert "after this had expired" in items[1].why


async def test_another_organizations_payments_are_not_listed_and_not_decided(shop: Shop) -> None:
    payment_id = await stored(shop, PaymentStatus.DISPUTED)
    other = await make_organization(shop.core, "globex")
    assert await payments_to_review(shop.core, other.organization_id) == []
    for organization_id, wanted in ((other.organization_id, payment_id), (shop.principal.organization_id, "pay_0")):
        with pytest.raises(NotFoundError):
            await withdraw_payment(shop.core, organization_id, wanted, reason="No", actor=OPERATOR)
        with pytest.raises(NotFoundError):
            await resolve_payment(
                shop.core, organization_id, wanted, succeeded=True, reason="No", receipt=None, actor=OPERATOR
            )


@pytest.mark.parametrize("decision", ["succeeded", "failed"])
@pytest.mark.parametrize("status", [PaymentStatus.UNKNOWN, PaymentStatus.DISPUTED])
async def test_a_decision_settles_and_stands_in_the_history_and_the_audit(
    shop: Shop, status: PaymentStatus, decision: str
) -> None:
    payment_id = await stored(shop, status, next_action_at=shop.core.clock.now())
    resolved = await resolve(shop, payment_id, decision, reason="Seen in the portal", although_asked=True)
    row = await shop.row(payment_id)
    assert (resolved.status, row.status, row.next_action_at) == (decision, decision, None)
    assert row.reason == f"A person decided that this {decision}."
    line = (await history_of(shop.core, shop.principal.organization_id, payment_id))[-1]
    assert (line.source, line.before, line.after, line.note) == ("person", status, decision, "Seen in the portal")
    async with shop.core.store.reading(shop.principal.organization_id) as session:
        entry = await session.first(select(audit.AuditEntry).where(audit.AuditEntry.subject == payment_id))
    assert entry is not None
    assert (entry.actor, entry.action, entry.reasons) == (OPERATOR, f"payment.{decision}", "Seen in the portal")
    assert await listed(shop) == []


@pytest.mark.parametrize("status", [each for each in PaymentStatus if each not in {"unknown", "disputed"}])
async def test_no_other_status_can_be_resolved_and_nothing_changes(shop: Shop, status: PaymentStatus) -> None:
    payment_id = await stored(shop, status)
    with pytest.raises(NotResolvable) as refused:
        await resolve(shop, payment_id)
    assert status in refused.value.message
    assert (await shop.status(payment_id), await shop.events(payment_id)) == (status, [])


@pytest.mark.parametrize("reason", ["", "x", " x ", "x" * 201, "two\nlines"])
async def test_a_decision_needs_a_reason_on_one_line(shop: Shop, reason: str) -> None:
    payment_id = await stored(shop, PaymentStatus.UNKNOWN)
    with pytest.raises(InputError):
        await resolve(shop, payment_id, reason=reason)
    with pytest.raises(InputError):
        await withdraw(shop, payment_id, reason=reason)
    assert await shop.status(payment_id) == "unknown"


async def test_a_receipt_is_checked_kept_and_belongs_to_one_payment(shop: Shop) -> None:
    await stored(shop, PaymentStatus.SUCCEEDED, receipt=RECEIPT)
    payment_id = await stored(shop, PaymentStatus.UNKNOWN)
    for receipt, decision in (("no receipt", "succeeded"), ("SKE0000AA2", "failed")):
        with pytest.raises(InputError):
            await resolve(shop, payment_id, decision, receipt=receipt)
    with pytest.raises(ReceiptTaken):
        await resolve(shop, payment_id, receipt=RECEIPT)
    assert await shop.status(payment_id) == "unknown"
    assert (await resolve(shop, payment_id, receipt="SKE0000AA2")).receipt == "SKE0000AA2"


async def received(shop: Shop) -> str:
    payment_id = await sent(shop)
    await shop.call_back(shop.daraja.of("stk_push")[-1].body["CallBackURL"], stk_callback(receipt=RECEIPT))
    assert await shop.status(payment_id) == "succeeded"
    return payment_id


async def test_a_reversal_resolved_as_succeeded_reverses_the_payment(shop: Shop) -> None:
    payment_id = await received(shop)
    reversal = await unknown(shop, a_reversal(RECEIPT))
    await resolve(shop, reversal, receipt="SKE0000CC1")
    assert await shop.status(payment_id) == "reversed"


async def test_a_receipt_that_another_reversal_gives_back_is_a_clear_conflict(shop: Shop) -> None:
    payment_id = await received(shop)
    first = await sent(shop, a_reversal(RECEIPT, key="first"))
    await evidence(shop, first, Verdict.FAILED)
    second = await sent(shop, a_reversal(RECEIPT, key="second"))
    await evidence(shop, first, Verdict.SUCCEEDED)
    assert await shop.status(first) == "disputed"
    with pytest.raises(ReversedOtherwise):
        await resolve(shop, first)
    assert (await shop.status(first), await shop.status(second)) == ("disputed", "pending")
    assert await shop.status(payment_id) == "succeeded"
    assert (await resolve(shop, first, "failed")).status == "failed"


@pytest.mark.parametrize(("decision", "then"), [("succeeded", Verdict.FAILED), ("failed", Verdict.SUCCEEDED)])
async def test_a_contradiction_after_a_decision_makes_a_dispute_again(shop: Shop, decision: str, then: Verdict) -> None:
    payment_id = await stored(shop, PaymentStatus.UNKNOWN)
    await resolve(shop, payment_id, decision)
    await evidence(shop, payment_id, then)
    assert await shop.status(payment_id) == "disputed"
    [item] = await listed(shop)
    assert item.payment.payment_id == payment_id


async def test_a_receipt_that_a_person_found_to_be_anothers_is_there_for_the_other(shop: Shop) -> None:
    one = await stored(shop, PaymentStatus.DISPUTED, receipt=RECEIPT)
    decided = await resolve(shop, one, "failed")
    assert (decided.status, decided.receipt) == ("failed", None)
    other = await sent(shop)
    await shop.call_back(shop.daraja.of("stk_push")[-1].body["CallBackURL"], stk_callback(receipt=RECEIPT))
    row = await shop.row(other)
    assert (row.status, row.receipt) == ("succeeded", RECEIPT)


async def test_agreement_after_a_decision_brings_the_receipt_and_changes_nothing(shop: Shop) -> None:
    payment_id = await stored(shop, PaymentStatus.UNKNOWN)
    await resolve(shop, payment_id)
    await evidence(shop, payment_id, Verdict.SUCCEEDED, RECEIPT)
    row = await shop.row(payment_id)
    assert (row.status, row.receipt) == ("succeeded", RECEIPT)


async def test_what_callbacks_had_claimed_does_not_undo_a_persons_decision(shop: Shop) -> None:
    payment_id = await unknown(shop, a_payout())
    await shop.call_back(shop.daraja.of("b2c")[0].body["ResultURL"], payout_result())
    assert await shop.status(payment_id) == "unknown"
    assert (await resolve(shop, payment_id, "failed", although_asked=True)).status == "failed"


async def test_who_calls_a_payment_failed_waits_for_the_last_question_or_insists(
    shop: Shop, clock: FrozenClock
) -> None:
    """It would be paid again, and the first may still succeed. A success may be told at any time."""
    payment_id = await unknown(shop, a_payout())
    other = await unknown(shop, a_payout(key="payout-2"))
    with pytest.raises(StillAsked):
        await resolve(shop, payment_id, "failed")
    assert await shop.status(payment_id) == "unknown"
    assert (await resolve(shop, other, receipt=RECEIPT)).status == "succeeded"
    await run_out_of_questions_with_inquiries(shop, clock, payment_id)
    assert (await resolve(shop, payment_id, "failed")).status == "failed"


async def test_two_people_decide_once(shop: Shop) -> None:
    payment_id = await stored(shop, PaymentStatus.UNKNOWN)
    outcomes: list[str] = []

    async def decide(decision: str) -> None:
        try:
            outcomes.append((await resolve(shop, payment_id, decision)).status)
        except NotResolvable:
            outcomes.append("refused")

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for decision in ("succeeded", "failed") * 5:
                group.start_soon(decide, decision)
    assert outcomes.count("refused") == 9
    assert await shop.status(payment_id) in outcomes


async def test_a_decision_about_a_reversal_and_a_new_one_at_once_leave_one_reversal(shop: Shop) -> None:
    """Both hold the reversal and the payment it reverses; they take them in one order, so neither waits for ever."""
    await received(shop)
    first = await sent(shop, a_reversal(RECEIPT, key="first"))
    for verdict in (Verdict.FAILED, Verdict.SUCCEEDED):
        await evidence(shop, first, verdict)
    refused: list[type[Exception]] = []

    async def attempt(act: Awaitable[object]) -> None:
        try:
            await act
        except (ReversedOtherwise, ReversalExists, NotReversible) as no:
            refused.append(type(no))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(attempt, resolve(shop, first))
            group.start_soon(attempt, open_payment(shop.core, shop.principal, a_reversal(RECEIPT, key="second")))
    # Intake refuses a second one beside a dispute, so the decision always stands.
    assert len(refused) == 1
    assert refused[0] is not ReversedOtherwise
    assert await shop.status(first) == "succeeded"


async def test_a_queued_payment_is_withdrawn_and_never_sent(shop: Shop) -> None:
    payment_id = (await open_payment(shop.core, shop.principal, a_payout())).payment.payment_id
    withdrawn = await withdraw(shop, payment_id)
    assert (withdrawn.status, withdrawn.reason) == ("expired", "A person withdrew it before it was sent.")
    assert await send_due(shop.core) == 0
    assert shop.daraja.calls == []
    line = (await history_of(shop.core, shop.principal.organization_id, payment_id))[-1]
    assert (line.event, line.source, line.note) == ("withdrawn", "person", "Ordered twice")


async def test_what_a_sender_has_taken_but_not_sent_can_still_be_withdrawn(shop: Shop) -> None:
    payment_id = (await open_payment(shop.core, shop.principal, a_payout())).payment.payment_id
    [claim] = await claim_queued(shop.core, 1)
    await withdraw(shop, payment_id)
    await send_payment(shop.core, claim)
    assert (shop.daraja.calls, await shop.status(payment_id)) == ([], "expired")


async def test_what_is_on_its_way_has_left_already(shop: Shop) -> None:
    refusals: list[str] = []

    async def withdraw_now(_call: Call) -> None:
        with pytest.raises(NotWithdrawable) as refused:
            await withdraw(shop, payment_id)
        refusals.append(refused.value.message)

    payment_id = (await open_payment(shop.core, shop.principal, a_payout())).payment.payment_id
    shop.daraja.on_call = withdraw_now
    await send_due(shop.core)
    assert refusals == ["It has left already: it is sending. Nothing was changed."]
    assert await shop.status(payment_id) == "pending"


async def test_what_never_left_and_is_not_queued_is_not_withdrawn(shop: Shop) -> None:
    payment_id = await stored(shop, PaymentStatus.EXPIRED)
    with pytest.raises(NotWithdrawable) as refused:
        await withdraw(shop, payment_id)
    assert refused.value.message == "It is not waiting to be sent: it is expired. Nothing was changed."
