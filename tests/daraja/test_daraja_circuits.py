"""The circuit breaker: one row for all processes, pauses that grow, and one probe at a time."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import event, select

from mpesa_mcp.daraja.circuits import AppCircuit, Circuits, CircuitState, Turn, outages, pause_seconds
from mpesa_mcp.daraja.conclusions import Held
from mpesa_mcp.daraja.trouble import NO_ANSWER, Reason, Trouble
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store, open_store
from mpesa_mcp.values import Environment, FrozenClock

pytestmark = pytest.mark.anyio

LIMITED = Trouble(Reason.RATE_LIMITED, proven_unsent=True)
UNREACHED = Trouble(Reason.NOT_CONNECTED, proven_unsent=True)


@pytest.fixture
def here(store: Store, clock: FrozenClock) -> Circuits:
    return Circuits(store, clock)


@pytest.fixture
async def there(store: Store, settings: Settings, clock: FrozenClock) -> AsyncIterator[Circuits]:
    """The same database as another process has it."""
    other = open_store(settings.effective_database_url)
    yield Circuits(other, clock)
    await other.close()


async def enter(circuits: Circuits, app: str = "app", refused_before: int = 0) -> Turn | Held:
    return await circuits.enter(app, Environment.SANDBOX, refused_before)


async def turn_of(circuits: Circuits, app: str = "app", refused_before: int = 0) -> Turn:
    turn = await enter(circuits, app, refused_before)
    assert isinstance(turn, Turn)
    return turn


async def tell(circuits: Circuits, turn: Turn, trouble: Trouble | None) -> bool:
    turn.called, turn.trouble = True, trouble
    return await circuits.learn(turn)


async def call(circuits: Circuits, trouble: Trouble | None, app: str = "app") -> bool:
    return await tell(circuits, await turn_of(circuits, app), trouble)


async def is_held(circuits: Circuits, app: str = "app") -> bool:
    return isinstance(await enter(circuits, app), Held)


async def pause_of(circuits: Circuits, clock: FrozenClock) -> float:
    held = await enter(circuits)
    assert isinstance(held, Held)
    return (held.until - clock.now()).total_seconds()


async def the_row(store: Store) -> AppCircuit:
    async with store.platform_reading() as session:
        return (await session.execute(select(AppCircuit))).scalars().one()


async def test_a_rate_limit_pauses_the_app_at_once_and_in_every_process(
    here: Circuits, there: Circuits, clock: FrozenClock
) -> None:
    assert not await is_held(there)
    assert await call(here, LIMITED)
    assert await is_held(here)
    clock.advance(timedelta(seconds=0.1))
    assert not await is_held(there), "a process looks once a second at most"
    clock.advance(timedelta(seconds=0.4))
    other = Circuits(there._store, clock)
    assert await is_held(other)
    assert not await is_held(here, "another app")


@pytest.mark.parametrize("trouble", [NO_ANSWER, Trouble(Reason.SERVER_ERROR), Trouble(Reason.WEB_PAGE)])
async def test_what_may_have_been_sent_pauses_after_five_in_a_row(here: Circuits, trouble: Trouble) -> None:
    assert [await call(here, trouble) for _ in range(4)] == [False] * 4
    await call(here, None)
    assert [await call(here, trouble) for _ in range(5)] == [False, False, False, False, True]
    assert await is_held(here)


async def test_failures_of_two_processes_add_up(here: Circuits, there: Circuits) -> None:
    for circuits in (here, there, here, there):
        assert not await call(circuits, NO_ANSWER)
    assert await call(there, NO_ANSWER)


@pytest.mark.parametrize(
    ("trouble", "seconds"),
    [(LIMITED, (1, 2, 4, 4, 4, 4, 4, 4)), (UNREACHED, (1, 2, 4, 8, 16, 32, 60, 60))],
    ids=["rate limit", "no connection"],
)
async def test_pauses_double_up_to_a_bound_and_a_success_ends_them(
    here: Circuits, clock: FrozenClock, trouble: Trouble, seconds: tuple[int, ...]
) -> None:
    await call(here, trouble)
    pauses = []
    for _ in range(8):
        pauses.append(await pause_of(here, clock))
        clock.advance(timedelta(seconds=pauses[-1]))
        await call(here, trouble)
    assert pauses == [pytest.approx(each, rel=0.11) for each in seconds]
    clock.advance(timedelta(seconds=70))
    await call(here, None)
    assert [isinstance(await enter(here), Turn) for _ in range(3)] == [True] * 3
    await call(here, LIMITED)
    assert await pause_of(here, clock) == pytest.approx(1, rel=0.11)


def test_what_daraja_asks_for_is_waited_for_within_reason() -> None:
    assert pause_seconds(1, replace(LIMITED, retry_after_seconds=7)) == 7
    assert pause_seconds(1, replace(LIMITED, retry_after_seconds=9999)) == 300
    assert pause_seconds(7, replace(UNREACHED, retry_after_seconds=7)) == pytest.approx(60, rel=0.11)


async def test_after_a_pause_one_call_leaves_of_all_processes(
    here: Circuits, there: Circuits, clock: FrozenClock
) -> None:
    await call(here, LIMITED)
    clock.advance(timedelta(seconds=1.2))
    entered = [await enter(circuits) for circuits in (there, here, there, here)]
    assert [isinstance(one, Turn) for one in entered] == [True, False, False, False]
    [probe, *others] = entered
    assert isinstance(probe, Turn)
    assert probe.is_probe
    for held in others:
        assert isinstance(held, Held)
        assert held.until == clock.now() + timedelta(seconds=1)
    await tell(there, probe, None)
    assert not await is_held(there)
    clock.advance(timedelta(seconds=1))
    assert not await is_held(here)


async def test_a_probe_that_made_no_call_leaves_its_place_to_the_next(here: Circuits, clock: FrozenClock) -> None:
    await call(here, LIMITED)
    clock.advance(timedelta(seconds=1.2))
    probe = await turn_of(here)
    assert await is_held(here)
    assert not await here.learn(probe)
    assert (await turn_of(here)).is_probe


async def test_a_probe_whose_process_died_is_replaced_and_what_it_says_later_counts_for_nothing(
    here: Circuits, there: Circuits, clock: FrozenClock
) -> None:
    await call(here, LIMITED)
    clock.advance(timedelta(seconds=1.2))
    lost = await turn_of(here)
    clock.advance(timedelta(seconds=70))
    assert (await turn_of(there)).is_probe
    await tell(here, lost, None)
    assert await is_held(here)


async def test_who_was_turned_away_before_lets_others_probe_first(here: Circuits, clock: FrozenClock) -> None:
    await call(here, LIMITED)
    pause = await pause_of(here, clock)
    clock.advance(timedelta(seconds=pause))
    later = [await enter(here, refused_before=times) for times in (1, 2, 3, 4, 9)]
    assert [isinstance(one, Held) and (one.until - clock.now()).total_seconds() for one in later] == [
        pytest.approx(seconds, abs=0.001) for seconds in (0.5, 5, 15, 35, 35)
    ]
    assert (await turn_of(here)).is_probe


async def test_calls_that_were_under_way_make_a_pause_neither_longer_nor_shorter(
    here: Circuits, clock: FrozenClock, store: Store
) -> None:
    under_way = [await turn_of(here) for _ in range(10)]
    assert await tell(here, under_way[0], LIMITED)
    until = (await the_row(store)).paused_until
    for turn in under_way[1:6]:
        assert not await tell(here, turn, LIMITED)
    for turn in under_way[6:9]:
        assert not await tell(here, turn, None)
    assert (await the_row(store)).paused_until == until
    clock.advance(timedelta(seconds=1.2))
    await call(here, None)
    assert not await tell(here, under_way[9], LIMITED), "old news, after the pause has ended"
    assert not await is_held(here)


async def test_while_all_is_well_a_row_is_read_once_a_second_and_never_written(
    here: Circuits, store: Store, clock: FrozenClock
) -> None:
    read: list[str] = []
    written: list[str] = []
    event.listen(store._reader.sync_engine, "before_cursor_execute", lambda *call: read.append(call[2]))
    event.listen(store._writer.sync_engine, "before_cursor_execute", lambda *call: written.append(call[2]))
    for _ in range(20):
        await call(here, None)
        clock.advance(timedelta(seconds=0.1))
    assert len([statement for statement in read if "daraja_apps" in statement]) == 2
    assert [statement for statement in written if "daraja_apps" in statement and "SELECT" not in statement] == []


async def test_outages_are_told_by_environment_and_reason_and_forgotten(
    here: Circuits, store: Store, clock: FrozenClock
) -> None:
    assert await outages(store, clock.now()) == []
    await call(here, LIMITED, "one")
    await call(here, LIMITED, "other")
    [outage] = await outages(store, clock.now())
    assert (outage.environment, outage.state, outage.reason) == (
        Environment.SANDBOX,
        CircuitState.OPEN,
        Reason.RATE_LIMITED,
    )
    clock.advance(timedelta(seconds=2))
    [outage] = await outages(store, clock.now())
    assert outage.state is CircuitState.HALF_OPEN
    clock.advance(timedelta(minutes=15))
    assert await outages(store, clock.now()) == []
