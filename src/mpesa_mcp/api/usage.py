"""What organizations used in a month of Nairobi: one's own in detail, for the platform the totals of all."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from mpesa_mcp.api.permissions import allow
from mpesa_mcp.api.routes import Call, PermittedRoute
from mpesa_mcp.api.shapes import Answer, Cursor, Limit, Page
from mpesa_mcp.billing.usage import month_of, usage_of, usage_of_all
from mpesa_mcp.store.crossings import UsageTotals
from mpesa_mcp.values import Kes, Role

router = APIRouter(tags=["usage"], route_class=PermittedRoute)

Month = Annotated[str | None, Query(max_length=7, description="A month in Nairobi, YYYY-MM; by default this one.")]


class ToolUsage(Answer):
    """Calls of one tool by one key or person. Refused calls are not among the calls."""

    actor: str
    tool: str
    calls: int
    refused_calls: int


class OutcomeUsage(Answer):
    """Payments that one key or person asked for in the month, by how they ended."""

    actor: str
    environment: str
    kind: str
    outcome: str
    payments: int
    amount_moved: str = Field(description="KES.")


class UsageAnswer(Answer):
    """What one organization used. The details are null in the list of all organizations."""

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
    """What the caller's organization used, one item in detail; for a super_admin the totals of every organization."""
    if call.principal.role is not Role.SUPER_ADMIN:
        return Page(items=[await _in_detail(call, month)], next_cursor=None)
    wanted = _month(call, month)
    page = await usage_of_all(call.core.store, wanted, limit=limit, cursor=cursor)
    return Page(items=[_totals(each, wanted) for each in page.items], next_cursor=page.next_cursor)


@router.get("/organizations/{organization_id}/usage")
@allow(Role.MANAGER, platform=True)
async def read(call: Call, month: Month = None) -> UsageAnswer:
    """What one organization used, in detail."""
    return await _in_detail(call, month)


async def _in_detail(call: Call, month: str | None) -> UsageAnswer:
    used = await usage_of(call.core.store, call.organization_id, _month(call, month))
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
