"""Batches without a worker: stored whole or not at all, made into payments row by row, stopped, tried again."""

import csv
import io
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy import update
from sqlmodel import col, select

from mpesa_mcp.billing.plans import PlanRecord, create_plan
from mpesa_mcp.billing.subscriptions import SubscriptionChange, set_subscription
from mpesa_mcp.callbacks.inbox import apply_callback, claim_stored
from mpesa_mcp.identity.principal import Actor, NotAllowed
from mpesa_mcp.payments.batches import feeder, submission
from mpesa_mcp.payments.batches.control import (
    BatchVoid,
    NotPossibleNow,
    cancel_batch,
    pause_batch,
    resume_batch,
)
from mpesa_mcp.payments.batches.feeder import MADE_AT_ONCE, claim_batches, feed_batch
from mpesa_mcp.payments.batches.models import BatchLine
from mpesa_mcp.payments.batches.problems import BatchInvalid
from mpesa_mcp.payments.batches.reading import BatchRecord, find_batch, unpaid_lines
from mpesa_mcp.payments.batches.results import result_csv
from mpesa_mcp.payments.batches.retrying import NothingToRetry, retry_batch
from mpesa_mcp.payments.batches.rows import GivenRow
from mpesa_mcp.payments.batches.states import BatchStatus, Outcome
from mpesa_mcp.payments.batches.submission import (
    BatchRequest,
    BatchTooLarge,
    submit_batch,
)
from mpesa_mcp.payments.desk import withdraw_payment
from mpesa_mcp.payments.dispatch import claim_queued, send_payment
from mpesa_mcp.payments.held import sendable
from mpesa_mcp.payments.intake import IdempotencyConflict, TooManyAtOnce, open_payment
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.states import PaymentStatus
from mpesa_mcp.payments.waiting import is_held, wait
from mpesa_mcp.policy.counters import used_so_far
from mpesa_mcp.policy.rules import Place, Used
from mpesa_mcp.policy.windows import Window
from mpesa_mcp.values import FrozenClock, Kes, Role
from tests.spending import give_rule, give_wide_rules

from .factories import Shop, a_payout, a_principal, a_row, apply_due, result, send_due, store_rows
from .fake_daraja import Call

pytestmark = pytest.mark.anyio

