"""The sealer: links audit entries into their chains, right after their commit. Any number of processes may run one."""

import asyncio

import anyio
import structlog

from mpesa_mcp.audit.models import TOPIC
from mpesa_mcp.audit.sealing import BATCH, seal_batch
from mpesa_mcp.payments.core import Core
from mpesa_mcp.store.crossings import unsealed_organizations
from mpesa_mcp.store.engine import StoreUnavailable

log = structlog.get_logger(__name__)

_POLL_SECONDS = 1.0
_AFTER_A_FAULT_SECONDS = 1.0
# What is committed this soon after a seal is sealed together: a seal costs as much as a call, and on SQLite each commit
# of ours takes the one writer's turn.
_GATHERING_SECONDS = 0.5
_ORGANIZATIONS_AT_ONCE = 1_000


async def keep_sealing(core: Core, stopping: asyncio.Event) -> None:
    """Seals until `stopping` is set; sleeps until a commit that recorded something, or the slow poll."""
    while not stopping.is_set():
        token = core.store.wakeups.token(TOPIC)
        try:
            sealed, more = await _seal_once(core)
        except StoreUnavailable as away:
            log.warning("sealing_failed", error=away.why)
            await anyio.sleep(_AFTER_A_FAULT_SECONDS)
            continue
        except Exception:
            log.exception("sealing_failed")
            await anyio.sleep(_AFTER_A_FAULT_SECONDS)
            continue
        if more:
            continue
        gathering = _GATHERING_SECONDS if sealed else 0.0
        with anyio.move_on_after(gathering):
            await stopping.wait()
        await core.store.wakeups.wait(token, _POLL_SECONDS - gathering)


async def _seal_once(core: Core) -> tuple[int, bool]:
    """One batch for each organization where something waits: the longest that was linked, and whether more waits."""
    organizations = await unsealed_organizations(core.store, limit=_ORGANIZATIONS_AT_ONCE)
    longest = 0
    for organization_id in organizations:
        try:
            longest = max(longest, await seal_batch(core.store, core.clock, organization_id))
        except StoreUnavailable:
            raise
        except Exception:
            # One chain that cannot be sealed does not stop the others.
            log.exception("sealing_failed", organization=organization_id)
    return longest, longest == BATCH or (longest > 0 and len(organizations) == _ORGANIZATIONS_AT_ONCE)
