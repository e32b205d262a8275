"""Payments that wait for people: who may approve them, what exactly is approved, and that it is sent once or never."""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import anyio
import pytest
from sqlmodel import col, select

from mpesa_mcp.audit import AuditEntry
from mpesa_mcp.errors import InputError, MpesaMcpError, NotFoundError
from mpesa_mcp.identity import standing
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.identity.users import change_role, deactivate_user
from mpesa_mcp.payments.approval_reading import approval_to_decide, list_approvals
from mpesa_mcp.payments.approving import (
    ApprovalClosed,
    ApprovalVoid,
    NotAllowedAnyMore,
    SawSomethingElse,
    approve,
    claim_unapproved,
    decline,
    expire_unapproved,
)
from mpesa_mcp.payments.desk import NotWithdrawable, withdraw_payment
from mpesa_mcp.payments.reading import find_payment
from mpesa_mcp.payments.standing import OrganizationFrozen
from mpesa_mcp.policy.approvals import ApprovalStatus
from mpesa_mcp.policy.approvers import AnotherMustApprove
from mpesa_mcp.values import FrozenClock, Role
from tests.shortcodes import give_shortcode
from tests.spending import give_rule, miscounted

from .approvals import a_person, approval_of, held_payment, tamper
from .factories import Shop, a_payout, a_principal, open_shop, send_due

pytestmark = pytest.mark.anyio
OPERATOR = Actor("operator:tester", None)


@pytest.fixture
async def shop(database: Mapping[str, Any], acme: str, clock: FrozenClock) -> AsyncIterator[Shop]:
    """One whose Daraja may be called at any pace."""
    async with open_shop(database, clock, organization_id=acme, daraja_calls_per_second=10_000) as opened:
        yield opened


async def dismiss(shop: Shop, person: Actor) -> None:
    core, organization_id = shop.core, shop.principal.organization_id
    assert person.user_id is not None
    await deactivate_user(
        core.store, core.clock, organization_id=organization_id, user_id=person.user_id, actor=OPERATOR
    )


async def test_approved_by_two_at_the_same_moment_it_is_sent_once(shop: Shop) -> None:
    core, organization_id = shop.core, shop.principal.organization_id
    people = [await a_person(core, organization_id, name) for name in ("jane", "joe")]
    payment_id, approval_id = await held_payment(shop, a_payout(shillings=25_000))
    assert await send_due(core) == 0
    answers: list[str] = []

    async def decides(actor: Actor) -> None:
        try:
            answers.append((await approve(core, organization_id, approval_id, actor=actor)).status)
        except ApprovalClosed as closed:
            answers.append(f"refused: {closed.status}")

    async with anyio.create_task_group() as group:
        for person in people * 3:
            group.start_soon(decides, person)
    # One decides; who has decided may say so again, and everybody else is told.
    assert sorted(answers) == ["approved"] * 3 + ["refused: approved"] * 3
    assert await shop.status(payment_id) == "queued"
    assert await send_due(core) == 1
    assert await send_due(core) == 0
    [sent] = shop.daraja.of("b2c")
    assert (sent.body["Amount"], sent.body["PartyB"]) == ("25000", "254700000001")
    with pytest.raises(ApprovalClosed):
        await decline(core, organization_id, approval_id, actor=people[0], reason="Too late")
    async with core.store.reading(organization_id) as session:
        told = await session.all(
            select(AuditEntry).where(AuditEntry.subject == approval_id).order_by(col(AuditEntry.id))
        )
    assert [entry.action for entry in told] == ["approval.asked", "approval.approved"]
    assert told[0].actor == shop.principal.actor
    assert told[1].actor in {person.name for person in people}


