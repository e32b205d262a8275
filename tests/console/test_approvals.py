"""Deciding in the console: what the page showed is what is approved, by somebody who may, once."""

import re

import pytest

from mpesa_mcp.audit.reading import EntryFilter, EntryRecord, list_entries
from mpesa_mcp.billing.states import SubscriptionStatus
from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.identity.invitations import accept_invitation, invite
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.reading import payment_of
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.policy.approvals import Approval
from mpesa_mcp.values import Role, Secret
from tests.api.people import OPERATOR, PASSWORD
from tests.billing.factories import subscribe

from .office import (
    Office,
    add_batch,
    add_payments,
    browser,
    field,
    frozen,
    hold_payment,
    looks_again,
    sign_in,
    signed_in,
    text_of,
)

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
        said = text_of(shown.text)
        for needed in (
            "Payout to 0733 000 001",
            "KES 25,000",
            "Rent of November",
            "Asked for by key tester",
            "10,000",
            "0 of 1 approval given",
            "“Rent of October” KES 812 succeeded",
        ):
            assert needed in said, needed
        form = {"form_token": field(shown), "digest": field(shown, "digest")}
        other = await client.post(f"/approvals/{approval_id}/approve", data=form | {"digest": "0" * 64})
        assert (other.status_code, "What you saw is not what would be sent" in other.text) == (409, True)
        without = await client.post(f"/approvals/{approval_id}/approve", data={"form_token": field(shown)})
        assert without.status_code == 409
        assert await status_of(office, approval_id) == ("pending", PaymentStatus.AWAITING_APPROVAL)
        asked_again = looks_again(shown.text)
        assert (await client.get(asked_again)).status_code == 204
        done = await client.post(f"/approvals/{approval_id}/approve", data=form)
        assert (done.status_code, done.headers["location"]) == (303, f"/console/approvals/{approval_id}?done=1")
        assert await status_of(office, approval_id) == ("approved", PaymentStatus.QUEUED)
        again = await client.post(f"/approvals/{approval_id}/decline", data=form | {"reason": "Too late"})
        assert (again.status_code, "approved already" in again.text) == (409, True)
        after = await client.get(asked_again)
        assert ("org_admin@acme.example approved it" in after.text, "every 3s" in after.text) == (True, True)


async def test_a_batch_is_judged_by_its_name_its_size_and_what_is_left_out_of_it(office: Office) -> None:
    acme = office.people.organization_id
    batch_id = await add_batch(office.platform, acme, 4, shillings=9_000, left_out=2)
    async with signed_in(office, "org_admin") as client:
        queue = await client.get("/approvals")
        html = next(each for each in queue.text.split("<li>") if "Payroll of November" in each)
        card = text_of(html)
        assert "Batch of KES 36,000: “Payroll of November” 4 payouts · business · the largest KES 9,000" in card
        assert "2 rows of the file left out · simulator" in card
        waiting = int(text_of(queue.text.partition('id="waiting">')[2].partition("</a>")[0]).split()[0])
        approval = re.findall(r"/approvals/apr_\w+", html)[0]
        shown = await client.get(approval)
        assert "<h1>Payroll of November</h1>" in shown.text
        said = text_of(shown.text)
        for needed in (
            "KES 36,000",
            "Batch of 4 payouts; 2 rows",
            "Largest row KES 9,000",
            "Purpose business",
            "simulator",
        ):
            assert needed in said, needed
        form = {"form_token": field(shown)}
        batch = await client.get(f"/batches/{batch_id}")
        assert batch.text.count("Kenyan mobile number") == 2, "each row once"
        assert "5 “12” phone must be a Kenyan mobile number" in text_of(batch.text)
        assert "“9000” rejected" in text_of(batch.text)
        asked_again = [looks_again(page.text) for page in (shown, batch)]
        for path in asked_again:
            assert (await client.get(path)).status_code == 204, path
        await client.post(f"/batches/{batch_id}/cancel", data=form)
        for path in asked_again:
            after = await client.get(path)
            assert (after.status_code, "cancelled" in after.text, "every 3s" in after.text) == (200, True, False)
        assert "/retry" not in after.text
        assert "4 payouts: 0 paid, 4 cancelled" in after.text
        left = (await client.get("/batches")).text.partition('id="waiting">')[2].partition("</a>")[0]
        assert int(text_of(left).split()[0]) == waiting - 1
    async with signed_in(office, "manager") as client:
        assert 'id="waiting"' not in (await client.get("/approvals")).text


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


async def test_who_became_org_admin_after_it_was_asked_for_is_offered_no_button_and_told_what_to_do(
    office: Office,
) -> None:
    core, acme = office.platform.core, office.people.organization_id
    approval_id = await hold_payment(office.platform, acme, 10_500)
    path = f"/approvals/{approval_id}"
    invited = await invite(
        core.store,
        core.clock,
        organization_id=acme,
        email="late@acme.example",
        role=Role.ORG_ADMIN,
        actor=OPERATOR,
        seats=seats_of,
    )
    await accept_invitation(core.store, core.clock, invited.token.reveal(), Secret(PASSWORD), seats=seats_of)
    async with browser(office.url) as client:
        await sign_in(client, "late@acme.example")
        shown = (await client.get(path)).text
        assert ("You became org_admin after this was asked for" in shown, "/approve" in shown) == (True, False)
        assert (f"{path}/decline" in shown, "new idempotency_key" in shown) == (True, False)
        async with core.store.session(acme) as session:
            approval = await session.lock(Approval, approval_id)
            assert approval is not None
            approval.asked_by = f"user:{office.people.users['org_admin'].user_id}"
            approval.approvers_needed = 9
        assert "make one more person org_admin, and only then" in (await client.get(path)).text
    async with signed_in(office, "org_admin") as client:
        shown = (await client.get(path)).text
        assert ("You asked for this yourself" in shown, "/approve" in shown) == (True, False)


