"""What a worker does once a day: it forgets spending counters that no rule asks any more.

Any number of processes may do it: whoever comes later finds nothing to do.
"""

import asyncio
from typing import Final

import anyio
import structlog

from mpesa_mcp.payments.core import Core
from mpesa_mcp.policy.counters import forget_past
from mpesa_mcp.store.crossings import list_organizations
from mpesa_mcp.store.engine import StoreUnavailable

log = structlog.get_logger(__name__)

_DAY_SECONDS: Final = 24 * 3600
_ORGANIZATIONS_AT_ONCE: Final = 1_000


async def keep_tidy(core: Core, stopping: asyncio.Event) -> None:
    """Tidies now and every day, until `stopping` is set; what fails is done the next day."""
    while not stopping.is_set():
        try:
            await tidy(core)
        except StoreUnavailable as away:
            log.warning("chores_failed", error=away.why)
        except Exception:
            log.exception("chores_failed")
        with anyio.move_on_after(_DAY_SECONDS):
            await stopping.wait()


async def tidy(core: Core) -> None:
    """Once through all organizations."""
    last = ""
    while some := await list_organizations(core.store, after=last, limit=_ORGANIZATIONS_AT_ONCE):
        for last in some:
            await forget_past(core.store, last, core.clock.now())
