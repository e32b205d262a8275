"""The gate: the circuit first, then the pace, then the circuit once more; nobody waits long."""

from datetime import timedelta

import pytest

from mpesa_mcp.daraja.circuits import Turn
from mpesa_mcp.daraja.conclusions import Held
from mpesa_mcp.daraja.gate import Gate
from mpesa_mcp.daraja.operations import DarajaApp
from mpesa_mcp.daraja.trouble import Reason, Trouble
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.values import Environment, FrozenClock, Secret

pytestmark = pytest.mark.anyio

APP = DarajaApp(Environment.SANDBOX, "https://sandbox.safaricom.co.ke", "key-of-an-app", Secret("secret-of-an-app"))
LIMITED = Trouble(Reason.RATE_LIMITED, proven_unsent=True)


class Sleeping:
    """Lets the clock go on instead of waiting; remembers how long, and does something when it wakes."""

    def __init__(self, clock: FrozenClock) -> None:
        self.clock = clock
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(timedelta(seconds=seconds))


@pytest.fixture
def sleeping(clock: FrozenClock) -> Sleeping:
    return Sleeping(clock)


@pytest.fixture
def gate(store: Store, keyring: Keyring, clock: FrozenClock, sleeping: Sleeping) -> Gate:
    return Gate(store, keyring, clock, calls_per_second=2, sleep=sleeping)


async def call(gate: Gate, trouble: Trouble | None = None) -> Turn | Held:
    async with gate.turn(APP) as turn:
        if isinstance(turn, Turn):
            turn.called, turn.trouble = True, trouble
    return turn


async def test_calls_keep_their_distance(gate: Gate, sleeping: Sleeping) -> None:
    for _ in range(4):
        assert isinstance(await call(gate), Turn)
    assert sleeping.slept == [0.5, 0.5, 0.5]


async def test_who_would_wait_longer_than_two_seconds_is_told_when_to_come_back(
    store: Store, keyring: Keyring, clock: FrozenClock
) -> None:
    waited: list[float] = []

    async def at_once(seconds: float) -> None:
        waited.append(seconds)

    gate = Gate(store, keyring, clock, calls_per_second=2, sleep=at_once)
    answers = [await call(gate) for _ in range(7)]
    assert waited == [0.5, 1.0, 1.5, 2.0]
    [*_, held, again] = answers
    assert isinstance(held, Held)
    assert isinstance(again, Held)
    assert held.until == again.until == clock.now() + timedelta(seconds=2.5)
    clock.advance(timedelta(seconds=2.5))
    assert isinstance(await call(gate), Turn)


async def test_who_waited_for_its_moment_does_not_leave_after_another_was_turned_away(
    store: Store, keyring: Keyring, clock: FrozenClock
) -> None:
    async def meanwhile(_seconds: float) -> None:
        assert isinstance(under_way, Turn)
        under_way.called, under_way.trouble = True, LIMITED
        await gate._learn(under_way)

    gate = Gate(store, keyring, clock, calls_per_second=2, sleep=meanwhile)
    async with gate.turn(APP) as under_way:
        assert isinstance(under_way, Turn)
        assert isinstance(await call(gate), Held)


async def test_after_a_rate_limit_calls_keep_a_larger_distance(gate: Gate, sleeping: Sleeping) -> None:
    await call(gate, LIMITED)
    sleeping.clock.advance(timedelta(seconds=10))
    for _ in range(3):
        assert isinstance(await call(gate), Turn)
    assert [round(seconds, 2) for seconds in sleeping.slept] == [1.0, 0.9]


async def test_a_call_that_is_cut_off_gives_the_turn_back(gate: Gate, sleeping: Sleeping) -> None:
    await call(gate, LIMITED)
    sleeping.clock.advance(timedelta(seconds=10))
    with pytest.raises(RuntimeError):
        async with gate.turn(APP) as probe:
            assert isinstance(probe, Turn)
            assert probe.is_probe
            raise RuntimeError
    async with gate.turn(APP) as probe:
        assert isinstance(probe, Turn)
        assert probe.is_probe


async def test_no_row_names_the_key_of_an_app(gate: Gate, store: Store) -> None:
    await call(gate, LIMITED)
    [app_id] = gate._circuits._seen
    assert len(app_id) == 64
    assert "key-of-an-app" not in app_id
