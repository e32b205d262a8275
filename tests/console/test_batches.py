"""A batch on its page: what was paid, what was not, and what nobody may pay again; and what a button will do."""

import re
from itertools import count

import pytest
from sqlalchemy import update
from sqlmodel import col

from mpesa_mcp.payments.batches.models import BatchLine
from mpesa_mcp.payments.batches.states import RowState
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus

from .office import Office, add_batch, add_payments, field, frozen, looks_again, signed_in, text_of

pytestmark = pytest.mark.anyio
# Nobody is paid the same twice within some days, in whatever batch.
AMOUNTS = count(101)


async def a_batch_that_came_to(office: Office, *statuses: PaymentStatus | None, shillings: int | None = None) -> str:
    """A batch whose rows came to this, in their order; None has not been sent."""
    each = shillings or next(AMOUNTS)
    batch_id = await add_batch(office.platform, office.people.organization_id, len(statuses), shillings=each)
    for line, status in enumerate(statuses, start=1):
        if status is not None:
            kind, reason = PaymentKind.B2C, "The money was paid out." if status is PaymentStatus.DISPUTED else None
            [payment] = await add_payments(office, status, kind=kind, batch_id=batch_id, reason=reason)
            async with office.platform.core.store.session(office.people.organization_id) as session:
                which = (col(BatchLine.batch_id) == batch_id, col(BatchLine.line) == line)
                made = update(BatchLine).where(*which).values(state=RowState.MADE, payment_id=payment.id)
                assert await session.change(made) == 1
    return batch_id


def under(heading: str, page: str) -> str:
    """What a page says below a heading, until the next one."""
    assert f">{heading}</h2>" in page, text_of(page)
    return text_of(re.split("<h2", page.partition(f">{heading}</h2>")[2])[0])


async def test_rows_that_may_have_been_paid_stand_apart_from_those_that_were_not(office: Office) -> None:
    batch_id = await a_batch_that_came_to(
        office, PaymentStatus.FAILED, PaymentStatus.DISPUTED, PaymentStatus.UNKNOWN, PaymentStatus.SUCCEEDED
    )
    async with signed_in(office, "manager") as client:
        page = (await client.get(f"/batches/{batch_id}")).text
    unsure = under("Rows that may have been paid", page)
    assert "Do not pay these again" in unsure
    assert re.search(r" 2 0722 .* disputed 3 0722 .* unknown$", unsure), unsure
    assert "The money was paid out." not in unsure, "Safaricom said that, and the opposite"
    not_paid = under("Rows that are not paid", page)
    assert re.search(r" 1 0722 .* failed$", not_paid), not_paid
    assert ("disputed" in not_paid, "unknown" in not_paid) == (False, False)


async def test_a_batch_says_how_many_were_paid_and_is_green_only_when_all_were(office: Office) -> None:
    paid, failed = PaymentStatus.SUCCEEDED, PaymentStatus.FAILED
    for statuses, look, came_to in (
        ((paid, paid), "succeeded", "2 paid"),
        ((failed, failed), "failed", "0 paid, 2 failed"),
        ((paid, failed), "pending", "1 paid, 1 failed"),
    ):
        batch_id = await a_batch_that_came_to(office, *statuses)
        async with signed_in(office, "user") as client:
            page = (await client.get(f"/batches/{batch_id}")).text
            card = (await client.get("/batches")).text.partition(batch_id)[2].partition("</tr>")[0]
        for shown in (page, card):
            assert f'<span class="status {look}">completed</span>' in shown
            assert re.search(rf"{came_to}( |$)", text_of(shown))


async def test_a_button_that_pays_failed_rows_again_says_how_many_and_how_much(office: Office) -> None:
    failed, paid = PaymentStatus.FAILED, PaymentStatus.SUCCEEDED
    batch_id = await a_batch_that_came_to(office, failed, failed, paid, shillings=650)
    async with signed_in(office, "manager") as client:
        page = text_of((await client.get(f"/batches/{batch_id}")).text)
    assert "A new payment is made for each of the 2 rows that failed, KES 1,300 together, and for no other" in page
    assert "Pay 2 rows again: KES 1,300 " in page


async def test_a_row_shows_its_remarks_beside_its_reference(office: Office) -> None:
    batch_id = await a_batch_that_came_to(office, None)
    async with signed_in(office, "org_admin") as client:
        page = text_of((await client.get(f"/batches/{batch_id}")).text)
    assert "NOV · “Salary of November”" in page


async def test_while_nothing_may_leave_a_batch_says_so_and_pays_nothing_again(office: Office) -> None:
    running = await a_batch_that_came_to(office, None, PaymentStatus.SUCCEEDED)
    ended = await a_batch_that_came_to(office, PaymentStatus.FAILED, PaymentStatus.SUCCEEDED)
    async with signed_in(office, "manager") as client:
        open_page = looks_again((await client.get(f"/batches/{running}")).text)
        form = {"form_token": field(await client.get(f"/batches/{ended}"))}
        async with frozen(office):
            shown = (await client.get(open_page)).text
            assert "nothing of this batch is sent: what waits goes on when the freeze is lifted." in text_of(shown)
            assert re.search(r'<button id="retry" disabled', (await client.get(f"/batches/{ended}")).text)
            refused = await client.post(f"/batches/{ended}/retry", data=form)
            assert (refused.status_code, "The organization is frozen" in refused.text) == (403, True)
        page = (await client.get(f"/batches/{ended}")).text
        assert ("disabled" in page, "1 paid, 1 failed" in page) == (False, True)


async def test_who_did_something_to_a_batch_is_told_what(office: Office) -> None:
    batch_id = await a_batch_that_came_to(office, None, PaymentStatus.FAILED)
    async with signed_in(office, "manager") as client:
        form = {"form_token": field(await client.get(f"/batches/{batch_id}"))}
        for act, told in (
            ("pause", "You paused it: what has not left waits until somebody lets it go on."),
            ("retry", "You had failed rows paid again: 1 row."),
            ("resume", "You let it go on."),
            ("cancel", "You cancelled what was not sent."),
        ):
            done = await client.post(f"/batches/{batch_id}/{act}", data=form)
            assert done.status_code == 303, done.text
            page = (await client.get(done.headers["location"].removeprefix("/console"))).text
            [notice] = re.findall(r'<p class="notice good" id="done" role="status"[^>]*>(.*?)</p>', page)
            assert text_of(notice).startswith(told)
        here = done.headers["location"].removeprefix("/console")
    async with signed_in(office, "org_admin") as client:
        assert 'id="done"' not in (await client.get(here)).text, "somebody else did it"


async def test_from_the_next_rows_there_is_a_way_back(office: Office) -> None:
    batch_id = await add_batch(office.platform, office.people.organization_id, 101, shillings=next(AMOUNTS))
    async with signed_in(office, "user") as client:
        first = (await client.get(f"/batches/{batch_id}")).text
        assert ("Next rows" in first, "First rows" in first) == (True, False)
        second = (await client.get(f"/batches/{batch_id}?after=100")).text
    assert f'href="/console/batches/{batch_id}">First rows</a>' in second
