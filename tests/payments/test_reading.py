"""Reading: finding one payment by any of its ids, paging through many, and waiting for one to settle."""

from datetime import UTC, date, datetime, timedelta

import anyio
import pytest

from mpesa_mcp.daraja.codes import Verdict
from mpesa_mcp.errors import InputError, NotFoundError
from mpesa_mcp.payments import reading
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.outcomes import Evidence, apply_evidence
from mpesa_mcp.payments.reading import find_payment, list_payments, wait_until_settled
from mpesa_mcp.payments.requests import PageAsked, PaymentFilter
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.values import Environment, Msisdn

from .factories import (
    Shop,
    a_payout,
    a_principal,
    a_push,
    a_row,
    make_organization,
    payout_result,
    send_due,
    stk_callback,
    store_rows,
)

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 11, 16, 8, 30, tzinfo=UTC)
TODAY = date(2026, 11, 16)


async def listed(
    shop: Shop,
    *,
    from_date: date | None = None,
    to_date: date | None = None,
    narrowed: PaymentFilter | None = None,
    limit: int = 20,
    cursor: str | None = None,
) -> tuple[list[str], str | None]:
    page = await list_payments(
        shop.core,
        shop.principal,
        from_date=from_date,
        to_date=to_date,
        narrowed=narrowed or PaymentFilter(),
        page=PageAsked(limit, cursor),
    )
    return [payment.payment_id for payment in page.payments], page.next_cursor


@pytest.mark.parametrize("limit", [1, 3, 7, 10, 11])
async def test_pages_have_neither_gaps_nor_repeats_even_within_one_second(shop: Shop, limit: int) -> None:
    organization_id = shop.principal.organization_id
    same_moment = [a_row(organization_id, NOON) for _ in range(7)]
    around = [a_row(organization_id, NOON + timedelta(seconds=n)) for n in (-2, -1, 1)]
    await store_rows(shop, *same_moment, *around)
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(11):
        page, cursor = await listed(shop, limit=limit, cursor=cursor)
        assert len(page) <= limit
        seen += page
        if cursor is None:
            break
    newest_first = sorted([*same_moment, *around], key=lambda row: (row.created_at, row.id), reverse=True)
    assert seen == [row.id for row in newest_first]


async def test_a_payment_made_while_somebody_turns_the_pages_does_not_shift_them(shop: Shop) -> None:
    organization_id = shop.principal.organization_id
    rows = [a_row(organization_id, NOON + timedelta(seconds=n)) for n in range(4)]
    await store_rows(shop, *rows)
    first, cursor = await listed(shop, limit=2)
    await store_rows(shop, a_row(organization_id, NOON + timedelta(minutes=1)))
    second, end = await listed(shop, limit=2, cursor=cursor)
    assert (first + second, end) == ([row.id for row in reversed(rows)], None)


async def test_a_list_is_narrowed_by_days_in_nairobi_and_by_every_filter(shop: Shop) -> None:
    organization_id = shop.principal.organization_id
    midnight = datetime(2026, 11, 15, 21, 0, tzinfo=UTC)
    before = a_row(organization_id, midnight - timedelta(seconds=1))
    first = a_row(organization_id, midnight, status=PaymentStatus.FAILED, reference="INV-2")
    last = a_row(organization_id, midnight + timedelta(days=1, seconds=-1), kind=PaymentKind.B2C, phone="254700000002")
    after = a_row(organization_id, midnight + timedelta(days=1))
    await store_rows(shop, before, first, last, after)
    assert (await listed(shop, from_date=TODAY, to_date=TODAY))[0] == [last.id, first.id]
    assert (await listed(shop, from_date=TODAY))[0] == [after.id, last.id, first.id]
    assert (await listed(shop, to_date=TODAY))[0] == [last.id, first.id, before.id]
    for narrowed, found in [
        (PaymentFilter(status="failed"), [first.id]),
        (PaymentFilter(reference="INV-2"), [first.id]),
        (PaymentFilter(kind=PaymentKind.B2C), [last.id]),
        (PaymentFilter(phone=Msisdn("254700000002")), [last.id]),
    ]:
        assert (await listed(shop, narrowed=narrowed))[0] == found


async def test_a_list_shows_one_organization_and_one_environment(shop: Shop) -> None:
    other = await make_organization(shop.core, "globex")
    theirs = a_row(other.organization_id, NOON)
    elsewhere = a_row(shop.principal.organization_id, NOON, environment=Environment.SANDBOX)
    await store_rows(shop, theirs)
    await store_rows(shop, elsewhere)
    assert await listed(shop) == ([], None)
    messages = set()
    for cursor in (theirs.id, elsewhere.id, "pay_that_never_was"):
        with pytest.raises(InputError) as refused:
            await listed(shop, cursor=cursor)
        messages.add(refused.value.message)
    assert len(messages) == 1