async def test_nobody_approves_who_is_no_independent_person(shop: Shop) -> None:
    """An assistant with whatever it may hold, who asked, who was made or promoted for it, who is gone."""
    core, organization_id = shop.core, shop.principal.organization_id
    asker = await a_person(core, organization_id, "asker")
    promoted = await a_person(core, organization_id, "promoted", role=Role.MANAGER)
    gone = await a_person(core, organization_id, "gone")
    at_mcp = await a_person(core, organization_id, "at-mcp", is_person=False)
    manager = await a_person(core, organization_id, "manager", role=Role.MANAGER)
    in_the_chat = a_principal(organization_id, role=Role.ORG_ADMIN)
    principal = type(in_the_chat)(
        organization_id, asker.name, Role.ORG_ADMIN, in_the_chat.environment, None, "asker", asker.user_id
    )
    payment_id, approval_id = await held_payment(shop, a_payout(shillings=25_000), asker=principal)
    newer = await a_person(core, organization_id, "newer")
    assert promoted.user_id is not None
    await change_role(
        core.store,
        core.clock,
        organization_id=organization_id,
        user_id=promoted.user_id,
        role=Role.ORG_ADMIN,
        actor=OPERATOR,
    )
    await dismiss(shop, gone)
    refused = {
        "an org_admin's key": (in_the_chat.as_actor, "not_an_approver"),
        "a session used on /mcp": (at_mcp, "not_an_approver"),
        "a manager": (manager, "not_an_approver"),
        "a manager who says otherwise": (Actor(manager.name, Role.ORG_ADMIN, manager.user_id, True), "not_an_approver"),
        "the operator": (OPERATOR, "not_an_approver"),
        "the operator, as a person": (Actor("operator:tester", None, is_person=True), "not_an_approver"),
        "the platform": (Actor("user:usr_root", Role.SUPER_ADMIN, "usr_root", True), "not_an_approver"),
        "who asked": (asker, "own_request"),
        "who was made since": (newer, "newer_than_request"),
        "who was promoted since": (Actor(promoted.name, Role.ORG_ADMIN, promoted.user_id, True), "newer_than_request"),
        "who is gone": (gone, "not_an_approver"),
    }
    for who, (actor, code) in refused.items():
        with pytest.raises(MpesaMcpError) as told:
            await approve(core, organization_id, approval_id, actor=actor)
        assert (told.value.code, told.value.http_status) == (code, 403), who
        if code == "not_an_approver":
            with pytest.raises(MpesaMcpError):
                await decline(core, organization_id, approval_id, actor=actor, reason="Because")
    stranger = await a_person(core, organization_id, "stranger")
    with pytest.raises(NotFoundError):
        await approve(core, organization_id, "apr_01k00000000000000000000000", actor=stranger)
    with pytest.raises(NotWithdrawable):
        await withdraw_payment(core, organization_id, payment_id, reason="Not wanted", actor="operator:tester")
    assert await shop.status(payment_id) == "awaiting_approval"
    assert (await approval_of(shop, approval_id)).status == "pending"
    assert await send_due(core) == 0


async def test_two_approvals_are_those_of_two_people_who_still_may(shop: Shop) -> None:
    core, organization_id = shop.core, shop.principal.organization_id
    jane, joe, third = [await a_person(core, organization_id, name) for name in ("jane", "joe", "third")]
    await give_rule(core, organization_id, approval_above=10_000, per_day=100_000, second_approval_above=20_000)
    payment_id, approval_id = await held_payment(shop, a_payout(shillings=25_000))
    first = await approve(core, organization_id, approval_id, actor=jane)
    assert (first.status, first.approvals, first.approvers_needed) == ("pending", 1, 2)
    with pytest.raises(AnotherMustApprove):
        await approve(core, organization_id, approval_id, actor=jane)
    await dismiss(shop, jane)
    second = await approve(core, organization_id, approval_id, actor=joe)
    assert (second.status, second.approvals, second.approvers_needed) == ("pending", 1, 2)
    [listed] = (await list_approvals(core, organization_id, limit=5)).items
    assert (listed.approval.approvals, len(listed.approval.decisions)) == (1, 2)
    assert await shop.status(payment_id) == "awaiting_approval"
    last = await approve(core, organization_id, approval_id, actor=third)
    assert (last.status, last.approvals, [each.user_id for each in last.decisions]) == (
        "approved",
        2,
        [jane.user_id, joe.user_id, third.user_id],
    )
    assert await send_due(core) == 1


