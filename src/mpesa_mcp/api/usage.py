"""What organizations used in a month of Nairobi: one's own in detail, for the platform the totals of all."""

from collections import Counter
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from mpesa_mcp.api.examples import KEY, ORGANIZATION, example
from mpesa_mcp.api.permissions import allow
from mpesa_mcp.api.routes import Call, PermittedRoute
from mpesa_mcp.api.shapes import Answer, Cursor, Limit, Page
from mpesa_mcp.billing.usage import Usage, month_of, usage_of, usage_of_all
from mpesa_mcp.identity.support_grants import has_support_grant, require_support_grant
from mpesa_mcp.store.crossings import UsageTotals
from mpesa_mcp.values import Kes, Role

router = APIRouter(tags=["usage"], route_class=PermittedRoute)

Month = Annotated[str | None, Query(max_length=7, description="A month in Nairobi, YYYY-MM; by default this one.")]


class ToolUsage(Answer):
    """Calls of one tool by one key or person. Refused calls are not among the calls."""

    model_config = example(actor=f"key:{KEY}", tool="b2c_payment", calls=41, refused_calls=2)
    actor: str | None = Field(description="Null: all callers together, as the platform sees them.")
    tool: str
    calls: int
    refused_calls: int


class OutcomeUsage(Answer):
    """Payments that one key or person asked for in the month, by how they ended."""

    model_config = example(
        actor=f"key:{KEY}",
        environment="production",
        kind="b2c",
        outcome="succeeded",
        payments=38,
        amount_moved="95000.00",
    )
    actor: str
    environment: str
    kind: str
    outcome: str
    payments: int
    amount_moved: str = Field(description="KES.")


class UsageAnswer(Answer):
    """What one organization used. The details are null in the list of all organizations.

    `by_outcome` is null, too, for a super_admin without a support grant.
    """

    model_config = example(
        organization_id=ORGANIZATION,
        month="2026-11",
        calls=41,
        refused_calls=2,
        payments=38,
        amount_moved="95000.00",
    )
    organization_id: str
    month: str
    calls: int = Field(description="Tool calls that were carried out.")
    refused_calls: int
    payments: int = Field(description="Payments asked for in the month that have ended.")
    amount_moved: str = Field(description="KES.")
    by_tool: list[ToolUsage] | None
    by_outcome: list[OutcomeUsage] | None


@router.get("/usage")
@allow(Role.MANAGER, platform=True)
async def list_(call: Call, month: Month = None, limit: Limit = 50, cursor: Cursor = None) -> Page[UsageAnswer]:
    """What the caller's organization used, one item in detail; for a super_admin the totals of every organization.

    A key sees what was used in its own environment.
    """
    if call.principal.role is not Role.SUPER_ADMIN:
        return Page(items=[await _in_detail(call, month)], next_cursor=None)
    wanted = _month(call, month)
    page = await usage_of_all(call.core.store, wanted, limit=limit, cursor=cursor)
    return Page(items=[_totals(each, wanted) for each in page.items], next_cursor=page.next_cursor)


@router.get("/organizations/{organization_id}/usage")
@allow(Role.MANAGER, platform=True)
async def read(call: Call, month: Month = None) -> UsageAnswer:
    """What one organization used, in detail.

    A key sees what was used in its own environment. A super_admin sees totals, and the calls of each tool: what the
    platform charges for. Who was paid how much in what way is the organization's own, and takes a support grant, as
    reading its payments does.
    """
    if call.principal.role is Role.SUPER_ADMIN:
        if not await has_support_grant(call.core.store, call.core.clock, call.organization_id):
            used = await usage_of(call.core.store, call.organization_id, _month(call, month))
            return _totals(used.totals, used.month, by_tool=_of_all_callers(used))
        await require_support_grant(
            call.core.store, call.core.clock, organization_id=call.organization_id, actor=call.actor, reads="usage"
        )
    return await _in_detail(call, month)


def _of_all_callers(used: Usage) -> list[ToolUsage]:
    calls: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for each in used.by_tool:
        calls[each.tool] += each.calls
        refused[each.tool] += each.refused_calls
    return [ToolUsage(actor=None, tool=tool, calls=calls[tool], refused_calls=refused[tool]) for tool in sorted(calls)]


async def _in_detail(call: Call, month: str | None) -> UsageAnswer:
    principal = call.principal
    used = await usage_of(
        call.core.store,
        call.organization_id,
        _month(call, month),
        environment=principal.environment if principal.user_id is None else None,
    )
    return _totals(
        used.totals,
        used.month,
        by_tool=[ToolUsage.model_validate(each) for each in used.by_tool],
        by_outcome=[
            OutcomeUsage(
                actor=each.actor,
                environment=each.environment,
                kind=each.kind,
                outcome=each.outcome,
                payments=each.payments,
                amount_moved=str(each.amount_moved),
            )
            for each in used.by_outcome
        ],
    )


def _month(call: Call, month: str | None) -> str:
    return month_of(call.core.clock.now()) if month is None else month


def _totals(
    totals: UsageTotals,
    month: str,
    *,
    by_tool: list[ToolUsage] | None = None,
    by_outcome: list[OutcomeUsage] | None = None,
) -> UsageAnswer:
    return UsageAnswer(
        organization_id=totals.organization_id,
        month=month,
        calls=totals.calls,
        refused_calls=totals.refused_calls,
        payments=totals.payments,
        amount_moved=str(Kes(totals.moved_cents)),
        by_tool=by_tool,
        by_outcome=by_outcome,
    )