FAILED, INSUFFICIENT, LOCKED = "2040", "1", "8006"
FEW, FEW_QUEUED = 20, 50


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of a real round; that a whole one can be made is a test of its own."""
    monkeypatch.setattr(feeder, "MADE_AT_ONCE", FEW)
    monkeypatch.setattr(feeder, "MOST_QUEUED", FEW_QUEUED)


def rows(count: int, *, first: int = 1, **values: Any) -> list[GivenRow]:
    return [
        GivenRow(line, f"0712{line:06d}", values.get("amount", 100), "SAL-11", "November salary")
        for line in range(first, first + count)
    ]


def a_batch(given: Sequence[GivenRow], *, key: str = "payroll-11", **values: Any) -> BatchRequest:
    return BatchRequest(name="November payroll", rows=given, idempotency_key=key, **values)


async def submitted(shop: Shop, request: BatchRequest) -> BatchRecord:
    return (await submit_batch(shop.core, shop.principal, request)).batch


async def feed(shop: Shop) -> int:
    """One round of the feeder; how many batches were due."""
    claims = await claim_batches(shop.core, 10)
    for claim in claims:
        await feed_batch(shop.core, claim)
    return len(claims)


async def payments(shop: Shop) -> list[Payment]:
    async with shop.core.store.reading(shop.principal.organization_id) as session:
        return list(await session.all(select(Payment).order_by(col(Payment.idempotency_key))))


async def end(shop: Shop, payment: Payment, code: str) -> None:
    """Safaricom tells the end of a payment that was sent, and the inbox hears it."""
    await tell_end(shop, payment, code)
    await apply_due(shop.core)


async def tell_end(shop: Shop, payment: Payment, code: str) -> None:
    number = [call.body["OriginatorConversationID"] for call in shop.daraja.of("b2c")].index(
        payment.originator_conversation_id
    )
    url = shop.daraja.of("b2c")[number].body["ResultURL"]
    receipt = f"SKE{number:05d}AA"
    said = result(
        f"AG_b2c_{number + 1}",
        code=int(code),
        receipt=receipt,
        TransactionAmount=payment.amount_cents // 100,
        TransactionReceipt=receipt,
        ReceiverPartyPublicName=f"{payment.phone} - JANE DOE",
    )
    await shop.post(url, said)


async def state(shop: Shop, batch: BatchRecord) -> tuple[BatchStatus, dict[str, int]]:
    found = await find_batch(shop.core, shop.principal, batch.batch_id)
    return found.status, {outcome.value: each.count for outcome, each in found.totals.by_outcome.items()}


async def control(shop: Shop, what: Callable[..., Any], batch: BatchRecord) -> BatchRecord:
    record: BatchRecord = await what(shop.core, shop.principal.organization_id, batch.batch_id, actor="user:jane")
    return record


async def test_a_batch_with_any_bad_row_stores_nothing_and_tells_every_line(shop: Shop) -> None:
    await open_payment(shop.core, shop.principal, a_payout(phone="254712000003"))
    old = shop.core.clock.now()
    await store_rows(
        shop,
        a_row(shop.principal.organization_id, old, kind="b2c", phone="254712000004", status="failed"),
    )
    given = [*rows(4), GivenRow(5, "12", 100, "SAL-11", "x")]
    with pytest.raises(BatchInvalid) as refused:
        await submitted(shop, a_batch(given, expected_count=6, expected_total=Kes.from_shillings(500)))
    assert [(each.line, each.field, each.code) for each in refused.value.problems] == [
        (None, "expected_count", "count_differs"),
        (3, "amount", "repeated"),
        (5, "phone", "bad_phone"),
        (5, "remarks", "bad_remarks"),
    ]
    assert await feed(shop) == 0
    assert len(await payments(shop)) == 2

    batch = await submitted(shop, a_batch(given, skip_invalid=True, expected_count=5))
    assert (batch.count, batch.amount) == (3, Kes.from_shillings(300))
    assert await state(shop, batch) == (BatchStatus.RUNNING, {"rejected": 2, "waiting": 3})


async def test_the_same_file_under_the_same_key_is_the_same_batch_and_another_one_is_a_conflict(shop: Shop) -> None:
    first = await submit_batch(shop.core, shop.principal, a_batch(rows(3)))
    again = await submit_batch(shop.core, shop.principal, a_batch(rows(3)))
    assert (again.batch.batch_id, first.replayed, again.replayed) == (first.batch.batch_id, False, True)
    with pytest.raises(IdempotencyConflict) as refused:
        await submitted(shop, a_batch(rows(3, amount=101), purpose="salary"))
    assert refused.value.fields == ["purpose", "payments"]
    assert f"was used for {first.batch.batch_id}, with purpose business, other payments." in refused.value.message
    with pytest.raises(IdempotencyConflict) as other:
        await submitted(shop, a_batch(rows(3), expected_count=4, expected_total=Kes.from_shillings(301)))
    assert other.value.fields == ["expected_count", "expected_total"]
    as_it_is = a_batch(rows(3), expected_count=3, expected_total=Kes.from_shillings(300))
    assert (await submit_batch(shop.core, shop.principal, as_it_is)).replayed
    # Under another key the rows that wait are as good as paid.
    with pytest.raises(BatchInvalid) as repeated:
        await submitted(shop, a_batch(rows(3), key="payroll-12"))
    assert [each.code for each in repeated.value.problems] == ["repeated"] * 3
    await feed(shop)
    assert len(await payments(shop)) == 3


async def test_only_a_manager_submits_and_no_more_rows_than_the_plan_allows(shop: Shop) -> None:
    user = a_principal(shop.principal.organization_id, role=Role.USER)
    with pytest.raises(NotAllowed):
        await submit_batch(shop.core, user, a_batch(rows(1)))
    store, clock, operator = shop.core.store, shop.core.clock, Actor("operator:tester", None)
    plan = PlanRecord(slug="small", monthly_fee=Kes(0), largest_batch=2)
    await create_plan(store, clock, name="Small", plan=plan, actor=operator)
    change = SubscriptionChange(plan="small")
    organization_id = shop.principal.organization_id
    await set_subscription(store, clock, organization_id=organization_id, change=change, actor=operator)
    with pytest.raises(BatchTooLarge, match=r"These are [\d,]+ payments, .* at most [\d,]+\."):
        await submitted(shop, a_batch(rows(3)))
    assert (await submitted(shop, a_batch(rows(2)))).count == 2


@pytest.mark.usefixtures("few_at_once")
async def test_rows_become_payments_some_at_a_time_and_each_once(shop: Shop, clock: FrozenClock) -> None:
    """And whoever comes with a claim that another has taken over makes none."""
    await give_wide_rules(shop.core, shop.principal.organization_id)
    batch = await submitted(shop, a_batch(rows(FEW_QUEUED + 30)))
    [stale] = await claim_batches(shop.core, 10)
    clock.advance(timedelta(minutes=2))
    made = []
    for _ in range(4):
        await feed(shop)
        await feed_batch(shop.core, stale)
        made.append(len(await payments(shop)))
    assert made == [FEW, 2 * FEW, 2 * FEW, 2 * FEW]
    found = await payments(shop)
    assert len({payment.idempotency_key for payment in found}) == len(found)
    assert found[0].idempotency_key == f"{batch.batch_id}-1"
    assert {payment.batch_id for payment in found} == {batch.batch_id}
    assert await state(shop, batch) == (BatchStatus.RUNNING, {"waiting": FEW_QUEUED + 30})


async def test_a_whole_round_is_made_in_one_transaction(shop: Shop) -> None:
    await give_wide_rules(shop.core, shop.principal.organization_id)
    await submitted(shop, a_batch(rows(MADE_AT_ONCE + 1)))
    await feed(shop)
    assert len(await payments(shop)) == MADE_AT_ONCE


async def test_a_bad_end_of_one_row_stops_no_other_and_the_batch_is_what_its_rows_are(shop: Shop) -> None:
    batch = await submitted(shop, a_batch(rows(3)))
    await feed(shop)
    assert await send_due(shop.core) == 3
    assert await state(shop, batch) == (BatchStatus.RUNNING, {"in_progress": 3})
    one, two, three = await payments(shop)
    await end(shop, one, "0")
    await end(shop, two, FAILED)
    await end(shop, three, "17")
    assert await state(shop, batch) == (BatchStatus.UNRESOLVED, {"succeeded": 1, "failed": 1, "unknown": 1})

    # Only what is proven failed is tried again; a late success in the meantime keeps it from being paid twice.
    retried = await control(shop, retry_batch, batch)
    assert retried.totals[Outcome.WAITING].count == 1
    await feed(shop)
    assert await send_due(shop.core) == 1
    again = next(p for p in await payments(shop) if p.id not in {one.id, two.id, three.id})
    assert (again.idempotency_key, again.phone) == (f"{batch.batch_id}-2-2", two.phone)
    await end(shop, again, "0")
    assert await state(shop, batch) == (BatchStatus.UNRESOLVED, {"succeeded": 2, "unknown": 1})
    with pytest.raises(NothingToRetry):
        await control(shop, retry_batch, batch)


async def test_of_a_row_that_is_tried_again_the_newest_payment_is_sent_whoever_else_is_looked_at_with_it(
    shop: Shop,
) -> None:
    batch = await submitted(shop, a_batch(rows(1)))
    await feed(shop)
    await send_due(shop.core)
    [earlier] = await payments(shop)
    await end(shop, earlier, FAILED)
    await control(shop, retry_batch, batch)
    await feed(shop)
    [newest] = [each for each in await payments(shop) if each.id != earlier.id]
    async with shop.core.store.reading(shop.principal.organization_id) as session:
        for looked_at in ([earlier, newest], [newest, earlier]):
            assert await sendable(session, looked_at) == {newest.id}


async def test_a_row_that_turns_out_paid_before_it_is_tried_again_is_not_paid_twice(shop: Shop) -> None:
    batch = await submitted(shop, a_batch(rows(1)))
    await feed(shop)
    await send_due(shop.core)
    [payment] = await payments(shop)
    await end(shop, payment, FAILED)
    await control(shop, retry_batch, batch)
    await end(shop, payment, "0")
    await feed(shop)
    assert [p.status for p in await payments(shop)] == ["disputed"]
    assert await state(shop, batch) == (BatchStatus.UNRESOLVED, {"disputed": 1})


async def test_nothing_leaves_a_paused_batch_not_even_what_a_worker_has_taken(shop: Shop, clock: FrozenClock) -> None:
    batch = await submitted(shop, a_batch(rows(3)))
    await feed(shop)
    [taken, *_] = await claim_queued(shop.core, 1)
    paused = await control(shop, pause_batch, batch)
    assert (paused.status, (await control(shop, pause_batch, batch)).status) == (BatchStatus.PAUSED, BatchStatus.PAUSED)
    await send_payment(shop.core, taken)
    clock.advance(timedelta(minutes=2))
    assert await send_due(shop.core) == 0
    assert shop.daraja.of("b2c") == []
    resumed = await control(shop, resume_batch, batch)
    assert resumed.status is BatchStatus.RUNNING
    assert await send_due(shop.core) == 3


async def turned_away_while_paused(shop: Shop) -> BatchRecord:
    """A batch of one row that was paused while the row was on its way, and turned away."""
    batch = await submitted(shop, a_batch(rows(1)))
    await feed(shop)

    async def pause(_call: Call) -> None:
        await control(shop, pause_batch, batch)

    shop.daraja.on_call = pause
    shop.daraja.order_spike_arrest("b2c")
    await send_due(shop.core)
    shop.daraja.on_call = None
    return batch


async def test_who_took_a_payment_while_its_batch_was_paused_does_not_put_it_away_after_it_goes_on(
    shop: Shop, clock: FrozenClock
) -> None:
    """On PostgreSQL he may find the batch paused, and write only after somebody else has let it go on."""
    batch = await turned_away_while_paused(shop)
    clock.advance(timedelta(seconds=2))
    [slow] = await claim_queued(shop.core, 1)
    await control(shop, resume_batch, batch)
    async with shop.core.store.session(shop.principal.organization_id) as session:
        await wait(session, None, is_held(slow))
    await send_due(shop.core)
    assert await state(shop, batch) == (BatchStatus.RUNNING, {"in_progress": 1})


async def test_rows_and_payments_that_were_changed_alike_while_a_batch_was_paused_are_not_sent(shop: Shop) -> None:
    batch = await submitted(shop, a_batch(rows(3)))
    await feed(shop)
    await control(shop, pause_batch, batch)
    async with shop.core.store.session(shop.principal.organization_id) as session:
        for table in (BatchLine, Payment):
            edited = update(table).where(col(table.batch_id) == batch.batch_id, col(table.phone) == "254712000002")
            await session.change(edited.values(phone="254733000000"))
    with pytest.raises(BatchVoid, match="not those that were checked"):
        await control(shop, resume_batch, batch)
    while await feed(shop):
        pass
    assert await send_due(shop.core) == 0
    assert await state(shop, batch) == (BatchStatus.VOID, {"cancelled": 3})


async def test_five_refusals_in_a_row_for_reasons_of_ours_stop_the_batch_before_a_sixth_is_under_way(
    shop: Shop, clock: FrozenClock
) -> None:
    """Others in between do not stop it; and once a row is paid nothing holds it back any more."""

    async def sent() -> int:
        """How many have been sent, once everything has been that may be."""
        clock.advance(timedelta(seconds=1))
        for _ in range(5):
            await send_due(shop.core)
        return len(shop.daraja.of("b2c"))

    async def answered(*codes: str) -> None:
        under_way = [payment for payment in await payments(shop) if payment.status == PaymentStatus.PENDING]
        for payment, code in zip(under_way, codes, strict=False):
            clock.advance(timedelta(seconds=1))
            await end(shop, payment, code)

    batch = await submitted(shop, a_batch(rows(24)))
    await feed(shop)
    assert [await sent(), await sent()] == [5, 5]
    await answered(*[LOCKED] * 4)
    assert await sent() == 5  # the fifth decides
    await answered(FAILED)
    assert await sent() == 10
    await answered(INSUFFICIENT, "2001", "21", LOCKED)
    assert ((await state(shop, batch))[0], await sent()) == (BatchStatus.RUNNING, 10)
    await answered(LOCKED)
    stopped = await find_batch(shop.core, shop.principal, batch.batch_id)
    assert (stopped.status, stopped.totals[Outcome.WAITING].count) == (BatchStatus.PAUSED, 14)
    assert stopped.reason is not None and "locked" in stopped.reason
    assert await sent() == 10

    # Let go again, it takes five more; and rows that failed wait for a decision of their own.
    await control(shop, resume_batch, batch)
    assert await sent() == 15
    await answered("0")
    assert await sent() == 24
    retried = await control(shop, retry_batch, batch)
    assert retried.totals[Outcome.WAITING].count == 10


async def test_refusals_that_are_heard_of_at_the_same_moment_stop_the_batch_too(shop: Shop) -> None:
    """On PostgreSQL each is heard of in a transaction of its own, which does not see the others'."""
    batch = await submitted(shop, a_batch(rows(6)))
    await feed(shop)
    await send_due(shop.core)
    for payment in await payments(shop):
        if payment.status == PaymentStatus.PENDING:
            await tell_end(shop, payment, LOCKED)
    async with anyio.create_task_group() as group:
        for claim in await claim_stored(shop.core, 10):
            group.start_soon(apply_callback, shop.core, claim)
    assert await state(shop, batch) == (BatchStatus.PAUSED, {"failed": 5, "waiting": 1})


