"""Plans that organizations can subscribe to. The platform adds them, everybody reads them, and nobody changes one."""

from typing import Annotated

from fastapi import APIRouter, status
from pydantic import Field, JsonValue

from mpesa_mcp.api.examples import example
from mpesa_mcp.api.permissions import allow
from mpesa_mcp.api.routes import Call, PermittedRoute
from mpesa_mcp.api.shapes import Answer, Body, Whole
from mpesa_mcp.billing.plans import OfferedPlan, PlanRecord, create_plan, list_plans
from mpesa_mcp.values import Kes, Role

router = APIRouter(prefix="/plans", tags=["plans"], route_class=PermittedRoute)

Included = Annotated[int | None, Field(ge=0, le=1_000_000_000)]
Most = Annotated[int | None, Field(ge=1, le=1_000_000)]
_EXAMPLE: dict[str, JsonValue] = {
    "monthly_fee": "1500.00",
    "included_calls": 10000,
    "included_payments": 500,
    "calls_per_second": 20,
    "key_calls_per_second": 10,
    "largest_batch": 50,
    "seats": 3,
}


class PlanFields(Answer):
    """What a plan promises and asks; null is no limit. More calls and payments than are included are not refused."""

    model_config = example(**_EXAMPLE)
    monthly_fee: str = Field(description="KES, for example 1500.00.")
    included_calls: int | None = Field(description="Tool calls a month.")
    included_payments: int | None = Field(description="Payments a month.")
    calls_per_second: int | None = Field(description="Of the whole organization.")
    key_calls_per_second: int | None = Field(description="Of each key.")
    largest_batch: int | None
    seats: int | None = Field(description="People who can sign in.")
    tools: list[str] | None = Field(description="The only tools it opens.")


class PlanAnswer(PlanFields):
    model_config = example(slug="basic", name="Basic", built_in=False)
    slug: str
    name: str
    built_in: bool


class NewPlan(Body):
    model_config = example(slug="basic", name="Basic", **_EXAMPLE)
    slug: Annotated[str, Field(max_length=40)]
    name: Annotated[str, Field(max_length=80)]
    monthly_fee: Annotated[str, Field(max_length=20)] = "0"
    included_calls: Included = None
    included_payments: Included = None
    calls_per_second: Most = None
    key_calls_per_second: Most = None
    largest_batch: Most = None
    seats: Most = None
    tools: Annotated[list[str] | None, Field(max_length=50)] = None


def plan_fields(plan: PlanRecord) -> dict[str, object]:
    """The fields of a plan, as they are answered."""
    return {
        "monthly_fee": str(plan.monthly_fee),
        "included_calls": plan.included_calls,
        "included_payments": plan.included_payments,
        "calls_per_second": plan.calls_per_second,
        "key_calls_per_second": plan.key_calls_per_second,
        "largest_batch": plan.largest_batch,
        "seats": plan.seats,
        "tools": None if plan.tools is None else sorted(plan.tools),
    }


@router.get("")
@allow(Role.USER, platform=True)
async def list_(call: Call) -> Whole[PlanAnswer]:
    """List the plans. `self-hosted` is built in: whoever subscribed to nothing has it."""
    return Whole(items=[_offered(each) for each in await list_plans(call.core.store)])


@router.post("", status_code=status.HTTP_201_CREATED)
@allow(platform=True, person=True)
async def create(call: Call, body: NewPlan) -> PlanAnswer:
    """Offer a plan. What is not given has no limit. A plan is never changed: make another one."""
    plan = PlanRecord(
        slug=body.slug,
        monthly_fee=Kes.from_decimal(body.monthly_fee),
        included_calls=body.included_calls,
        included_payments=body.included_payments,
        calls_per_second=body.calls_per_second,
        key_calls_per_second=body.key_calls_per_second,
        largest_batch=body.largest_batch,
        seats=body.seats,
        tools=None if body.tools is None else frozenset(body.tools),
    )
    return _offered(await create_plan(call.core.store, call.core.clock, name=body.name, plan=plan, actor=call.actor))


def _offered(offered: OfferedPlan) -> PlanAnswer:
    return PlanAnswer.model_validate(
        {
            "slug": offered.plan.slug,
            "name": offered.name,
            "built_in": offered.built_in,
            **plan_fields(offered.plan),
        }
    )
