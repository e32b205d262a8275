"""Batches that wait for people: approved once for exactly their rows, declined, expired, void."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col

from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.payments.approving import ApprovalVoid, NotAllowedAnyMore, approve, decline
from mpesa_mcp.payments.batches.brakes import IN_A_ROW
from mpesa_mcp.payments.batches.control import cancel_batch, pause_batch, resume_batch
from mpesa_mcp.payments.batches.models import BatchLine
from mpesa_mcp.payments.batches.reading import BatchRecord, find_batch
from mpesa_mcp.payments.batches.states import BatchStatus, Outcome
from mpesa_mcp.policy.approvals import Approval, ApprovalStatus
from mpesa_mcp.values import FrozenClock
from tests.spending import give_rule

from .approvals import a_person, approval_of, tamper
from .factories import Shop, send_due
from .test_batches import a_batch, control, feed, payments, rows, spent, submitted

pytestmark = pytest.mark.anyio


async def held(shop: Shop, clock: FrozenClock) -> tuple[BatchRecord, str, Actor]:
    """A batch of eleven rows that waits, its approval, and somebody who may decide."""
    person = await a_person(shop.core, shop.principal.organization_id, "jane")
    clock.advance(timedelta(minutes=1))
    batch = await submitted(shop, a_batch(rows(11, amount=1000)))
    assert batch.status is BatchStatus.AWAITING_APPROVAL
    assert batch.approval is not None
    clock.advance(timedelta(minutes=1))
    return batch, batch.approval.approval_id, person


async def edit_a_row(shop: Shop, batch: BatchRecord) -> None:
    """As nothing of ours does."""
    edited = update(BatchLine).where(col(BatchLine.batch_id) == batch.batch_id, col(BatchLine.line) == 7)
    async with shop.core.store.session(shop.principal.organization_id) as session:
        await session.change(edited.values(phone="254799999999"))


async def status(shop: Shop, batch: BatchRecord) -> BatchStatus:
    return (await find_batch(shop.core, shop.principal, batch.batch_id)).status


async def test_one_approval_lets_every_row_go(shop: Shop, clock: FrozenClock) -> None:
    batch, approval_id, person = await held(shop, clock)
    asked = await approval_of(shop, approval_id)
    assert (asked.batch_id, asked.payment_count, asked.amount_cents) == (batch.batch_id, 11, 11_000_00)
    assert await feed(shop) == 0
    for _ in range(2):
        approved = await approve(shop.core, shop.principal.organization_id, approval_id, actor=person)
        assert approved.status is ApprovalStatus.APPROVED
    assert await feed(shop) == 1
    await send_due(shop.core)
    assert len(shop.daraja.of("b2c")) == IN_A_ROW


async def test_a_batch_that_is_edited_before_it_is_approved_is_void(shop: Shop, clock: FrozenClock) -> None:
    batch, approval_id, person = await held(shop, clock)
    await edit_a_row(shop, batch)
    with pytest.raises(ApprovalVoid):
        await approve(shop.core, shop.principal.organization_id, approval_id, actor=person)
    await feed(shop)
    assert (await status(shop, batch), await payments(shop)) == (BatchStatus.VOID, [])


async def test_a_batch_that_is_edited_after_it_was_approved_is_void_and_pays_nobody(
    shop: Shop, clock: FrozenClock
) -> None:
    batch, approval_id, person = await held(shop, clock)
    await approve(shop.core, shop.principal.organization_id, approval_id, actor=person)
    await edit_a_row(shop, batch)
    while await feed(shop):
        pass
    assert (await status(shop, batch), await payments(shop)) == (BatchStatus.VOID, [])
    assert (await approval_of(shop, approval_id)).status == ApprovalStatus.VOID


async def test_what_is_declined_expires_or_is_taken_back_pays_nobody_and_is_spent_by_nobody(
    shop: Shop, clock: FrozenClock
) -> None:
    organization_id = shop.principal.organization_id
    batch, approval_id, person = await held(shop, clock)
    assert await spent(shop) == 11_000
    await decline(shop.core, organization_id, approval_id, actor=person, reason="Wrong month")
    found = await find_batch(shop.core, shop.principal, batch.batch_id)
    assert (found.status, found.totals[Outcome.CANCELLED].count) == (BatchStatus.DECLINED, 11)
    assert found.reason is not None and "Wrong month" in found.reason

    late = await submitted(shop, a_batch(rows(11, amount=1000), key="late"))
    taken_back = await submitted(shop, a_batch(rows(12, amount=1001), key="taken-back"))
    await control(shop, cancel_batch, taken_back)
    assert taken_back.approval is not None
    assert (await approval_of(shop, taken_back.approval.approval_id)).status == ApprovalStatus.VOID
    assert await spent(shop) == 11_000
    clock.advance(timedelta(hours=25))
    assert await feed(shop) == 1
    assert await status(shop, late) is BatchStatus.EXPIRED
    clock.advance(timedelta(hours=-25))
    assert await spent(shop) == 0
    assert await payments(shop) == []


async def test_the_rules_of_the_moment_are_asked_again_about_every_row_of_a_batch(
    shop: Shop, clock: FrozenClock
) -> None:
    core, organization_id = shop.core, shop.principal.organization_id
    jane = await a_person(core, organization_id, "jane")
    # All of it is reserved: nothing is left for anybody else, and it fits nevertheless.
    exactly: dict[str, Any] = {"approval_above": 10_000, "per_day": 11_000, "payments_per_recipient_per_day": 1}
    changed: dict[str, dict[str, Any]] = {
        "at most 10 payments": {"largest_batch": 10},
        "Line 7: ": {"denied_recipients": ["254712000007"]},
        "Line 11: ": {"per_day": 10_999},
        "": {"second_approval_above": 10_999},
    }
    for said, rule in changed.items():
        await give_rule(core, organization_id, **exactly)
        joe = jane if said else await a_person(core, organization_id, "joe")
        clock.advance(timedelta(minutes=1))
        batch = await submitted(shop, a_batch(rows(11, amount=1000), key=f"changed-{len(said)}"))
        assert batch.approval is not None
        await give_rule(core, organization_id, **exactly | rule)
        if said:
            with pytest.raises(NotAllowedAnyMore, match=said) as refused:
                await approve(core, organization_id, batch.approval.approval_id, actor=jane)
            found = await find_batch(core, shop.principal, batch.batch_id)
            assert (found.status, await spent(shop)) == (BatchStatus.DECLINED, 0)
            assert found.reason is not None and found.reason in refused.value.message
            continue
        waits = await approve(core, organization_id, batch.approval.approval_id, actor=jane)
        assert (waits.status, waits.approvals, waits.approvers_needed) == (ApprovalStatus.PENDING, 1, 2)
        done = await approve(core, organization_id, batch.approval.approval_id, actor=joe)
        assert (done.status, await feed(shop)) == (ApprovalStatus.APPROVED, 1)
    assert len(await payments(shop)) == 11


async def test_a_payment_of_a_batch_is_sent_as_its_row_was_approved_or_not_at_all(
    shop: Shop, clock: FrozenClock
) -> None:
    """Whatever is written into the rows of payments, and whoever has the batch go on after that."""
    batch, approval_id, person = await held(shop, clock)
    await approve(shop.core, shop.principal.organization_id, approval_id, actor=person)
    await feed(shop)
    await control(shop, pause_batch, batch)
    edited: list[dict[str, Any]] = [
        {"phone": "254799999999"},
        {"amount_cents": 250_000_00},
        {"reference": "OTHER"},
        {"remarks": "Other"},
        {"purpose": "promotion"},
        {"occasion": "Other"},
        {"shortcode": "600000"},
        {"idempotency_key": f"{batch.batch_id}-1-2"},
        {"idempotency_key": "other"},
    ]
    *changed, one, other = await payments(shop)
    for payment, values in zip(changed, edited, strict=True):
        await tamper(shop, payment.id, **values)
    await control(shop, resume_batch, batch)
    await send_due(shop.core)
    await send_due(shop.core)
    assert {each.body["OriginatorConversationID"] for each in shop.daraja.of("b2c")} == {
        one.originator_conversation_id,
        other.originator_conversation_id,
    }
    assert [await shop.status(each.id) for each in changed] == ["expired"] * len(edited)


async def test_queued_payments_of_a_batch_that_is_not_approved_are_not_sent(shop: Shop, clock: FrozenClock) -> None:
    _, approval_id, person = await held(shop, clock)
    await approve(shop.core, shop.principal.organization_id, approval_id, actor=person)
    await feed(shop)
    async with shop.core.store.session(shop.principal.organization_id) as session:
        await session.change(update(Approval).where(col(Approval.id) == approval_id).values(status="pending"))
    await send_due(shop.core)
    await send_due(shop.core)
    assert shop.daraja.of("b2c") == []
    assert {payment.status for payment in await payments(shop)} == {"expired"}