@pytest.mark.usefixtures("few_at_once")
async def test_cancelling_keeps_what_was_sent_and_withdraws_the_rest(shop: Shop) -> None:
    await give_wide_rules(shop.core, shop.principal.organization_id)
    batch = await submitted(shop, a_batch(rows(FEW + 10)))
    await feed(shop)
    await send_due(shop.core)  # five of them
    cancelled = await control(shop, cancel_batch, batch)
    assert cancelled.status is BatchStatus.CANCELLING
    assert await send_due(shop.core) == 0
    while await feed(shop):
        pass
    status, totals = await state(shop, batch)
    assert (status, totals) == (
        BatchStatus.CANCELLING,
        {"in_progress": 5, "cancelled": FEW + 5},
    )
    first, second, *others = [p for p in await payments(shop) if p.status == PaymentStatus.PENDING]
    for payment, code in ((first, FAILED), (second, "17"), *((each, "0") for each in others)):
        await end(shop, payment, code)
    ended = await find_batch(shop.core, shop.principal, batch.batch_id)
    assert (ended.status, ended.totals[Outcome.FAILED].count, ended.may_retry) == (BatchStatus.UNRESOLVED, 1, False)
    unpaid = await unpaid_lines(shop.core, ended, limit=50)
    assert [line.outcome for line in unpaid] == [Outcome.FAILED, Outcome.UNKNOWN]
    with pytest.raises(NotPossibleNow, match="this batch is cancelled"):
        await control(shop, retry_batch, batch)
    await end(shop, second, "0")
    assert (await state(shop, batch))[0] is BatchStatus.CANCELLED
    for what in (pause_batch, resume_batch):
        with pytest.raises(NotPossibleNow, match="cancelled, and that is final; submit what is still to be paid"):
            await control(shop, what, batch)
    done = await submitted(shop, a_batch(rows(1, first=9000), key="another"))
    await feed(shop)
    await send_due(shop.core)
    await end(shop, (await payments(shop))[-1], FAILED)
    with pytest.raises(NotPossibleNow, match="completed, and nothing of it waits to be sent; rows that failed are"):
        await control(shop, pause_batch, done)


