"""The page of one payment: what it says of it, who decided, what a refused form keeps, and where it leads."""

import re

import pytest

from mpesa_mcp.payments.states import PaymentKind, PaymentStatus

from .office import Office, add_payments, field, signed_in

pytestmark = pytest.mark.anyio


def words_of(page: str) -> str:
    """What a page says, without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.partition("<main")[2])).strip()


async def test_a_decision_stands_in_the_history_with_the_person_who_made_it(office: Office) -> None:
    unknown, queued = await add_payments(office, PaymentStatus.UNKNOWN, PaymentStatus.QUEUED, kind=PaymentKind.B2C)
    async with signed_in(office, "manager") as manager, signed_in(office, "org_admin") as admin:
        form = {"form_token": field(await manager.get("/payments")), "reason": "Looked in the portal"}
        await manager.post(f"/payments/{unknown.id}/resolve", data=form | {"outcome": "succeeded"})
        form = {"form_token": field(await admin.get("/payments")), "reason": "Paid in cash"}
        await admin.post(f"/payments/{queued.id}/withdraw", data=form)
        for payment, caller, said in (
            (unknown, "manager", "Looked in the portal"),
            (queued, "org_admin", "Paid in cash"),
        ):
            told = words_of((await manager.get(f"/payments/{payment.id}")).text).partition("What happened")[2]
            assert f"{office.email(caller)} {said}" in told, told


async def test_of_a_dispute_the_last_answer_is_not_what_came_of_it_and_where_nobody_asks_nobody_is_said_to(
    office: Office,
) -> None:
    disputed, asked, left = await add_payments(
        office,
        PaymentStatus.DISPUTED,
        PaymentStatus.UNKNOWN,
        PaymentStatus.UNKNOWN,
        reason="The money was paid out.",
        result_code="0",
    )
    core = office.platform.core
    async with core.store.session(office.people.organization_id) as session:
        row = await session.lock(type(asked), asked.id)
        assert row is not None
        row.next_action_at = core.clock.now()
    async with signed_in(office, "manager") as client:
        said = words_of((await client.get(f"/payments/{disputed.id}")).text)
        assert "What is known Safaricom contradicts itself about this" in said
        assert "Said last: The money was paid out. Code said last 0" in said
        assert "What came of it" not in said
        said = words_of((await client.get(f"/payments/{asked.id}")).text)
        assert "Safaricom is asked, or a person decides." in said
        said = words_of((await client.get(f"/payments/{left.id}")).text)
        assert "Safaricom is not asked any more. A person finds out" in said
        assert "The money was paid out" not in said


async def test_a_refused_decision_keeps_what_was_written(office: Office) -> None:
    [payment] = await add_payments(office, PaymentStatus.UNKNOWN, kind=PaymentKind.B2C)
    path = f"/payments/{payment.id}"
    async with signed_in(office, "manager") as client:
        form = {"form_token": field(await client.get(path)), "reason": "The payee's <phone>"}
        refused = await client.post(f"{path}/resolve", data=form | {"outcome": "succeeded", "receipt": "TOO-SHORT"})
        assert refused.status_code == 422
        assert 'value="TOO-SHORT"' in refused.text
        assert 'value="The payee&#39;s &lt;phone&gt;"' in refused.text
        assert 'value="succeeded" required checked' in refused.text
        assert "checked" not in (await client.get(path)).text


async def test_a_payment_leads_back_to_the_list_it_was_found_in_and_to_its_batch(office: Office) -> None:
    [payment] = await add_payments(office, PaymentStatus.SUCCEEDED, batch_id=office.own["batch_id"])
    path = f"/payments/{payment.id}"
    found = f"{office.url}/console/payments?status=succeeded&phone=0712345678"
    async with signed_in(office, "user") as client:
        shown = (await client.get(path, headers={"Referer": found})).text
        assert '<a href="/console/payments?status=succeeded&amp;phone=0712345678">Back to the payments</a>' in shown
        assert f'<a href="/console/batches/{office.own["batch_id"]}">its batch</a>' in shown
        for elsewhere in ("", "https://evil.example/console/keys?x=1", f'{office.url}/console/payments?"><b>'):
            shown = (await client.get(path, headers={"Referer": elsewhere})).text
            assert "evil" not in shown
            assert "<b>" not in shown
            assert re.search('<a href="/console/(payments)?">', shown)
