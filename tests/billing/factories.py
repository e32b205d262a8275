"""Organizations that can collect and pay, plans, and requests, for the tests of this folder."""

from typing import Any

from mpesa_mcp.billing.plans import PlanRecord, create_plan
from mpesa_mcp.billing.states import SubscriptionStatus
from mpesa_mcp.billing.subscriptions import SubscriptionChange, set_subscription
from mpesa_mcp.billing.terms import Terms
from mpesa_mcp.identity.organizations import create_organization
from mpesa_mcp.identity.principal import Actor, Principal
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.requests import B2cRequest, StkPushRequest
from mpesa_mcp.store.engine import Store
from mpesa_mcp.values import Clock, Environment, Kes, Msisdn, Role
from tests.shortcodes import give_shortcode

OPERATOR = Actor("operator:tester", None)
PHONE = Msisdn("254700000001")


async def an_organization(store: Store, clock: Clock, slug: str = "acme") -> str:
    made = await create_organization(store, clock, name=slug.title(), slug=slug, actor=OPERATOR.name)
    return made.organization_id


async def a_payer(core: Core, slug: str = "acme", *, key: str = "key:tester") -> Principal:
    """The manager of a new organization with a shortcode at the simulator."""
    organization_id = await an_organization(core.store, core.clock, slug)
    await give_shortcode(core, organization_id)
    return Principal(organization_id, key, Role.MANAGER, Environment.SIMULATOR, None, "tester")


async def a_plan(store: Store, clock: Clock, slug: str = "basic", **terms: Any) -> PlanRecord:
    plan = PlanRecord(slug=slug, **{"monthly_fee": Kes.from_shillings(1500)} | terms)
    await create_plan(store, clock, name=slug.title(), plan=plan, actor=OPERATOR)
    return plan


async def subscribe(
    store: Store,
    clock: Clock,
    organization_id: str,
    status: SubscriptionStatus | None = None,
    *,
    plan: str | None = None,
    trial_days: int | None = None,
    actor: Actor = OPERATOR,
) -> Terms:
    change = SubscriptionChange(plan=plan, status=status, trial_days=trial_days)
    return await set_subscription(store, clock, organization_id=organization_id, change=change, actor=actor)


def a_push(key: str = "push-1") -> StkPushRequest:
    return StkPushRequest(phone=PHONE, amount=Kes.from_shillings(100), reference="INV-1", idempotency_key=key)


def a_payout(key: str = "payout-1") -> B2cRequest:
    return B2cRequest(phone=PHONE, amount=Kes.from_shillings(100), remarks="Salary", idempotency_key=key)
