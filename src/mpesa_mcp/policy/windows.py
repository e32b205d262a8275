"""The hours, days and months of Nairobi that spending is counted in. Pure."""

from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache

from mpesa_mcp.values import EAT


class Window(StrEnum):
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"

    @property
    def each(self) -> str:
        """As sentences write it: 1,000 an hour."""
        return f"an {self}" if self is Window.HOUR else f"a {self}"

    @lru_cache(maxsize=16)  # the rows of a batch all ask about one moment
    def period(self, at: datetime) -> str:
        """The one that `at` lies in, as text: 2026-11-26T14, 2026-11-26, 2026-11."""
        local = at.astimezone(EAT)
        match self:
            case Window.HOUR:
                return f"{local:%Y-%m-%dT%H}"
            case Window.DAY:
                return f"{local:%Y-%m-%d}"
            case Window.MONTH:
                return f"{local:%Y-%m}"

    def end(self, at: datetime) -> datetime:
        """When the one that `at` lies in is over and the next begins, in UTC."""
        local = at.astimezone(EAT)
        midnight = datetime.combine(local.date(), time.min, EAT)
        match self:
            case Window.HOUR:
                after = local.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
            case Window.DAY:
                after = midnight + timedelta(days=1)
            case Window.MONTH:
                # No month is longer than 31 days, and 32 days after the first it is the next one.
                after = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
        return after.astimezone(UTC)
