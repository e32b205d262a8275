"""The sealer: links audit entries into their chains, right after their commit. Any number of processes may run one."""

import asyncio

import anyio
import structlog

from mpesa_mcp.audit.models import TOPIC
from mpesa_mcp.audit.sealing import seal_batch
from mpesa_mcp.payments.core import Core
from mpesa_mcp.store.crossings import unsealed_organizations
from mpesa_mcp.store.engine import StoreUnavailable

log = structlog.get_logger(__name__)

_POLL_SECONDS = 1.0
_AFTER_A_FAULT_SECONDS = 1.0
# Commits in quick succession are sealed together: on SQLite each commit of ours takes the one writer's turn.
_GATHERING_SECONDS = 0.2
_ORGANIZATIONS_AT_ONCE = 1_000


async def keep_sealing(core: Core, stopping: asyncio.Event) -> None:
    """Seals until `stopping` is set; sleeps until a commit that recorded something, or the slow poll."""
    while not stopping.is_set():
        token = core.store.wakeups.token(TOPIC)
        try:
            sealed = await _seal_once(core)
        except StoreUnavailable as away:
            log.warning("sealing_failed", error=away.why)
            await anyio.sleep(_AFTER_A_FAULT_SECONDS)
            continue
        except Exception:
            log.exception("sealing_failed")
            await anyio.sleep(_AFTER_A_FAULT_SECONDS)
            continue
        if not sealed:
            await core.store.wakeups.wait(token, _POLL_SECONDS)
        if not stopping.is_set():
            await anyio.sleep(_GATHERING_SECONDS)


async def _seal_once(core: Core) -> int:
    """One batch for each organization where something waits; how many links were made."""
    sealed = 0
    for organization_id in await unsealed_organizations(core.store, limit=_ORGANIZATIONS_AT_ONCE):
        try:
            sealed += await seal_batch(core.store, core.clock, organization_id)
        except StoreUnavailable:
            raise
        except Exception:
            # One chain that cannot be sealed does not stop the others.
            log.exception("sealing_failed", organization=organization_id)
    return sealed
