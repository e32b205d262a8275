"""What an organization agreed to with the platform, for somebody else to look for."""

from typing import Any

from mpesa_mcp.billing.models import Plan, RateLimit, Subscription
from mpesa_mcp.payments.core import Core


async def store_terms(core: Core, organization_id: str, *, plan: str) -> None:
    """A subscription and rate limits; a plan, too, as if it could be an organization's own."""
    now = core.clock.now()
    changed: dict[str, Any] = {"organization_id": organization_id, "changed_at": now, "changed_by": "operator:zebra"}
    async with core.store.session(organization_id) as session:
        session.add(
            Plan(
                organization_id=organization_id,
                slug=plan,
                name="Zebra",
                monthly_fee_cents=77_00,
                created_at=now,
                created_by="operator:zebra",
            ),
            Subscription(**changed, plan=plan, status="active", monthly_fee_cents=77_00),
            RateLimit(**changed, calls_per_second=77),
        )
