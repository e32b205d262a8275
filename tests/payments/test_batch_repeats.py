"""Batches beside other batches and payments: nobody is paid twice, whoever asks."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import anyio
import pytest

from mpesa_mcp.errors import InputError
from mpesa_mcp.payments.batches.control import cancel_batch, pause_batch, resume_batch
from mpesa_mcp.payments.batches.problems import BatchInvalid
from mpesa_mcp.payments.batches.reading import find_batch, lines_after
from mpesa_mcp.payments.batches.retrying import retry_batch
from mpesa_mcp.payments.batches.states import BatchStatus, Outcome
from mpesa_mcp.payments.intake import IdempotencyConflict, open_payment
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.values import FrozenClock
from tests.spending import give_rule

from .factories import Shop, a_payout, a_push, a_reversal, a_row, send_due, store_rows
from .test_batches import FAILED, a_batch, control, end, feed, payments, rows, spent, state, submitted
from .test_pages import cost, statements

pytestmark = pytest.mark.anyio


async def test_a_failed_row_that_another_batch_pays_is_not_tried_again(shop: Shop, clock: FrozenClock) -> None:
    first = await submitted(shop, a_batch(rows(2)))
    await feed(shop)
    await send_due(shop.core)
    for payment in await payments(shop):
        await end(shop, payment, FAILED)
    await submitted(shop, a_batch(rows(2), key="another"))

    async def refused() -> list[tuple[int | None, str]]:
        with pytest.raises(BatchInvalid) as problems:
            await control(shop, retry_batch, first)
        return [(each.line, each.code) for each in problems.value.problems]

    assert await refused() == [(1, "repeated"), (2, "repeated")]
    await feed(shop)
    await send_due(shop.core)
    for payment, code in zip([p for p in await payments(shop) if p.status == PaymentStatus.PENDING], "01", strict=True):
        await end(shop, payment, code)
    clock.advance(timedelta(days=8))
    # The one that was paid keeps nobody from trying the other again.
    before = await spent(shop)
    await control(shop, retry_batch, first)
    assert await spent(shop) == before + 100
    assert await state(shop, first) == (BatchStatus.RUNNING, {"failed": 1, "waiting": 1})
    [line, _] = await lines_after(shop.core, first, 0, limit=2)
    assert (line.outcome, line.reason) == (
        Outcome.FAILED,
        "Not tried again: this phone has been paid the same amount since, or is about to be.",
    )


async def test_a_row_that_is_paid_by_itself_before_it_is_tried_again_is_not_paid_twice(shop: Shop) -> None:
    batch = await submitted(shop, a_batch(rows(2)))
    await feed(shop)
    await send_due(shop.core)
    for payment in await payments(shop):
        await end(shop, payment, FAILED)
    await control(shop, retry_batch, batch)
    await open_payment(shop.core, shop.principal, a_payout(phone="254712000001"))
    assert await spent(shop) == 300
    await feed(shop)
    made = [p for p in await payments(shop) if p.status == PaymentStatus.QUEUED]
    assert [(p.phone, p.idempotency_key) for p in made] == [
        ("254712000002", f"{batch.batch_id}-2-2"),
        ("254712000001", "payout-1"),
    ]
    assert await spent(shop) == 200
    [line, _] = await lines_after(shop.core, batch, 0, limit=2)
    assert (line.outcome, line.reason) == (
        Outcome.FAILED,
        "Not tried again: this phone has been paid the same amount since.",
    )


async def test_what_may_still_be_paid_counts_at_any_age_and_what_was_paid_for_seven_days(
    shop: Shop, clock: FrozenClock
) -> None:
    """By when it was paid: how long ago it was asked for says nothing about that."""
    organization_id, now = shop.principal.organization_id, clock.now()
    settled = (timedelta(days=7), timedelta(days=7, seconds=1))
    paid = dict(enumerate(((status, ago) for status in PaymentStatus for ago in settled), start=1))
    await store_rows(
        shop,
        *(
            a_row(
                organization_id,
                now - timedelta(days=60),
                kind=PaymentKind.B2C,
                status=status,
                phone=f"254712{line:06d}",
                settled_at=now - ago if status.is_settled else None,
            )
            for line, (status, ago) in paid.items()
        ),
    )
    with pytest.raises(BatchInvalid) as refused:
        await submitted(shop, a_batch(rows(len(paid))))
    assert {paid[each.line or 0] for each in refused.value.problems if each.code == "repeated"} == {
        *((status, settled[0]) for status in PaymentStatus if not status.nothing_moved),
        *((status, settled[1]) for status in PaymentStatus if not status.nothing_moved and not status.moved),
    }


async def test_what_was_paid_to_others_is_not_looked_at(shop: Shop, clock: FrozenClock) -> None:
    organization_id, now = shop.principal.organization_id, clock.now()

    def paid(line: int) -> Payment:
        phone, at = f"254712{line:06d}", now - timedelta(days=30)
        return a_row(organization_id, at, kind=PaymentKind.B2C, phone=phone, settled_at=at)

    costs: list[int] = []
    for lines in (range(1, 11), range(11, 1_000)):
        await store_rows(shop, *map(paid, lines))
        with statements() as seen:
            await submitted(shop, a_batch(rows(2, amount=200 + len(costs)), key=f"after-{len(costs)}"))
        [asked] = [each for each in seen if "settled_at >=" in each[0] and "payments.phone IN" in each[0]]
        costs.append(await cost(shop.core, asked))
        clock.advance(timedelta(days=1))
    assert costs[1] <= 2 * costs[0], costs


@pytest.mark.parametrize("kind", PaymentKind)
async def test_only_a_payment_to_the_person_is_one_that_a_row_repeats(shop: Shop, kind: PaymentKind) -> None:
    row = a_row(
        shop.principal.organization_id, shop.core.clock.now(), kind=kind, status="pending", phone="254712000001"
    )
    await store_rows(shop, row)
    if kind is PaymentKind.B2C:
        with pytest.raises(BatchInvalid):
            await submitted(shop, a_batch(rows(1)))
    else:
        assert (await submitted(shop, a_batch(rows(1)))).count == 1


async def test_what_a_batch_paid_after_a_long_pause_is_not_paid_again_by_another(
    shop: Shop, clock: FrozenClock
) -> None:
    """Nobody asks how long ago it was asked for."""
    batch = await submitted(shop, a_batch(rows(2)))
    await feed(shop)
    await control(shop, pause_batch, batch)
    clock.advance(timedelta(days=9))

    async def refused(key: str) -> list[tuple[int | None, str]]:
        with pytest.raises(BatchInvalid) as problems:
            await submitted(shop, a_batch(rows(2), key=key))
        return [(each.line, each.code) for each in problems.value.problems]

    assert await refused("while-it-is-paused") == [(1, "repeated"), (2, "repeated")]
    await control(shop, resume_batch, batch)
    await send_due(shop.core)
    for payment in await payments(shop):
        await end(shop, payment, "0")
    clock.advance(timedelta(days=6))
    assert await refused("six-days-after") == [(1, "repeated"), (2, "repeated")]
    clock.advance(timedelta(days=1, seconds=1))
    assert (await submitted(shop, a_batch(rows(2), key="seven-days-after"))).count == 2


async def test_a_row_paid_by_a_payment_that_was_asked_for_before_its_batch_is_not_tried_again(
    shop: Shop, clock: FrozenClock
) -> None:
    batch = await submitted(shop, a_batch(rows(1)))
    await feed(shop)
    await send_due(shop.core)
    [payment] = await payments(shop)
    await end(shop, payment, FAILED)
    clock.advance(timedelta(days=9))
    organization_id, asked = shop.principal.organization_id, clock.now() - timedelta(days=30)
    older = a_row(organization_id, asked, kind=PaymentKind.B2C, phone="254712000001", settled_at=clock.now())
    await store_rows(shop, older)
    with pytest.raises(BatchInvalid) as refused:
        await control(shop, retry_batch, batch)
    assert [(each.line, each.code) for each in refused.value.problems] == [(1, "repeated")]


async def test_a_new_recipient_is_paid_once_until_the_cool_off_is_over_however_many_batches_ask(
    shop: Shop, clock: FrozenClock
) -> None:
    """The rows count from the submission on, also while people are to approve them."""
    await give_rule(shop.core, shop.principal.organization_id, first_payment=500, cool_off_hours=24, approval_above=50)
    became: Counter[str] = Counter()

    async def submit(number: int) -> None:
        try:
            batch = await submitted(shop, a_batch(rows(1, amount=100 + number), key=f"batch-{number}"))
            became[batch.status] += 1
        except BatchInvalid as refused:
            became.update(each.code for each in refused.problems)

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(submit, number)
    assert became == {BatchStatus.AWAITING_APPROVAL: 1, "cool_off_hours": 4}
    alone = await open_payment(shop.core, shop.principal, a_payout(phone="254712000001", shillings=20))
    assert alone.payment.result_code == "cool_off_hours"
    clock.advance(timedelta(hours=24))
    later = await open_payment(
        shop.core, shop.principal, a_payout(phone="254712000001", shillings=900, key="known-by-now")
    )
    assert later.payment.status == PaymentStatus.AWAITING_APPROVAL


@pytest.mark.parametrize("ask", [a_push, a_payout, partial(a_reversal, "SKE0000AA1"), partial(a_batch, rows(1))])
def test_no_caller_chooses_a_key_that_a_row_of_a_batch_may_have(ask: Callable[..., object]) -> None:
    with pytest.raises(InputError) as refused:
        ask(key="BAT_01kb0d3n8t5w1y6ds9h2p4e7qc-450")
    assert refused.value.field == "idempotency_key"


async def test_a_batch_whose_key_an_older_payment_has_is_paused_and_says_which_line(shop: Shop) -> None:
    batch = await submitted(shop, a_batch(rows(3)))
    organization_id = shop.principal.organization_id
    older = a_row(organization_id, shop.core.clock.now(), idempotency_key=f"{batch.batch_id}-2")
    await store_rows(shop, older)
    for _ in range(2):
        await feed(shop)
        assert await feed(shop) == 0
        paused = await find_batch(shop.core, shop.principal, batch.batch_id)
        assert paused.status is BatchStatus.PAUSED
        assert paused.reason is not None and paused.reason.startswith(f"Line 2 cannot be paid here: {older.id}")
        await control(shop, resume_batch, batch)
    await control(shop, cancel_batch, batch)
    # What has not been paid goes as a batch of its own.
    await submitted(shop, a_batch(rows(3), key="another"))
    await feed(shop)
    assert len(await payments(shop)) == 4


async def test_one_key_is_of_a_payment_or_of_a_batch_and_of_several_at_once_one_is_let_through(shop: Shop) -> None:
    became: Counter[str] = Counter()

    async def pay(number: int) -> None:
        try:
            if number % 2:
                await submitted(shop, a_batch(rows(1), key="november"))
            else:
                await open_payment(shop.core, shop.principal, a_payout(key="november"))
        except IdempotencyConflict as refused:
            assert refused.fields == ["kind"]
            became["refused"] += 1

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(pay, number)
    await feed(shop)
    assert (became, len(await payments(shop))) == ({"refused": 3}, 1)
    # Whichever was first: the other way round it is refused as well.
    await open_payment(shop.core, shop.principal, a_payout(key="payment-first"))
    await submitted(shop, a_batch(rows(1, first=2), key="batch-first"))
    with pytest.raises(IdempotencyConflict):
        await submitted(shop, a_batch(rows(1, first=3), key="payment-first"))
    for request in (a_payout(key="batch-first"), a_push(key="batch-first")):
        with pytest.raises(IdempotencyConflict):
            await open_payment(shop.core, shop.principal, request)