async def test_a_row_that_a_person_withdrew_is_cancelled_and_one_that_waited_too_long_has_failed(
    shop: Shop, clock: FrozenClock
) -> None:
    batch = await submitted(shop, a_batch(rows(2)))
    await feed(shop)
    one, _ = await payments(shop)
    await withdraw_payment(shop.core, one.organization_id, one.id, reason="She left the firm.", actor="user:jane")
    clock.advance(timedelta(days=2))
    await send_due(shop.core)
    assert await state(shop, batch) == (BatchStatus.COMPLETED, {"cancelled": 1, "failed": 1})
    retried = await control(shop, retry_batch, batch)
    assert retried.totals[Outcome.WAITING].count == 1


@pytest.mark.usefixtures("few_at_once")
async def test_a_row_that_was_changed_after_the_check_is_never_paid(shop: Shop) -> None:
    await give_wide_rules(shop.core, shop.principal.organization_id)
    batch = await submitted(shop, a_batch(rows(FEW + 10)))
    await feed(shop)
    edited = update(BatchLine).where(col(BatchLine.batch_id) == batch.batch_id, col(BatchLine.line) == FEW + 5)
    async with shop.core.store.session(shop.principal.organization_id) as session:
        await session.change(edited.values(amount_cents=250_000_00))
    while await feed(shop):
        pass
    status, totals = await state(shop, batch)
    assert (status, totals) == (BatchStatus.VOID, {"cancelled": FEW + 10})
    assert await send_due(shop.core) == 0


