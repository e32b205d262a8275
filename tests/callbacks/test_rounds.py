"""Rounds: nobody hears of one before it has ended, and what may wait is bounded."""

import asyncio
from collections.abc import Sequence

import anyio
import pytest

from mpesa_mcp.callbacks.rounds import NotServed, Rounds

pytestmark = pytest.mark.anyio


class Work:
    """Notes its rounds; holds each until it is let go, and fails when told."""

    def __init__(self) -> None:
        self.rounds: list[list[str]] = []
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.fails = False

    async def __call__(self, asked: Sequence[str]) -> Sequence[str]:
        self.rounds.append(list(asked))
        self.begun.set()
        await self.may_end.wait()
        if self.fails:
            raise RuntimeError("the store is away")
        return [word.upper() for word in asked]


def rounds_of(work: Work, *, most: int = 10, most_waiting: int = 10, patience: float = 5) -> Rounds[str, str]:
    return Rounds(work, most=most, most_waiting=most_waiting, patience_seconds=patience, weight=len, heaviest=100)


async def begin(rounds: Rounds[str, str], *words: str) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(rounds.ask(word)) for word in words]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_what_comes_during_a_round_is_the_next_one_and_each_gets_its_own_answer() -> None:
    work = Work()
    rounds = rounds_of(work)
    first = await begin(rounds, "a", "b")
    second = await begin(rounds, "c", "d", "e")
    assert work.rounds == [["a", "b"]]
    assert not any(task.done() for task in first)
    work.may_end.set()
    assert await asyncio.gather(*first, *second) == ["A", "B", "C", "D", "E"]
    assert work.rounds == [["a", "b"], ["c", "d", "e"]]


async def test_a_round_that_fails_fails_for_its_members_alone() -> None:
    work = Work()
    rounds = rounds_of(work)
    first = await begin(rounds, "a", "b")
    later = await begin(rounds, "c")
    work.fails = True
    work.may_end.set()
    with pytest.raises(NotServed):
        await first[0]
    work.fails = False
    assert isinstance((await asyncio.gather(first[1], return_exceptions=True))[0], NotServed)
    assert isinstance((await asyncio.gather(*later, return_exceptions=True))[0], NotServed | str)
    assert await rounds.ask("d") == "D"


async def test_a_round_takes_no_more_than_it_may_by_number_and_by_weight() -> None:
    work = Work()
    rounds = rounds_of(work, most=2)
    work.may_end.set()
    tasks = await begin(rounds, "a", "b", "c", "x" * 100, "e")
    await asyncio.gather(*tasks)
    assert work.rounds == [["a", "b"], ["c", "x" * 100], ["e"]]
    heavy = Work()
    heavy.may_end.set()
    await asyncio.gather(*await begin(rounds_of(heavy), "x" * 100, "b", "c"))
    assert heavy.rounds == [["x" * 100], ["b", "c"]]


async def test_beyond_the_bound_nobody_may_wait() -> None:
    work = Work()
    rounds = rounds_of(work, most_waiting=2)
    waiting = await begin(rounds, "a")
    waiting += await begin(rounds, "b", "c")
    with pytest.raises(NotServed):
        await rounds.ask("d")
    work.may_end.set()
    assert await asyncio.gather(*waiting) == ["A", "B", "C"]


async def test_nobody_waits_past_their_patience_and_the_rounds_go_on() -> None:
    work = Work()
    rounds = rounds_of(work, patience=0.05)
    with anyio.fail_after(5):
        begun, waiting = await begin(rounds, "a"), await begin(rounds, "b")
        answers = await asyncio.gather(*begun, *waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [NotServed, NotServed]
    work.may_end.set()
    assert await rounds.ask("c") == "C"
    assert work.rounds == [["a"], ["c"]]  # whoever no longer waits is left out


async def test_one_who_goes_away_does_not_harm_the_others() -> None:
    work = Work()
    rounds = rounds_of(work)
    first, second = await begin(rounds, "a", "b")
    third, fourth = await begin(rounds, "c", "d")
    first.cancel()
    third.cancel()
    work.may_end.set()
    assert [await second, await fourth] == ["B", "D"]
    assert work.rounds == [["a", "b"], ["d"]]


async def test_a_round_that_hangs_makes_way_for_the_next() -> None:
    work = Work()
    rounds = rounds_of(work, patience=0.02)
    with anyio.fail_after(5):
        with pytest.raises(NotServed):
            await rounds.ask("a")
        [waiting] = await begin(rounds, "b")
        await asyncio.gather(waiting, return_exceptions=True)
        while len(work.rounds) < 2:
            await asyncio.gather(rounds.ask("c"), return_exceptions=True)
        work.may_end.set()
        assert await rounds.ask("d") == "D"
