"""Time. UTC and aware inside; Africa/Nairobi (EAT, UTC+3) only at the wire and at the edges of reporting periods."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

EAT = ZoneInfo("Africa/Nairobi")
# Their bounds are moments in every time zone.
_POSSIBLE = (date(1970, 1, 2), date(9999, 12, 30))


class Clock(Protocol):
    """Where the time comes from: nothing else in the program asks the operating system."""

    def now(self) -> datetime:
        """The present moment, UTC and aware."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class FrozenClock:
    """A clock that stands still until told otherwise; for tests."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def advance(self, by: timedelta) -> None:
        self.at += by


def eat_today(clock: Clock) -> date:
    return clock.now().astimezone(EAT).date()


def eat_day_bounds(first: date, last: date) -> tuple[datetime, datetime]:
    """The half-open span [start, end) in UTC of the Nairobi days `first` to `last`, both included.

    Days before or after anything that can have happened are taken for the first or the last that can.
    """
    start = datetime.combine(_possible(first), time.min, EAT).astimezone(UTC)
    end = datetime.combine(_possible(last) + timedelta(days=1), time.min, EAT).astimezone(UTC)
    return start, end


def _possible(day: date) -> date:
    earliest, latest = _POSSIBLE
    return min(max(day, earliest), latest)


def daraja_timestamp(at: datetime) -> str:
    """`yyyyMMddHHmmss` in EAT (daraja/api.md §0)."""
    return at.astimezone(EAT).strftime("%Y%m%d%H%M%S")
