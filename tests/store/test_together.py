"""Rounds: what is asked for while another round is under way is done together, and nobody's fault is another's."""

import asyncio
from collections.abc import Sequence

import anyio
import pytest

from mpesa_mcp.store.together import Together

pytestmark = pytest.mark.anyio


async def asked_at_once(together: Together, numbers: Sequence[int]) -> tuple[list[list[int]], list[object]]:
    """The rounds that were made, and what each number was answered; 13 fails whatever round it is in."""
    rounds: list[list[int]] = []

    async def work(asked: Sequence[int]) -> Sequence[int]:
        rounds.append(list(asked))
        await anyio.lowlevel.checkpoint()
        if 13 in asked:
            raise ValueError
        return [2 * number for number in asked]

    asking = [together.ask("doubling", work, number) for number in numbers]
    return rounds, list(await asyncio.gather(*asking, return_exceptions=True))


async def test_those_who_come_meanwhile_are_one_round_and_each_gets_his_own_answer() -> None:
    rounds, answers = await asked_at_once(Together(alone=False), range(5))
    assert answers == [0, 2, 4, 6, 8]
    assert sorted(number for each in rounds for number in each) == list(range(5))
    assert len(rounds) <= 2


async def test_a_round_that_fails_is_done_again_one_by_one() -> None:
    rounds, answers = await asked_at_once(Together(alone=False), [1, 13, 2])
    assert [answer for answer in answers if not isinstance(answer, ValueError)] == [2, 4]
    assert rounds[-3:] == [[1], [13], [2]]


async def test_where_everybody_does_his_own_there_are_no_rounds() -> None:
    rounds, answers = await asked_at_once(Together(alone=True), [1, 2, 3])
    assert (rounds, answers) == ([[1], [2], [3]], [2, 4, 6])


async def test_who_stops_waiting_keeps_nobody_else() -> None:
    together, begun, go = Together(alone=False), anyio.Event(), anyio.Event()

    async def work(asked: Sequence[int]) -> Sequence[int]:
        begun.set()
        await go.wait()
        return asked

    gone = asyncio.get_running_loop().create_task(together.ask("waiting", work, 1))
    await begun.wait()
    gone.cancel()
    stays = asyncio.get_running_loop().create_task(together.ask("waiting", work, 2))
    go.set()
    assert await stays == 2
    assert gone.cancelled() or gone.cancelling()


async def test_nobody_waits_for_ever_for_a_round_that_was_stopped_or_said_too_little() -> None:
    together, begun = Together(alone=False), anyio.Event()

    async def stopped(asked: Sequence[int]) -> Sequence[int]:
        if len(asked) > 1:
            raise ValueError
        begun.set()
        await anyio.sleep_forever()
        raise AssertionError

    async def short(asked: Sequence[int]) -> Sequence[int]:
        return asked[:-1]

    asking = [asyncio.get_running_loop().create_task(together.ask("stopped", stopped, number)) for number in range(3)]
    await begun.wait()
    [serving] = together._tasks
    serving.cancel()
    ended = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(each) for each in ended] == [asyncio.CancelledError] * 3
    with pytest.raises(RuntimeError):
        await together.ask("short", short, 1)
