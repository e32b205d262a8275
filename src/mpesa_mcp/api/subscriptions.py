"""What an organization subscribed to, and its rate limits. Set by the platform, read by its org_admin."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from mpesa_mcp.api.examples import ORGANIZATION, example
from mpesa_mcp.api.permissions import allow
from mpesa_mcp.api.plans import PlanFields, plan_fields
from mpesa_mcp.api.routes import Call, PermittedRoute
from mpesa_mcp.api.shapes import Body, Moment
from mpesa_mcp.billing.states import SubscriptionStatus
from mpesa_mcp.billing.subscriptions import SubscriptionChange, set_rate_limits, set_subscription, terms_in_force
from mpesa_mcp.billing.terms import Terms
from mpesa_mcp.values import Role

router = APIRouter(prefix="/organizations/{organization_id}", tags=["plans"], route_class=PermittedRoute)

Rate = Annotated[int | None, Field(ge=1, le=1_000_000)]


class SubscriptionAnswer(PlanFields):
    """The plan as it was agreed to. The rates are those in force: the organization's own, where it has some."""

    model_config = example(organization_id=ORGANIZATION, plan="basic", status="active")
    organization_id: str
    plan: str
    status: SubscriptionStatus = Field(description="As it stands now: a trial that has ended is past_due.")
    trial_ends_at: Moment | None


class SubscriptionBody(Body):
    """What is left out stays as it is."""

    model_config = example(plan="basic", status="trial", trial_days=30)
    plan: Annotated[str | None, Field(max_length=40)] = None
    status: Annotated[SubscriptionStatus | None, Field(strict=False)] = None
    trial_days: Annotated[int | None, Field(ge=1, le=366, description="From now; for a trial only.")] = None


class RateLimitsBody(Body):
    """Null, or left out, follows the plan."""

    model_config = example(calls_per_second=50, key_calls_per_second=None)
    calls_per_second: Rate = None
    key_calls_per_second: Rate = None


@router.get("/subscription")
@allow(Role.ORG_ADMIN, platform=True)
async def read(call: Call) -> SubscriptionAnswer:
    """Read what the organization subscribed to."""
    return _answer(call, await terms_in_force(call.core.store, call.organization_id))


@router.put("/subscription")
@allow(platform=True, person=True)
async def change(call: Call, body: SubscriptionBody) -> SubscriptionAnswer:
    """Change the plan, or where the subscription stands. It holds from the organization's next call on."""
    terms = await set_subscription(
        call.core.store,
        call.core.clock,
        organization_id=call.organization_id,
        change=SubscriptionChange(plan=body.plan, status=body.status, trial_days=body.trial_days),
        actor=call.actor,
    )
    return _answer(call, terms)


@router.put("/rate-limits")
@allow(platform=True, person=True)
async def change_rates(call: Call, body: RateLimitsBody) -> SubscriptionAnswer:
    """Give the organization rate limits of its own."""
    terms = await set_rate_limits(
        call.core.store,
        call.core.clock,
        organization_id=call.organization_id,
        calls_per_second=body.calls_per_second,
        key_calls_per_second=body.key_calls_per_second,
        actor=call.actor,
    )
    return _answer(call, terms)


def _answer(call: Call, terms: Terms) -> SubscriptionAnswer:
    agreement = terms.agreement
    return SubscriptionAnswer.model_validate(
        {
            "organization_id": call.organization_id,
            "plan": agreement.plan.slug,
            "status": agreement.status_at(call.core.clock.now()),
            "trial_ends_at": agreement.trial_ends_at,
            **plan_fields(agreement.plan),
            "calls_per_second": terms.calls_per_second,
            "key_calls_per_second": terms.key_calls_per_second,
        }
    )
