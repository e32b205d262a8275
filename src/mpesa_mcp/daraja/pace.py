"""How fast calls of one app leave this process: evenly, after a small burst, and slower after a rate limit.

Safaricom publishes no limits (quirk 57), and a gateway that arrests spikes measures the distance between two requests.
So the pace is a distance too: each call takes the next free moment.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mpesa_mcp.values import Clock

# Safaricom states no number: this is what large shops need and far below what gateways usually allow one app.
CALLS_PER_SECOND: Final = 20.0
# What may leave at once after a silence, as a part of a second's calls.
_BURST: Final = 0.5
# A rate limit doubles the distance, up to this many times the usual; every good answer takes a tenth off again.
_SLOWEST: Final = 8
_RECOVERY: Final = 0.9
_NEVER_LONGER: Final = timedelta(seconds=30)


@dataclass(slots=True)
class _Spacing:
    slowness: float
    next_at: datetime


class Pace:
    """The next free moment of each app, in this process."""

    def __init__(self, clock: Clock, calls_per_second: float = CALLS_PER_SECOND) -> None:
        self._now: Callable[[], datetime] = clock.now
        self._distance = timedelta(seconds=1 / calls_per_second)
        self._burst = max(timedelta(seconds=_BURST) - self._distance, timedelta(0))
        self._spacings: dict[str, _Spacing] = {}

    def wait_seconds(self, app_id: str) -> float:
        """How long a call would wait that came now."""
        spacing, now = self._of(app_id), self._now()
        burst = self._burst if spacing.slowness == 1 else timedelta(0)
        return max(0.0, (spacing.next_at - burst - now).total_seconds())

    def take(self, app_id: str) -> float:
        """Takes the next free moment; how many seconds from now that is."""
        wait, spacing = self.wait_seconds(app_id), self._of(app_id)
        spacing.next_at = max(spacing.next_at, self._now()) + self._distance * spacing.slowness
        return wait

    def slow_down(self, app_id: str) -> None:
        """Safaricom said that calls came too fast."""
        spacing = self._of(app_id)
        spacing.slowness = min(spacing.slowness * 2, _SLOWEST)

    def speed_up(self, app_id: str) -> None:
        """A call was answered."""
        spacing = self._of(app_id)
        spacing.slowness = max(spacing.slowness * _RECOVERY, 1)

    def _of(self, app_id: str) -> _Spacing:
        now = self._now()
        spacing = self._spacings.setdefault(app_id, _Spacing(1, now))
        if spacing.next_at - now > _NEVER_LONGER:  # the machine's clock was set back
            spacing.next_at = now
        return spacing
