"""To resume a batch is to let its rows go anew, however long it was paused, if the rules still allow them."""

from datetime import timedelta
from typing import Any

import pytest

from mpesa_mcp.identity.standing import freeze
from mpesa_mcp.payments.approving import approve
from mpesa_mcp.payments.batches.control import pause_batch, resume_batch
from mpesa_mcp.payments.batches.held import ApprovalNeededNow
from mpesa_mcp.payments.batches.problems import BatchInvalid
from mpesa_mcp.payments.batches.reading import BatchRecord
from mpesa_mcp.payments.batches.retrying import retry_batch
from mpesa_mcp.payments.batches.states import BatchStatus
from mpesa_mcp.payments.standing import OrganizationFrozen
from mpesa_mcp.values import FrozenClock
from tests.spending import give_rule

from .approvals import a_person
from .factories import Shop, send_due
from .test_batches import (
    FAILED,
    a_batch,
    control,
    end,
    feed,
    payments,
    rows,
    state,
    submitted,
    turned_away_while_paused,
)

pytestmark = pytest.mark.anyio


async def paused_for_days(shop: Shop, clock: FrozenClock, count: int) -> BatchRecord:
    """A batch of so many rows, whose payments waited to be sent when it was paused nine days ago."""
    batch = await submitted(shop, a_batch(rows(count)))
    await feed(shop)
    await control(shop, pause_batch, batch)
    clock.advance(timedelta(days=9))
    return batch


async def test_a_batch_that_is_resumed_after_days_is_paid_and_its_rows_wait_a_day_from_then(
    shop: Shop, clock: FrozenClock
) -> None:
    batch = await paused_for_days(shop, clock, 3)
    await control(shop, resume_batch, batch)
    clock.advance(timedelta(hours=23))
    assert await send_due(shop.core) == 3
    assert len(shop.daraja.of("b2c")) == 3
    assert await state(shop, batch) == (BatchStatus.RUNNING, {"in_progress": 3})


async def test_a_row_that_came_back_to_the_queue_of_a_paused_batch_waits_for_it_too(
    shop: Shop, clock: FrozenClock
) -> None:
    """It is due by itself, and no worker may have looked at it before it was too old to be sent."""
    batch = await turned_away_while_paused(shop)
    clock.advance(timedelta(days=9))
    assert await send_due(shop.core) == 1
    assert await state(shop, batch) == (BatchStatus.PAUSED, {"waiting": 1})
    await control(shop, resume_batch, batch)
    await send_due(shop.core)
    assert await state(shop, batch) == (BatchStatus.RUNNING, {"in_progress": 1})


async def test_a_row_that_waits_for_days_after_its_batch_was_resumed_is_given_up(
    shop: Shop, clock: FrozenClock
) -> None:
    batch = await paused_for_days(shop, clock, 1)
    await control(shop, resume_batch, batch)
    clock.advance(timedelta(hours=24, seconds=1))
    await send_due(shop.core)
    assert await state(shop, batch) == (BatchStatus.COMPLETED, {"failed": 1})
    assert shop.daraja.of("b2c") == []


@pytest.mark.parametrize("has_payments", [True, False], ids=["queued", "waiting"])
@pytest.mark.parametrize(
    ("rule", "lines"),
    [
        ({"denied_recipients": ["254712000001"]}, [1]),
        ({"per_payment": 99}, [1, 2, 3]),
        ({"per_day": 250}, [3]),
        ({"approval_above": 299}, None),
        ({"per_day": 300, "approval_above": 300}, []),
    ],
)
async def test_what_the_rules_forbid_by_now_does_not_go_on(
    shop: Shop, has_payments: bool, rule: dict[str, Any], lines: list[int] | None
) -> None:
    batch = await submitted(shop, a_batch(rows(3, amount=100)))
    if has_payments:
        await feed(shop)
    await control(shop, pause_batch, batch)
    await give_rule(shop.core, shop.principal.organization_id, **rule)
    if lines == []:
        await control(shop, resume_batch, batch)
    elif lines is None:
        with pytest.raises(ApprovalNeededNow, match=r"want a person to approve .* nobody was asked"):
            await control(shop, resume_batch, batch)
    else:
        with pytest.raises(BatchInvalid) as refused:
            await control(shop, resume_batch, batch)
        assert [problem.line for problem in refused.value.problems] == lines
    await feed(shop)
    await send_due(shop.core)
    assert len(shop.daraja.of("b2c")) == (3 if lines == [] else 0)
    assert (await state(shop, batch))[0] == (BatchStatus.RUNNING if lines == [] else BatchStatus.PAUSED)


async def test_rows_that_two_people_must_approve_by_now_are_neither_resumed_nor_tried_again(
    shop: Shop, clock: FrozenClock
) -> None:
    core, organization_id = shop.core, shop.principal.organization_id
    jane = await a_person(core, organization_id, "jane")
    await give_rule(core, organization_id, approval_above=100)
    clock.advance(timedelta(minutes=1))
    batch = await submitted(shop, a_batch(rows(2, amount=100)))
    assert batch.approval is not None
    await approve(core, organization_id, batch.approval.approval_id, actor=jane)
    await feed(shop)
    await send_due(core)
    one, two = await payments(shop)
    for each in (one, two):
        await end(shop, each, FAILED)
    await give_rule(core, organization_id, second_approval_above=150)
    with pytest.raises(ApprovalNeededNow, match=r"want 2 people to approve .* not so many have"):
        await control(shop, retry_batch, batch)
    await give_rule(core, organization_id, approval_above=150)
    await control(shop, retry_batch, batch)
    await control(shop, pause_batch, batch)
    await give_rule(core, organization_id, second_approval_above=150)
    with pytest.raises(ApprovalNeededNow):
        await control(shop, resume_batch, batch)


async def test_while_the_organization_is_frozen_nothing_of_a_batch_is_let_go_anew(
    shop: Shop, clock: FrozenClock
) -> None:
    core, organization_id = shop.core, shop.principal.organization_id
    batch = await submitted(shop, a_batch(rows(2)))
    await feed(shop)
    await send_due(core)
    one, _ = await payments(shop)
    await end(shop, one, FAILED)
    await control(shop, pause_batch, batch)
    jane = await a_person(core, organization_id, "jane")
    await freeze(core.store, core.clock, organization_id=organization_id, actor=jane)
    for let_go in (resume_batch, retry_batch):
        with pytest.raises(OrganizationFrozen, match="Nothing was changed"):
            await control(shop, let_go, batch)
    assert await state(shop, batch) == (BatchStatus.PAUSED, {"failed": 1, "in_progress": 1})
