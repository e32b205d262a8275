"""When questions are asked: the moments after the send, how many, and what the simulator's speed divides."""

from datetime import timedelta

import pytest

from mpesa_mcp.payments.schedule import first_question_after, inquiry_life, next_question_after
from mpesa_mcp.payments.states import PaymentKind


def moments(kind: PaymentKind, speed: float = 1) -> list[float]:
    """Seconds after the send at which each question is asked, if none is answered."""
    found: list[float] = []
    while (wait := next_question_after(kind, len(found), speed)) is not None:
        found.append((found[-1] if found else 0) + wait.total_seconds())
    return found


@pytest.mark.parametrize("kind", [PaymentKind.B2C, PaymentKind.REVERSAL])
def test_payouts_are_asked_about_after_one_five_and_thirty_minutes_six_and_twenty_four_hours(kind: PaymentKind) -> None:
    minutes = [seconds / 60 for seconds in moments(kind)]
    assert minutes == [pytest.approx(about, rel=0.06) for about in (1, 5, 30, 6 * 60, 24 * 60)]


def test_a_push_is_asked_about_every_ten_seconds_to_three_minutes_then_ever_more_slowly_to_a_day() -> None:
    asked = moments(PaymentKind.STK_PUSH)
    quick = [pytest.approx(seconds, rel=0.06) for seconds in range(15, 180, 10)]
    slow = [pytest.approx(minutes * 60, rel=0.06) for minutes in (5, 15, 60, 6 * 60, 24 * 60)]
    assert asked == [*quick, *slow]


def test_the_first_question_is_exact_and_speed_divides_every_wait() -> None:
    assert first_question_after(PaymentKind.STK_PUSH, 1) == timedelta(seconds=15)
    assert first_question_after(PaymentKind.B2C, 10) == timedelta(seconds=6)
    assert moments(PaymentKind.B2C, 10_000)[-1] == pytest.approx(8.64, rel=0.06)


@pytest.mark.parametrize(("speed", "seconds"), [(1, 300), (10, 30), (30, 10), (10_000, 10)])
def test_a_question_of_reconciliation_is_given_up_sooner_at_speed_but_never_before_ten_seconds(
    speed: float, seconds: int
) -> None:
    assert inquiry_life(speed) == timedelta(seconds=seconds)
