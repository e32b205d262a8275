"""What an organization agreed to with the platform, and its own rules, for somebody else to look for."""

from datetime import timedelta
from typing import Any

from mpesa_mcp.billing.models import CallUsage, PaymentUsage, Plan, RateLimit, Subscription
from mpesa_mcp.billing.usage import month_of
from mpesa_mcp.payments.core import Core
from mpesa_mcp.policy.models import RuleProposal, Spending, SpendRule
from mpesa_mcp.values import new_id


async def store_terms(core: Core, organization_id: str, *, plan: str) -> None:
    """A subscription, rate limits and usage; a plan, too, as if it could be an organization's own."""
    now = core.clock.now()
    changed: dict[str, Any] = {"organization_id": organization_id, "changed_at": now, "changed_by": "operator:zebra"}
    month: dict[str, Any] = {"organization_id": organization_id, "month": month_of(now), "actor": "key:zebra remarks"}
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
            CallUsage(**month, tool="get_payment", calls=77, refused=7),
            PaymentUsage(**month, environment="simulator", kind="b2c", outcome="failed", payments=77, moved_cents=0),
        )


async def store_rules(core: Core, organization_id: str) -> str:
    """A rule, a change of it that waits, and what was spent; the id of the change."""
    now = core.clock.now()
    proposal = RuleProposal(
        organization_id=organization_id,
        id=new_id("rpr"),
        scope="tool:reverse",
        before={"per_day": 77},
        after=None,
        status="pending",
        proposed_by="operator:zebra",
        proposed_at=now,
        expires_at=now + timedelta(days=7),
    )
    async with core.store.session(organization_id) as session:
        session.add(
            SpendRule(
                organization_id=organization_id,
                scope="tool:reverse",
                rule={"per_day": 77},
                changed_at=now,
                changed_by="operator:zebra",
            ),
            proposal,
            Spending(
                organization_id=organization_id,
                environment="simulator",
                scope="tool:reverse",
                recipient="",
                window="month",
                period=month_of(now),
                amount_cents=77_00,
                payments=7,
            ),
        )
    return proposal.id
