"""Deciding in the console: what the page showed is what is approved, by somebody who may, once."""

import re

import pytest

from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.reading import payment_of
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.policy.approvals import Approval

from .office import Office, add_payments, field, hold_payment, signed_in

pytestmark = pytest.mark.anyio


async def status_of(office: Office, approval_id: str) -> tuple[str, PaymentStatus]:
    async with office.platform.core.store.reading(office.people.organization_id) as session:
        approval = await session.get(Approval, approval_id)
    assert approval is not None
    assert approval.payment_id is not None
    payment = await payment_of(office.platform.core, office.people.organization_id, approval.payment_id)
    return approval.status, payment.status


async def test_the_page_shows_what_a_person_needs_to_judge_and_approves_exactly_that(office: Office) -> None:
    await add_payments(
        office,
        PaymentStatus.SUCCEEDED,
        kind=PaymentKind.B2C,
        phone="254733000001",
        amount_cents=812_00,
        remarks="Rent of October",
    )
    approval_id = await hold_payment(office.platform, office.people.organization_id, phone="254733000001")
    async with signed_in(office, "org_admin") as client:
        queue = await client.get("/approvals")
        assert f"/console/approvals/{approval_id}" in queue.text
        shown = await client.get(f"/approvals/{approval_id}")
        said = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", shown.text))
        for needed in (
            "Payout to 0733 000 001",
            "KES 25,000",
            "Rent of November",
            "Asked for by key tester",
            "10,000",
            "0 of 1 approval given",
            "Rent of October KES 812 succeeded",
        ):
            assert needed in said, needed
        form = {"form_token": field(shown), "digest": field(shown, "digest")}
        other = await client.post(f"/approvals/{approval_id}/approve", data=form | {"digest": "0" * 64})
        assert (other.status_code, "What you saw is not what would be sent" in other.text) == (409, True)
        without = await client.post(f"/approvals/{approval_id}/approve", data={"form_token": field(shown)})
        assert without.status_code == 409
        assert await status_of(office, approval_id) == ("pending", PaymentStatus.AWAITING_APPROVAL)
        done = await client.post(f"/approvals/{approval_id}/approve", data=form)
        assert (done.status_code, done.headers["location"]) == (303, f"/console/approvals/{approval_id}")
        assert await status_of(office, approval_id) == ("approved", PaymentStatus.QUEUED)
        again = await client.post(f"/approvals/{approval_id}/decline", data=form | {"reason": "Too late"})
        assert (again.status_code, "approved already" in again.text) == (409, True)
        assert "org_admin@acme.example approved it" in (await client.get(f"/approvals/{approval_id}")).text


async def test_declining_needs_a_reason_which_whoever_asked_is_told(office: Office) -> None:
    approval_id = await hold_payment(office.platform, office.people.organization_id)
    async with signed_in(office, "org_admin") as client:
        token = {"form_token": field(await client.get(f"/approvals/{approval_id}"))}
        silent = await client.post(f"/approvals/{approval_id}/decline", data=token | {"reason": " "})
        assert (silent.status_code, "reason must be" in silent.text) == (422, True)
        await client.post(f"/approvals/{approval_id}/decline", data=token | {"reason": "We paid <b>cash</b>"})
        shown = (await client.get(f"/approvals/{approval_id}")).text
    assert await status_of(office, approval_id) == ("declined", PaymentStatus.DECLINED)
    assert "We paid &lt;b&gt;cash&lt;/b&gt;" in shown
    assert "<b>" not in shown


async def test_what_was_changed_after_it_was_shown_is_not_sent(office: Office) -> None:
    approval_id = await hold_payment(office.platform, office.people.organization_id)
    core, acme = office.platform.core, office.people.organization_id
    async with signed_in(office, "org_admin") as client:
        shown = await client.get(f"/approvals/{approval_id}")
        async with core.store.session(acme) as session:
            approval = await session.get(Approval, approval_id)
            payment = await session.lock(Payment, approval.payment_id if approval and approval.payment_id else "")
            assert payment is not None
            payment.amount_cents += 100
        form = {"form_token": field(shown), "digest": field(shown, "digest")}
        answer = await client.post(f"/approvals/{approval_id}/approve", data=form)
        assert (answer.status_code, "nothing will be sent" in answer.text) == (409, True)
    assert await status_of(office, approval_id) == ("void", PaymentStatus.EXPIRED)


async def test_who_may_not_decide_sees_the_approval_and_no_button(office: Office) -> None:
    for caller in ("user", "manager"):
        async with signed_in(office, caller) as client:
            shown = (await client.get(f"/approvals/{office.own['approval_id']}")).text
            assert "An org_admin decides about this." in shown
            assert "/approve" not in shown
            assert "/decline" not in shown
