"""What was to happen later does not happen once the simulator is reset, not even in the very moment it would begin."""

import asyncio
import time

import pytest

from mpesa_mcp.simulator.schedule import Schedule, pause

pytestmark = pytest.mark.anyio


async def test_work_that_is_cancelled_in_the_turn_of_the_loop_in_which_it_wakes_does_not_go_on() -> None:
    schedule, went_on = Schedule(), []

    async def work() -> None:
        await pause(0.001)
        went_on.append("moved money")

    async with schedule.running():
        schedule.start(work)
        await asyncio.sleep(0)  # it waits now
        # Both timers have run out when the loop looks again: the first wakes the work, the second cancels it.
        asyncio.get_running_loop().call_later(0.002, schedule.cancel_all)
        time.sleep(0.01)  # noqa: ASYNC251 - nothing else may run meanwhile
        await asyncio.sleep(0.01)
    assert went_on == []
