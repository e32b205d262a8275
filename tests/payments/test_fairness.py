"""One organization's slow calls and long queue keep nobody else waiting."""

from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from mpesa_mcp.app import worker
from mpesa_mcp.app.worker import working
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.values import FrozenClock

from .factories import a_payout, a_push, make_organization, open_shop
from .fake_daraja import Call

pytestmark = pytest.mark.anyio

# How many sends of one organization make others go first.
SHARE = 64


async def test_calls_that_hang_hold_a_share_of_the_slots_and_anothers_push_leaves_at_once(
    database: Mapping[str, Any], clock: FrozenClock
) -> None:
    share_hangs, push_arrived, released = anyio.Event(), anyio.Event(), anyio.Event()

    async def hang(call: Call) -> None:
        if call.operation == "stk_push":
            push_arrived.set()
            return
        if len(shop.daraja.of("b2c")) == SHARE:
            share_hangs.set()
        await released.wait()

    async with open_shop(database, clock, daraja_calls_per_second=10_000) as shop:
        other = await make_organization(shop.core, "other")
        for number in range(150):
            await open_payment(shop.core, shop.principal, a_payout(key=f"payout-{number}"))
        shop.daraja.on_call = hang
        async with working(shop.core):
            with anyio.fail_after(20):
                await share_hangs.wait()
                await open_payment(shop.core, other, a_push())
                await push_arrived.wait()
            assert SHARE <= len(shop.daraja.of("b2c")) < 2 * SHARE
            released.set()


async def test_a_row_whose_moment_cannot_be_read_does_not_stop_the_worker(
    database: Mapping[str, Any], clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreadable(*_arguments: object, **_values: object) -> None:
        looked.set()
        raise OverflowError("date value out of range")

    looked, arrived = anyio.Event(), anyio.Event()

    async def answer(_call: Call) -> None:
        arrived.set()

    monkeypatch.setattr(worker, "next_due", unreadable)
    async with open_shop(database, clock) as shop:
        shop.daraja.on_call = answer
        async with working(shop.core):
            with anyio.fail_after(20):
                await looked.wait()
                await open_payment(shop.core, shop.principal, a_push())
                await arrived.wait()