async def test_a_declined_payment_says_why_and_is_never_sent(shop: Shop) -> None:
    """Who has approved as the first of two may still decline; so may who asked, for that stops money."""
    core, organization_id = shop.core, shop.principal.organization_id
    jane, joe = [await a_person(core, organization_id, name) for name in ("jane", "joe")]
    await give_rule(core, organization_id, approval_above=10_000, per_day=100_000, second_approval_above=20_000)
    payment_id, approval_id = await held_payment(shop, a_payout(shillings=25_000))
    await approve(core, organization_id, approval_id, actor=jane)
    for reason in ("", " ", "x", "a\nb", "x" * 201, "zero\u200bwidth"):
        with pytest.raises(InputError):
            await decline(core, organization_id, approval_id, actor=jane, reason=reason)
    declined = await decline(core, organization_id, approval_id, actor=jane, reason="The invoice is paid")
    assert [(each.verdict, each.reason) for each in declined.decisions] == [
        ("approved", None),
        ("declined", "The invoice is paid"),
    ]
    payment = await find_payment(core, shop.principal, payment_id)
    assert (payment.status, payment.reason) == ("declined", "A person declined it: The invoice is paid")
    with pytest.raises(ApprovalClosed):
        await approve(core, organization_id, approval_id, actor=joe)
    assert await send_due(core) == 0


async def test_after_twenty_four_hours_nobody_can_approve_it_any_more(shop: Shop, clock: FrozenClock) -> None:
    core, organization_id = shop.core, shop.principal.organization_id
    jane = await a_person(core, organization_id, "jane")
    payment_id, approval_id = await held_payment(shop, a_payout(shillings=25_000))
    approval = await approval_of(shop, approval_id)
    assert approval.expires_at - approval.asked_at == timedelta(hours=24)
    clock.at = approval.expires_at - timedelta(seconds=1)
    assert await claim_unapproved(core, 10) == []
    clock.at = approval.expires_at
    with pytest.raises(ApprovalClosed) as closed:
        await approve(core, organization_id, approval_id, actor=jane)
    assert closed.value.status is ApprovalStatus.EXPIRED
    for claim in await claim_unapproved(core, 10):
        await expire_unapproved(core, claim)
    payment = await shop.row(payment_id)
    assert (payment.status, payment.reason) == ("expired", "Nobody approved it within 24 hours; nothing was sent.")
    assert (await approval_of(shop, approval_id)).status == "expired"
    assert await send_due(core) == 0


async def test_what_was_approved_is_what_is_sent_and_nothing_else(shop: Shop) -> None:
    core, organization_id = shop.core, shop.principal.organization_id
    jane = await a_person(core, organization_id, "jane")
    changed: Mapping[str, Any] = {"phone": "254711111111"}
    before, approval_id = await held_payment(shop, a_payout(shillings=25_000, key="before"))
    with pytest.raises(SawSomethingElse):
        await approve(core, organization_id, approval_id, actor=jane, digest="0" * 64)
    await tamper(shop, before, **changed)
    with pytest.raises(ApprovalVoid):
        await approve(core, organization_id, approval_id, actor=jane)
    assert (await approval_of(shop, approval_id)).status == "void"

    after, approval_id = await held_payment(shop, a_payout(shillings=25_000, key="after"))
    seen = (await approval_of(shop, approval_id)).digest
    await approve(core, organization_id, approval_id, actor=jane, digest=seen)
    await tamper(shop, after, **changed)
    await send_due(core)
    assert (await approval_of(shop, approval_id)).status == "void"

    # The approval of one payment lends itself to no other, nor does a row that says queued by itself.
    other, pending = await held_payment(shop, a_payout(shillings=25_000, key="other"))
    lent, given = await held_payment(shop, a_payout(shillings=25_000, key="lent"))
    await approve(core, organization_id, given, actor=jane)
    await tamper(shop, other, status="queued", approval_id=given, next_action_at=core.clock.now())
    alone, _ = await held_payment(shop, a_payout(shillings=25_000, key="alone"))
    await tamper(shop, alone, status="queued", next_action_at=core.clock.now())
    await send_due(core)
    assert [call.body["OriginatorConversationID"] for call in shop.daraja.of("b2c")] == [
        (await shop.row(lent)).originator_conversation_id
    ]
    assert {await shop.status(each) for each in (before, after, other, alone)} == {"expired"}
    assert (await approval_of(shop, pending)).status == "pending"