async def test_the_result_has_a_line_for_each_row_and_no_formula(shop: Shop) -> None:
    given = [*rows(1), GivenRow(2, "0712000002", 20, "-2", "=cmd|x"), GivenRow(3, "non\u200bsense", None, "=1", "x\ny")]
    given += [GivenRow(4, "0712000004", 1500, "TOO_LONG", "Rent"), GivenRow(5, "254712 000005x", 20, "A", "Rent")]
    batch = await submitted(shop, a_batch(given, skip_invalid=True))
    await feed(shop)
    await send_due(shop.core)
    one, _ = await payments(shop)
    await end(shop, one, "0")
    batch = await find_batch(shop.core, shop.principal, batch.batch_id)
    content = b"".join([part async for part in result_csv(shop.core, batch)])
    read = list(csv.DictReader(io.StringIO(content.decode())))
    assert [(row["line"], row["outcome"], row["amount"], row["reference"], row["remarks"]) for row in read] == [
        ("1", "succeeded", "100.00", "SAL-11", "November salary"),
        ("2", "in_progress", "20.00", "'-2", "'=cmd|x"),
        ("3", "rejected", "", "'=1", "x y"),
        ("4", "rejected", "1500", "TOO_LONG", "Rent"),
        ("5", "rejected", "20", "A", "Rent"),
    ]
    assert [row["phone"] for row in read[2:]] == ["nonsense", "2547*****004", "2547** ***005x"]
    assert read[0]["receipt"] and read[0]["untrusted_text"] and "0712000002" not in content.decode()
    assert "phone must be" in read[2]["reason"]