async def test_a_payment_is_found_by_each_of_its_ids(shop: Shop) -> None:
    push = (await open_payment(shop.core, shop.principal, a_push(key="order-7"))).payment.payment_id
    payout = (await open_payment(shop.core, shop.principal, a_payout(key="payout-1"))).payment.payment_id
    await send_due(shop.core)
    await shop.call_back(shop.daraja.of("stk_push")[0].body["CallBackURL"], stk_callback(receipt="SKE0000AA1"))
    await shop.call_back(shop.daraja.of("b2c")[0].body["ResultURL"], payout_result(receipt="SKE0000BB1"))
    originator = (await shop.row(payout)).originator_conversation_id
    assert originator is not None
    for any_id, payment_id in [
        (push, push),
        (push.upper(), push),
        ("SKE0000AA1", push),
        ("ske0000aa1", push),
        ("ws_CO_1_700000001", push),
        ("order-7", push),
        ("SKE0000BB1", payout),
        ("AG_b2c_1", payout),
        (originator, payout),
        ("payout-1", payout),
    ]:
        assert (await find_payment(shop.core, shop.principal, any_id)).payment_id == payment_id


async def test_an_id_that_fits_several_payments_means_the_first_in_the_published_order(shop: Shop) -> None:
    """Payment id before receipt before Daraja's ids before the idempotency key."""
    organization_id = shop.principal.organization_id
    by_id = a_row(organization_id, NOON)
    by_receipt = a_row(organization_id, NOON, receipt="SKE0000AA1", idempotency_key=by_id.id)
    by_originator = a_row(organization_id, NOON, originator_conversation_id="SKE0000AA1", idempotency_key="shared")
    by_key = a_row(organization_id, NOON, idempotency_key="SKE0000AA1")
    shared = a_row(organization_id, NOON, originator_conversation_id="shared")
    await store_rows(shop, by_id, by_receipt, by_originator, by_key, shared)
    for any_id, wanted in [(by_id.id, by_id), ("SKE0000AA1", by_receipt), ("shared", shared)]:
        assert (await find_payment(shop.core, shop.principal, any_id)).payment_id == wanted.id


async def test_what_belongs_to_others_reads_like_what_never_was(shop: Shop) -> None:
    other = await make_organization(shop.core, "globex")
    theirs = a_row(other.organization_id, NOON, receipt="SKE0000AA1", idempotency_key="their-key")
    elsewhere = a_row(shop.principal.organization_id, NOON, receipt="SKE0000AA2", environment=Environment.SANDBOX)
    await store_rows(shop, theirs)
    await store_rows(shop, elsewhere)
    messages = set()
    for any_id in (theirs.id, "SKE0000AA1", "their-key", elsewhere.id, "SKE0000AA2", "nothing", ""):
        with pytest.raises(NotFoundError) as unknown:
            await find_payment(shop.core, shop.principal, any_id)
        messages.add(unknown.value.message)
    assert len(messages) == 1
    sandbox = a_principal(shop.principal.organization_id, environment=Environment.SANDBOX)
    assert (await find_payment(shop.core, sandbox, "SKE0000AA2")).payment_id == elsewhere.id


async def no_progress(_seconds: float) -> None: ...


async def test_who_waits_for_a_payment_is_woken_by_the_commit_that_settles_it(shop: Shop) -> None:
    opened = (await open_payment(shop.core, shop.principal, a_push())).payment
    await send_due(shop.core)
    settled: list[PaymentStatus] = []

    async def wait() -> None:
        record = await wait_until_settled(shop.core, opened, seconds=30, progress=no_progress)
        settled.append(record.status)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.lowlevel.checkpoint()
            async with shop.core.store.session(shop.principal.organization_id) as session:
                said = Evidence(verdict=Verdict.SUCCEEDED, source="callback", code="0", reason="Paid.")
                await apply_evidence(shop.core, session, opened.payment_id, said)
    assert settled == [PaymentStatus.SUCCEEDED]


async def test_who_waits_no_seconds_gets_the_payment_as_it_stands(shop: Shop) -> None:
    opened = (await open_payment(shop.core, shop.principal, a_push())).payment
    with anyio.fail_after(2):
        record = await wait_until_settled(shop.core, opened, seconds=0, progress=no_progress)
    assert record == opened


async def test_an_organization_for_which_many_calls_wait_already_is_told_at_once_how_it_stands(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_WAITING", 3)
    opened = (await open_payment(shop.core, shop.principal, a_push())).payment

    async def wait() -> None:
        await wait_until_settled(shop.core, opened, seconds=30, progress=no_progress)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(wait)
            await anyio.lowlevel.checkpoint()
            assert await wait_until_settled(shop.core, opened, seconds=30, progress=no_progress) == opened
            group.cancel_scope.cancel()
    assert not shop.core.waiting