async def test_people_approve_the_text_as_it_reaches_safaricom_and_the_shortcode_it_goes_through(shop: Shop) -> None:
    core, organization_id = shop.core, shop.principal.organization_id
    jane = await a_person(core, organization_id, "jane")
    texts = {"remarks": "Rent \u2013 M\u00e4rz (2 rooms)", "occasion": "\u0631\u0648\u0627\u062a\u0628 11"}
    payment_id, approval_id = await held_payment(shop, a_payout(shillings=25_000, key="texts", **texts))
    sending = (await approval_to_decide(core, organization_id, approval_id)).sending
    await approve(core, organization_id, approval_id, actor=jane)
    await send_due(core)
    [call] = shop.daraja.of("b2c")
    assert sending is not None
    assert (sending.remarks, sending.occasion) == (call.body["Remarks"], call.body["Occassion"])
    assert (sending.remarks, sending.occasion) == ("Rent M rz 2 rooms", "11")
    assert (await shop.row(payment_id)).remarks == texts["remarks"]

    moved, approval_id = await held_payment(shop, a_payout(shillings=25_000, key="moved"))
    elsewhere = await give_shortcode(core, organization_id, shortcode="600000")
    await approve(core, organization_id, approval_id, actor=jane)
    await tamper(shop, moved, shortcode_id=elsewhere.shortcode_id)
    await send_due(core)
    row = await shop.row(moved)
    assert (row.status, row.result_code, len(shop.daraja.of("b2c"))) == ("queued", "credentials_missing", 1)


async def test_a_freeze_stops_approving_and_what_was_approved(shop: Shop) -> None:
    core, organization_id = shop.core, shop.principal.organization_id
    jane, joe = [await a_person(core, organization_id, name) for name in ("jane", "joe")]
    approved, approval_id = await held_payment(shop, a_payout(shillings=25_000, key="approved"))
    waiting, other_id = await held_payment(shop, a_payout(shillings=25_000, key="waiting"))
    await approve(core, organization_id, approval_id, actor=jane)
    await standing.freeze(core.store, core.clock, organization_id=organization_id, actor=jane)
    with pytest.raises(OrganizationFrozen):
        await approve(core, organization_id, other_id, actor=joe)
    assert await send_due(core) == 1
    assert shop.daraja.of("b2c") == []
    assert await shop.status(approved) == "queued"
    await decline(core, organization_id, other_id, actor=joe, reason="Not while it is frozen")
    assert await shop.status(waiting) == "declined"


async def test_the_rules_of_the_moment_are_asked_again_by_each_approval(shop: Shop) -> None:
    """What they refuse by now is declined and given back; what wants more people by now waits for them."""
    core, organization_id = shop.core, shop.principal.organization_id
    jane, joe = [await a_person(core, organization_id, name) for name in ("jane", "joe")]
    limits: dict[str, Any] = {
        "per_day": 75_000,
        "payments_per_recipient_per_day": 1,
        "first_payment": 25_000,
        "cool_off_hours": 9,
    }
    await give_rule(core, organization_id, approval_above=10_000, **limits)
    phones = ["254700000001", "254700000002", "254700000003"]
    held = [await held_payment(shop, a_payout(shillings=25_000, key=phone, phone=phone)) for phone in phones]
    (denied, its_approval), (doubted, needs_two), (large, is_too_large) = held

    limits |= {"denied_recipients": phones[:1], "second_approval_above": 20_000}
    await give_rule(core, organization_id, approval_above=10_000, **limits)
    with pytest.raises(NotAllowedAnyMore) as refused:
        await approve(core, organization_id, its_approval, actor=jane)
    assert (refused.value.code, "number" in refused.value.message) == ("approval_void", True)
    declined = await shop.row(denied)
    assert (declined.status, declined.result_code) == ("declined", "denied_recipients")
    assert declined.reason is not None and declined.reason in refused.value.message
    assert (await approval_of(shop, its_approval)).status == "void"
    with pytest.raises(ApprovalClosed):
        await approve(core, organization_id, its_approval, actor=joe)

    # Its own part of every limit is not counted against it a second time, nor is it its recipient's first payment.
    first = await approve(core, organization_id, needs_two, actor=jane)
    assert (first.status, first.approvals, first.approvers_needed) == ("pending", 1, 2)
    assert [each.code for each in first.reasons] == ["second_approval_above"]
    assert await shop.status(doubted) == "awaiting_approval"
    assert (await approve(core, organization_id, needs_two, actor=joe)).status is ApprovalStatus.APPROVED

    await give_rule(core, organization_id, approval_above=10_000, **limits | {"per_day": 49_999})
    with pytest.raises(NotAllowedAnyMore):
        await approve(core, organization_id, is_too_large, actor=jane)
    assert await shop.status(large) == "declined"
    assert await send_due(core) == 1
    async with core.store.reading(organization_id) as session:
        assert await miscounted(session) == []
