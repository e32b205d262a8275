"""Batches that were paused for longer than a payment may wait: to resume one is to let its rows go anew."""

from datetime import timedelta

import pytest

from mpesa_mcp.payments.batches.control import pause_batch, resume_batch
from mpesa_mcp.payments.batches.states import BatchStatus
from mpesa_mcp.values import FrozenClock

from .factories import Shop, send_due
from .fake_daraja import Call
from .test_batches import a_batch, control, feed, rows, state, submitted

pytestmark = pytest.mark.anyio


async def test_a_batch_that_is_resumed_after_days_is_paid_and_its_rows_wait_a_day_from_then(
    shop: Shop, clock: FrozenClock
) -> None:
    batch = await submitted(shop, a_batch(rows(3)))
    await feed(shop)
    await control(shop, pause_batch, batch)
    clock.advance(timedelta(days=9))
    await control(shop, resume_batch, batch)
    clock.advance(timedelta(hours=23))
    assert await send_due(shop.core) == 3
    assert len(shop.daraja.of("b2c")) == 3
    assert await state(shop, batch) == (BatchStatus.RUNNING, {"in_progress": 3})


async def test_a_row_that_came_back_to_the_queue_of_a_paused_batch_waits_for_it_too(
    shop: Shop, clock: FrozenClock
) -> None:
    """It is due by itself, and no worker may have looked at it before it was too old to be sent."""
    batch = await submitted(shop, a_batch(rows(1)))
    await feed(shop)

    async def pause(_call: Call) -> None:
        await control(shop, pause_batch, batch)

    shop.daraja.on_call = pause
    shop.daraja.order_spike_arrest("b2c")
    await send_due(shop.core)
    shop.daraja.on_call = None
    clock.advance(timedelta(days=9))
    assert await send_due(shop.core) == 1
    assert await state(shop, batch) == (BatchStatus.PAUSED, {"waiting": 1})
    await control(shop, resume_batch, batch)
    await send_due(shop.core)
    assert await state(shop, batch) == (BatchStatus.RUNNING, {"in_progress": 1})


async def test_a_row_that_waits_for_days_after_its_batch_was_resumed_is_given_up(
    shop: Shop, clock: FrozenClock
) -> None:
    batch = await submitted(shop, a_batch(rows(1)))
    await feed(shop)
    await control(shop, pause_batch, batch)
    clock.advance(timedelta(days=9))
    await control(shop, resume_batch, batch)
    clock.advance(timedelta(hours=24, seconds=1))
    await send_due(shop.core)
    assert await state(shop, batch) == (BatchStatus.COMPLETED, {"failed": 1})
    assert shop.daraja.of("b2c") == []
