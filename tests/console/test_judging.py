"""What an approval's page says of what will happen: before the button is pressed, and after."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.credentials.models import Shortcode
from mpesa_mcp.identity.invitations import accept_invitation, invite
from mpesa_mcp.identity.models import User
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.requests import ReversalRequest
from mpesa_mcp.payments.states import PaymentStatus
from mpesa_mcp.policy.approvals import Approval
from mpesa_mcp.policy.models import SpendRule
from mpesa_mcp.values import Role, Secret, new_id
from tests.api.people import OPERATOR, PASSWORD
from tests.isolation.factories import manager_of

from .office import (
    Office,
    add_batch,
    add_payments,
    browser,
    field,
    hold_payment,
    looks_again,
    sign_in,
    signed_in,
    text_of,
)

pytestmark = pytest.mark.anyio


# Of the whole organization: no limit keeps these tests from asking for much in one day.
ONE_ABOVE_TEN_THOUSAND: Mapping[str, Any] = {"approval_above": 10_000}


@pytest.fixture(scope="module", autouse=True)
async def no_limit(office: Office) -> None:
    core, acme = office.platform.core, office.people.organization_id
    async with core.store.session(acme) as session:
        session.add(
            SpendRule(
                organization_id=acme,
                scope="organization",
                rule=dict(ONE_ABOVE_TEN_THOUSAND),
                changed_at=core.clock.now(),
                changed_by=OPERATOR.name,
            )
        )


@asynccontextmanager
async def a_rule(office: Office, **more: Any) -> AsyncIterator[None]:
    """Holds for the whole organization meanwhile, too, as if people had agreed to it."""
    await _set(office, {**ONE_ABOVE_TEN_THOUSAND, **more})
    try:
        yield
    finally:
        await _set(office, ONE_ABOVE_TEN_THOUSAND)


async def _set(office: Office, rule: Mapping[str, Any]) -> None:
    async with office.platform.core.store.session(office.people.organization_id) as session:
        whole = update(SpendRule).where(col(SpendRule.scope) == "organization")
        assert await session.change(whole.values(rule=dict(rule))) == 1


async def become(office: Office, approval_id: str, status: PaymentStatus, **values: Any) -> None:
    """What an approval is about comes to this."""
    async with office.platform.core.store.session(office.people.organization_id) as session:
        change = update(Payment).where(col(Payment.approval_id) == approval_id)
        assert await session.change(change.values(status=status, **values)) == 1


async def test_what_the_rules_do_not_allow_any_more_is_said_before_anybody_presses_approve(office: Office) -> None:
    acme = office.people.organization_id
    held = await hold_payment(office.platform, acme, 12_100, phone="254733000011")
    batch = await add_batch(office.platform, acme, 2, shillings=6_100)
    async with signed_in(office, "org_admin") as client:
        queue = (await client.get("/approvals")).text
        of_batch = re.findall(r"/approvals/(apr_\w+)", queue.partition("KES 12,200")[0])[-1]
        open_page = looks_again((await client.get(f"/approvals/{held}")).text)
        assert "The rules are asked once more when you press this." in (await client.get(f"/approvals/{held}")).text
        denied = ["254733000011", "254722000110"]
        async with a_rule(office, denied_recipients=denied):
            for path in (open_page, f"/approvals/{of_batch}"):
                shown = (await client.get(path)).text
                assert "The rules do not allow this any more, so it cannot be approved." in shown
                assert "forbids payments to this number" in shown
                assert ("/approve" in shown, "/decline" in shown) == (False, True)
        for path in (f"/approvals/{held}", f"/approvals/{of_batch}"):
            assert f"{path}/approve" in (await client.get(path)).text, "nothing was decided by looking"
        await client.post(f"/batches/{batch}/cancel", data={"form_token": field(await client.get("/approvals"))})


async def test_the_first_of_two_is_told_that_nothing_is_sent_before_the_second(office: Office) -> None:
    async with a_rule(office, second_approval_above=11_000):
        held = await hold_payment(office.platform, office.people.organization_id, 11_500)
        async with signed_in(office, "org_admin") as client:
            shown = await client.get(f"/approvals/{held}")
            said = text_of(shown.text)
            assert "0 of 2 approvals given" in said
            assert "Your approval alone sends nothing: another org_admin must approve it, too." in said
            assert "KES 11,500 goes to 0722 000 001 then," in said
            form = {"form_token": field(shown), "digest": field(shown, "digest")}
            done = await client.post(f"/approvals/{held}/approve", data=form)
            page = (await client.get(done.headers["location"].removeprefix("/console"))).text
    assert "Nothing is sent before another org_admin approves it, too." in re.sub(r"\s+", " ", text_of(page))
    assert 'data-said="1 of 2 approvals given. Nothing has been sent.' in page


async def test_a_rule_that_wants_two_by_now_is_told_to_the_first(office: Office) -> None:
    held = await hold_payment(office.platform, office.people.organization_id, 11_600)
    async with signed_in(office, "org_admin") as client:
        assert "0 of 1 approval given" in text_of((await client.get(f"/approvals/{held}")).text)
        async with a_rule(office, second_approval_above=11_000):
            said = text_of((await client.get(f"/approvals/{held}")).text)
    assert ("0 of 2 approvals given" in said, "Your approval alone sends nothing" in said) == (True, True)


async def test_an_approved_payment_that_failed_is_not_green_and_says_why(office: Office) -> None:
    held = await hold_payment(office.platform, office.people.organization_id, 10_100)
    async with signed_in(office, "org_admin") as client:
        shown = await client.get(f"/approvals/{held}")
        form = {"form_token": field(shown), "digest": field(shown, "digest")}
        await client.post(f"/approvals/{held}/approve", data=form)
        await become(office, held, PaymentStatus.FAILED, reason="The number is not registered.")
        page = (await client.get(f"/approvals/{held}")).text
    assert "status approved" not in page
    assert "failed No money has moved, and none will. The number is not registered." in text_of(page)


async def test_who_has_decided_is_told_what_they_did(office: Office) -> None:
    acme = office.people.organization_id
    approved = await hold_payment(office.platform, acme, 10_200)
    declined = await hold_payment(office.platform, acme, 10_300)
    async with signed_in(office, "org_admin") as client:
        for approval_id, act, told in (
            (approved, "approve", "You approved this, "),
            (declined, "decline", "You declined this, "),
        ):
            shown = await client.get(f"/approvals/{approval_id}")
            form = {"form_token": field(shown), "digest": field(shown, "digest"), "reason": "Not ours"}
            done = await client.post(f"/approvals/{approval_id}/{act}", data=form)
            page = (await client.get(done.headers["location"].removeprefix("/console"))).text
            notice = re.findall(r'<p class="notice good" id="done" role="status"[^>]*>(.*?)</p>', page)
            assert [text_of(each).startswith(told) for each in notice] == [True], page
            assert 'id="done"' not in (await client.get(f"/approvals/{approval_id}")).text
    async with signed_in(office, "manager") as client:
        assert 'id="done"' not in (await client.get(f"/approvals/{approval_id}?done=1")).text, "somebody else did"


async def test_a_reversal_shows_the_payment_that_it_gives_back(office: Office) -> None:
    acme = office.people.organization_id
    async with office.platform.core.store.reading(acme) as session:
        [shortcode] = await session.all(select(Shortcode))
    [collected] = await add_payments(
        office,
        PaymentStatus.SUCCEEDED,
        shortcode_id=shortcode.id,
        amount_cents=10_700_00,
        phone="254733000012",
        receipt="SKQ1TESTAB",
    )
    request = ReversalRequest(receipt="SKQ1TESTAB", reason="Paid twice", idempotency_key=new_id("key"))
    opened = await open_payment(office.platform.core, manager_of(acme), request)
    assert opened.payment.approval is not None, opened.payment
    async with signed_in(office, "org_admin") as client:
        page = (await client.get(f"/approvals/{opened.payment.approval.approval_id}")).text
    given_back = page.partition("What it gives back</h2>")[2].partition("<h2>")[0]
    assert f"/console/payments/{collected.id}" in given_back
    assert "Collection “INV-1” KES 10,700 succeeded" in text_of(given_back)
    assert "first payment to this number" not in page


async def test_what_else_waits_for_the_same_number_is_shown_whichever_was_asked_for_first(office: Office) -> None:
    acme, phone = office.people.organization_id, "254722000710"
    older = await hold_payment(office.platform, acme, 10_800, phone=phone)
    async with signed_in(office, "org_admin") as client:
        open_page = looks_again((await client.get(f"/approvals/{older}")).text)
        newer = await hold_payment(office.platform, acme, 10_900, phone=phone)
        shown = text_of((await client.get(open_page)).text)
        assert "KES 10,900 awaiting approval" in shown
        assert "None of these has succeeded. This would be the first payment to this number." in shown
        assert "KES 10,800 awaiting approval" in text_of((await client.get(f"/approvals/{newer}")).text)
        await add_batch(office.platform, acme, 7, shillings=88)
        shown = text_of((await client.get(f"/approvals/{older}")).text)
        assert "1 row of batches waits to be paid to this number, too." in shown


async def test_who_asked_and_is_one_of_too_few_is_not_told_to_ask_again(office: Office) -> None:
    core, acme = office.platform.core, office.people.organization_id
    invited = await invite(
        core.store,
        core.clock,
        organization_id=acme,
        email="second@acme.example",
        role=Role.ORG_ADMIN,
        actor=OPERATOR,
        seats=seats_of,
    )
    second = await accept_invitation(core.store, core.clock, invited.token.reveal(), Secret(PASSWORD), seats=seats_of)
    held = await hold_payment(office.platform, acme, 10_950)
    async with core.store.session(acme) as session:
        approval = await session.lock(Approval, held)
        assert approval is not None
        org_admins = await session.all(select(User).where(User.role == Role.ORG_ADMIN))
        approval.asked_by, approval.approvers_needed = f"user:{second.user_id}", len(org_admins)
    try:
        async with browser(office.url) as client:
            await sign_in(client, "second@acme.example")
            shown = text_of((await client.get(f"/approvals/{held}")).text)
            assert "Asking again does not help while it is the same person who asks." in shown
            assert "new idempotency_key" not in shown
    finally:
        async with core.store.session(acme) as session:
            await session.change(
                update(User).where(col(User.id) == second.user_id).values(deactivated_at=core.clock.now())
            )


async def test_what_an_assistant_wrote_is_not_taken_for_our_words_in_the_queue(office: Office) -> None:
    lie = "Rent · simulator · 1 of 1 approval · already approved"
    approval_id = await hold_payment(office.platform, office.people.organization_id, 10_960)
    await become(office, approval_id, PaymentStatus.AWAITING_APPROVAL, remarks=lie)
    async with signed_in(office, "org_admin") as client:
        queue = (await client.get("/approvals")).text
    assert f"<p>Reason given: “{lie}”</p>" in queue
    assert "to 2547*****001 · simulator Reason given:" in text_of(queue)
