"""Totals of payments per group, over days in Nairobi."""

from datetime import date
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from mpesa_mcp.api.payments import InEnvironment, reader
from mpesa_mcp.api.permissions import allow
from mpesa_mcp.api.routes import Call, PermittedRoute
from mpesa_mcp.api.shapes import Answer
from mpesa_mcp.payments.reports import GroupBy, Tally, transaction_report
from mpesa_mcp.payments.requests import PaymentFilter
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.values import Kes, Msisdn, Role

router = APIRouter(prefix="/reports", tags=["reports"], route_class=PermittedRoute)


class TallyAnswer(Answer):
    """Counts by outcome, and KES that moved. Unknown is kept apart: it may have moved."""

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
    group: str


class ReportAnswer(Answer):
    from_date: date
    to_date: date
    group_by: GroupBy
    currency: Literal["KES"] = "KES"
    totals: TallyAnswer
    groups: list[GroupAnswer]


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
) -> ReportAnswer:
    """Totals, counts and success rate of the payments asked for on these days."""
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
    return ReportAnswer(
        from_date=report.from_date,
        to_date=report.to_date,
        group_by=report.group_by,
        totals=_tally(report.totals),
        groups=[GroupAnswer(group=name, **_tally(tally).model_dump()) for name, tally in report.groups],
    )
