"""Totals of payments per group, over days in Nairobi."""

from datetime import date
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from mpesa_mcp.api.examples import example
from mpesa_mcp.api.payments import InEnvironment, reader
from mpesa_mcp.api.permissions import allow
from mpesa_mcp.api.routes import Call, PermittedRoute
from mpesa_mcp.api.shapes import Answer, Cursor
from mpesa_mcp.payments.reports import GroupBy, Tally, transaction_report
from mpesa_mcp.payments.requests import PaymentFilter
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.values import Kes, Msisdn, Role

router = APIRouter(prefix="/reports", tags=["reports"], route_class=PermittedRoute)

_MOST_GROUPS: Final = 1000
Groups = Annotated[int, Query(ge=1, le=_MOST_GROUPS, description="Most groups of a page. A year of days fits.")]


class TallyAnswer(Answer):
    """Counts by outcome, and KES that moved. Unknown is kept apart: it may have moved."""

    model_config = example(
        count=12,
        succeeded=9,
        failed=2,
        unknown=1,
        in_progress=0,
        success_rate=0.818,
        collected="18500.00",
        paid_out="4200.00",
        reversed="0.00",
        unknown_amount="700.00",
    )
    count: int
    succeeded: int
    failed: int
    unknown: int
    in_progress: int
    success_rate: float | None
    collected: str
    paid_out: str
    reversed: str
    unknown_amount: str


class GroupAnswer(TallyAnswer):
    model_config = example(group="2026-11-25")
    group: str


class ReportAnswer(Answer):
    model_config = example(from_date="2026-11-25", to_date="2026-11-25", group_by="day")
    from_date: date
    to_date: date
    group_by: GroupBy
    currency: Literal["KES"] = "KES"
    totals: TallyAnswer
    groups: list[GroupAnswer] = Field(description="By name.")
    next_cursor: str | None = Field(description="Null when these are the last groups.")


def _tally(tally: Tally) -> TallyAnswer:
    return TallyAnswer(
        count=tally.count,
        succeeded=tally.succeeded,
        failed=tally.failed,
        unknown=tally.unknown,
        in_progress=tally.in_progress,
        success_rate=tally.success_rate,
        collected=str(Kes(tally.collected)),
        paid_out=str(Kes(tally.paid_out)),
        reversed=str(Kes(tally.reversed)),
        unknown_amount=str(Kes(tally.unknown_amount)),
    )


@router.get("/transactions")
@allow(Role.USER)
async def transactions(
    call: Call,
    from_date: Annotated[date, Query(description="A day in Nairobi, included.")],
    to_date: Annotated[date, Query(description="At most 366 days later, included.")],
    group_by: GroupBy = GroupBy.DAY,
    kind: PaymentKind | None = None,
    status: PaymentStatus | None = None,
    reference: Annotated[str | None, Query(max_length=12)] = None,
    phone: Annotated[str | None, Query(max_length=20)] = None,
    environment: InEnvironment = None,
    limit: Groups = _MOST_GROUPS,
    cursor: Cursor = None,
) -> ReportAnswer:
    """Totals, counts and success rate of the payments asked for on these days. The totals are of all groups."""
    narrowed = PaymentFilter(
        kind=kind, status=status, reference=reference, phone=Msisdn.parse(phone) if phone is not None else None
    )
    report = await transaction_report(
        call.core,
        reader(call, environment),
        from_date=from_date,
        to_date=to_date,
        group_by=group_by,
        narrowed=narrowed,
    )
    page = report.page(limit=limit, cursor=cursor)
    return ReportAnswer(
        from_date=report.from_date,
        to_date=report.to_date,
        group_by=report.group_by,
        totals=_tally(report.totals),
        groups=[GroupAnswer(group=name, **_tally(tally).model_dump()) for name, tally in page.items],
        next_cursor=page.next_cursor,
    )