async def test_a_subscription_that_is_past_due_lets_nothing_out_which_the_page_and_the_audit_say(
    office: Office,
) -> None:
    core, acme = office.platform.core, office.people.organization_id
    approval_id = await hold_payment(office.platform, acme, 12_000)
    batch_id = await add_batch(office.platform, acme, 1, shillings=77)
    async with signed_in(office, "org_admin") as client:
        path, batch = f"/approvals/{approval_id}", f"/batches/{batch_id}"
        shown = await client.get(path)
        form = {"form_token": field(shown), "digest": field(shown, "digest")}
        await client.post(f"{batch}/pause", data=form)
        await subscribe(core.store, core.clock, acme, SubscriptionStatus.PAST_DUE)
        waiting = (await client.get(path)).text
        assert "subscription is past due" in waiting
        assert re.search(r'<button id="approve" disabled[^>]*>Approve', waiting)
        for asked, said in (
            (f"{path}/approve", "this waits until its approval expires, and can still be declined."),
            (f"{batch}/resume", "the batch stays paused."),
            (f"{batch}/retry", "Nothing was changed."),
        ):
            refused = await client.post(asked, data=form)
            assert (refused.status_code, "subscription is past due" in refused.text) == (403, True), asked
            assert said in refused.text
        assert await status_of(office, approval_id) == ("pending", PaymentStatus.AWAITING_APPROVAL)
        assert (await client.post(f"{batch}/cancel", data=form)).status_code == 303
        await subscribe(core.store, core.clock, acme, SubscriptionStatus.ACTIVE)
        assert (await client.post(f"{path}/approve", data={"form_token": ""})).status_code == 403
        assert (await client.post(f"{path}/approve", data=form)).status_code == 303
    async with signed_in(office, "manager") as client:
        assert (await client.post(f"{path}/approve", data={"form_token": ""})).status_code == 403
        assert (await client.get("/rules/organization")).status_code == 403
    told: list[EntryRecord] = []
    for subject in (approval_id, batch_id):
        wanted = EntryFilter(action="request.refused", subject=subject)
        told += (await list_entries(core.store, acme, wanted, limit=50)).entries[::-1]
    assert [(each.reasons, (each.detail or {})["request"].removeprefix("POST /console")) for each in told] == [
        ("subscription_past_due", "/approvals/{approval_id}/approve"),
        ("not_our_form", "/approvals/{approval_id}/approve"),
        ("not_allowed", "/approvals/{approval_id}/approve"),
        ("subscription_past_due", "/batches/{batch_id}/resume"),
        ("subscription_past_due", "/batches/{batch_id}/retry"),
    ]
    looked = await list_entries(core.store, acme, EntryFilter(action="request.refused", subject=acme), limit=50)
    assert looked.entries == []


async def test_who_let_the_account_in_that_decided_stands_beside_the_decision_and_in_the_audit(office: Office) -> None:
    core, acme = office.platform.core, office.people.organization_id
    jane = office.people.users["org_admin"]
    as_jane = Actor(f"user:{jane.user_id}", Role.ORG_ADMIN, jane.user_id)
    invited = await invite(
        core.store,
        core.clock,
        organization_id=acme,
        email="jane.too@elsewhere.example",
        role=Role.ORG_ADMIN,
        actor=as_jane,
        seats=seats_of,
    )
    await accept_invitation(core.store, core.clock, invited.token.reveal(), Secret(PASSWORD), seats=seats_of)
    approval_id = await hold_payment(office.platform, acme, 14_000)
    async with browser(office.url) as client:
        await sign_in(client, "jane.too@elsewhere.example")
        shown = await client.get(f"/approvals/{approval_id}")
        form = {"form_token": field(shown), "digest": field(shown, "digest")}
        await client.post(f"/approvals/{approval_id}/approve", data=form)
        said = text_of((await client.get(f"/approvals/{approval_id}")).text)
    assert re.search(rf"jane.too@elsewhere.example approved it, [^.]* Let in by {jane.email}, ", said), said
    [told] = (await list_entries(core.store, acme, EntryFilter(action="approval.approved"), limit=1)).entries
    assert told.subject == approval_id
    assert (told.detail or {})["account_made_by"] == as_jane.name


async def test_while_the_organization_is_frozen_the_page_says_so_and_offers_no_approval_that_would_be_refused(
    office: Office,
) -> None:
    approval_id = await hold_payment(office.platform, office.people.organization_id, 13_000)
    async with signed_in(office, "org_admin") as client:
        path = f"/approvals/{approval_id}"
        open_page = looks_again((await client.get(path)).text)
        assert (await client.get(open_page)).status_code == 204
        async with frozen(office):
            # A page that was open then learns of it, too.
            shown = await client.get(open_page)
            assert "The organization is frozen" in shown.text
            assert re.search(r'<button id="approve" disabled[^>]*>Approve', shown.text)
            form = {"form_token": field(shown), "digest": field(shown, "digest")}
            refused = await client.post(f"{path}/approve", data=form)
            assert (refused.status_code, "can still be declined" in refused.text) == (403, True)
        assert "disabled" not in (await client.get(path)).text
        assert (await client.post(f"{path}/approve", data=form)).status_code == 303
