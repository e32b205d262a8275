"""The pace of one process: a small burst, then even distances, and larger ones after a rate limit."""

from datetime import timedelta

import pytest

from mpesa_mcp.daraja.pace import Pace
from mpesa_mcp.values import FrozenClock


def waits(pace: Pace, calls: int, app: str = "app") -> list[float]:
    return [pace.take(app) for _ in range(calls)]


def test_half_a_second_of_calls_may_leave_at_once_and_the_rest_evenly(clock: FrozenClock) -> None:
    pace = Pace(clock, 20)
    assert waits(pace, 10) == [0] * 10
    assert waits(pace, 3) == [pytest.approx(0.05), pytest.approx(0.1), pytest.approx(0.15)]


@pytest.mark.parametrize("rate", [1, 3, 20, 5000])
def test_never_more_leave_in_a_second_than_the_rate_and_the_burst(clock: FrozenClock, rate: int) -> None:
    pace = Pace(clock, rate)
    taken = sorted(waits(pace, rate * 3))
    assert sum(wait < 1 for wait in taken) <= rate * 1.5 + 1
    assert taken[-1] == pytest.approx(3 - max(0.5, 1 / rate), abs=2 / rate)


def test_after_a_silence_the_burst_is_back_and_not_more(clock: FrozenClock) -> None:
    pace = Pace(clock, 20)
    waits(pace, 30)
    clock.advance(timedelta(hours=1))
    assert waits(pace, 11) == [0] * 10 + [pytest.approx(0.05)]


def test_apps_do_not_wait_for_each_other(clock: FrozenClock) -> None:
    pace = Pace(clock, 20)
    waits(pace, 50, "one")
    assert waits(pace, 10, "other") == [0] * 10


def test_looking_takes_nothing(clock: FrozenClock) -> None:
    pace = Pace(clock, 20)
    assert [pace.wait_seconds("app") for _ in range(50)] == [0] * 50
    assert waits(pace, 10) == [0] * 10


def test_a_rate_limit_doubles_the_distance_and_good_answers_bring_it_back(clock: FrozenClock) -> None:
    pace = Pace(clock, 20)
    pace.slow_down("app")
    assert waits(pace, 3) == [0, pytest.approx(0.1), pytest.approx(0.2)]
    for _ in range(10):
        pace.slow_down("app")
    clock.advance(timedelta(seconds=5))
    assert waits(pace, 3) == [0, pytest.approx(0.4), pytest.approx(0.8)]
    for _ in range(20):
        pace.speed_up("app")
    clock.advance(timedelta(seconds=5))
    assert waits(pace, 10) == [0] * 10


def test_a_clock_that_is_set_back_stops_nobody(clock: FrozenClock) -> None:
    pace = Pace(clock, 20)
    waits(pace, 10)
    clock.advance(timedelta(hours=-1))
    assert waits(pace, 10) == [0] * 10