async def test_batches_are_stored_one_after_the_other_and_few_wait_for_that(shop: Shop) -> None:
    """Between two of them everybody else of SQLite's one writer has a turn."""
    stored: list[BatchRecord] = []

    async def submit(number: int) -> None:
        stored.append(await submitted(shop, a_batch(rows(1, first=number), key=f"batch-{number}")))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks, submission._STORING:
            for number in range(submission._MOST_WAITING):
                tasks.start_soon(submit, number)
            while submission._STORING.statistics().tasks_waiting < submission._MOST_WAITING:
                await anyio.lowlevel.checkpoint()
            with pytest.raises(TooManyAtOnce):
                await submitted(shop, a_batch(rows(1, first=9), key="batch-too-many"))
            assert stored == []
    assert len(stored) == submission._MOST_WAITING


async def test_rows_beyond_a_limit_are_told_by_line_and_what_a_batch_reserves_follows_its_rows(shop: Shop) -> None:
    organization_id = shop.principal.organization_id
    await give_rule(shop.core, organization_id, per_day=500, largest_batch=7)
    with pytest.raises(BatchTooLarge, match=r"These are [\d,]+ payments, .* at most [\d,]+\."):
        await submitted(shop, a_batch(rows(8)))
    with pytest.raises(BatchInvalid) as refused:
        await submitted(shop, a_batch(rows(7)))
    assert [(each.line, each.code) for each in refused.value.problems] == [(6, "per_day"), (7, "per_day")]
    assert all(each.message.endswith(" The rows before it are counted.") for each in refused.value.problems)
    with pytest.raises(BatchInvalid) as refused:
        await submitted(shop, a_batch(rows(1, amount=501)))
    assert "rows before" not in refused.value.message
    assert await spent(shop) == 0
    batch = await submitted(shop, a_batch(rows(4)))
    assert await spent(shop) == 400
    await feed(shop)
    await send_due(shop.core)
    one, two, three, _ = await payments(shop)
    await end(shop, one, "0")
    await end(shop, two, FAILED)
    await end(shop, three, FAILED)
    assert await spent(shop) == 200
    # What failed is reserved anew when it is tried again, as far as the day still allows it.
    await submitted(shop, a_batch(rows(2, first=5), key="another"))
    with pytest.raises(BatchInvalid):
        await control(shop, retry_batch, batch)
    assert await spent(shop) == 400
    await give_rule(shop.core, organization_id, per_day=600)
    await control(shop, retry_batch, batch)
    assert await spent(shop) == 600
    await control(shop, cancel_batch, batch)
    while await feed(shop):
        pass
    assert await spent(shop) == 400


async def test_many_small_rows_wait_for_a_person_as_their_sum_does(shop: Shop) -> None:
    batch = await submitted(shop, a_batch(rows(11, amount=1000)))
    assert batch.status is BatchStatus.AWAITING_APPROVAL
    assert await feed(shop) == 0
    assert await spent(shop) == 11_000
    await control(shop, cancel_batch, batch)
    assert await spent(shop) == 0


async def spent(shop: Shop) -> int:
    """What the day's counter of the organization says, in shillings."""
    async with shop.core.store.reading(shop.principal.organization_id) as session:
        found = await used_so_far(
            session,
            environment=shop.principal.environment,
            scopes=["organization"],
            recipients=[],
            at=shop.core.clock.now(),
        )
    return found.get(Place("organization", Window.DAY, ""), Used(0, 0)).cents // 100
