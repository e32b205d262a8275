"""Calls without a rate limit, for tests about something else."""

from mpesa_mcp.billing.models import RateLimit
from mpesa_mcp.payments.core import Core


async def ask_without_limit(core: Core, organization_id: str) -> None:
    """Tests ask faster than any plan allows, the more so the faster the machine is."""
    changed = {"changed_at": core.clock.now(), "changed_by": "operator:tester"}
    async with core.store.session(organization_id) as session:
        await session.insert_if_absent(RateLimit, key_calls_per_second=100_000, **changed)
