"""The tools that read what is stored here: get_payment, list_payments, transaction_report."""

from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

from mcp.server.mcpserver import Context
from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from mpesa_mcp.errors import InputError
from mpesa_mcp.payments.requests import PageAsked, PaymentFilter
from mpesa_mcp.payments.states import PaymentKind
from mpesa_mcp.tools.arguments import (
    AnyId,
    Cursor,
    Day,
    GroupBy,
    KindFilter,
    Limit,
    OptionalDay,
    PhoneFilter,
    ReferenceFilter,
    StatusFilter,
    WaitSeconds,
)
from mpesa_mcp.tools.caller import Me, given, progress_to
from mpesa_mcp.tools.results import PaymentResult, answer, eat_text, grouped, payment_answer, payment_result
from mpesa_mcp.tools.waiting import in_vain
from mpesa_mcp.values import Kes, Msisdn

if TYPE_CHECKING:
    from mpesa_mcp.payments.records import PaymentRecord
    from mpesa_mcp.payments.reports import Tally

# M-PESA began in 2007; no report reaches further than a century from then.
_YEARS = range(2000, 2101)


class PaymentList(BaseModel):
    """Payments, newest first."""

    payments: list[PaymentResult]
    next_cursor: str | None = Field(description="Give it as cursor to read on; null at the end.")


class Tallied(BaseModel):
    """Counts by outcome, and KES that moved. Unknown is kept apart: it may have moved."""

    count: int
    succeeded: int
    failed: int
    unknown: int
    in_progress: int
    success_rate: float | None = Field(description="Succeeded among those whose outcome is known, 0 to 1.")
    collected: str
    paid_out: str
    reversed: str
    unknown_amount: str


class Group(Tallied):
    group: str


class ReportResult(BaseModel):
    """Totals of the payments asked for on these days in Nairobi, both included."""

    from_date: str
    to_date: str
    group_by: str
    environment: str
    currency: str
    totals: Tallied
    groups: list[Group]


async def get_payment(
    me: Me,
    ctx: Context,
    id: AnyId,  # noqa: A002 - the contract's name
    wait_seconds: WaitSeconds = 0,
) -> Annotated[CallToolResult, PaymentResult]:
    """Read one payment as it stands, by any of its ids.

    Example: id pay_01k..., or the receipt, or the idempotency_key it was made with. With wait_seconds it waits until
    the payment is settled. It never sends anything.
    """
    from mpesa_mcp.payments.reading import find_payment, wait_until_settled

    payment = await find_payment(me.core, me.principal, id.strip())
    payment = await wait_until_settled(
        me.core, payment, seconds=wait_seconds, progress=progress_to(ctx, wait_seconds, "the result")
    )
    return payment_answer(payment, me.core.settings, in_vain=await in_vain(me, [payment.approval]))


async def list_payments(
    me: Me,
    from_date: OptionalDay = "",
    to_date: OptionalDay = "",
    status: StatusFilter = "",
    kind: KindFilter = "",
    phone: PhoneFilter = "",
    reference: ReferenceFilter = "",
    limit: Limit = 20,
    cursor: Cursor = "",
) -> Annotated[CallToolResult, PaymentList]:
    """List the organization's payments, newest first, narrowed by day, status, kind, phone or reference.

    Example: status unknown, to see what is not settled. Not for totals: use transaction_report.
    """
    from mpesa_mcp.payments.reading import list_payments as read_payments

    page = await read_payments(
        me.core,
        me.principal,
        from_date=_day("from_date", from_date) if from_date else None,
        to_date=_day("to_date", to_date) if to_date else None,
        narrowed=_narrowed(kind, status, reference, phone),
        page=PageAsked(limit=limit, cursor=given(cursor)),
    )
    vain = await in_vain(me, [each.approval for each in page.payments])
    listed = [payment_result(each, me.core.settings, in_vain=vain) for each in page.payments]
    structure = PaymentList(payments=listed, next_cursor=page.next_cursor)
    lines = [_listed(each) for each in page.payments]
    more = [f"More with cursor {page.next_cursor}."] if page.next_cursor else []
    return answer(structure, "\n".join([*lines, *more]) or "No payments match.")


async def transaction_report(
    me: Me,
    from_date: Day,
    to_date: Day,
    group_by: GroupBy = "day",
    kind: KindFilter = "",
    status: StatusFilter = "",
    reference: ReferenceFilter = "",
    phone: PhoneFilter = "",
) -> Annotated[CallToolResult, ReportResult]:
    """Totals, counts and success rate over days in Nairobi, grouped by day, week, month, kind, status or reference.

    Example: from_date 2026-11-01, to_date 2026-11-30, group_by kind. At most 366 days. What is unknown is kept apart
    from succeeded and failed. Not for single payments: use list_payments.
    """
    from mpesa_mcp.payments import reports

    report = await reports.transaction_report(
        me.core,
        me.principal,
        from_date=_day("from_date", from_date),
        to_date=_day("to_date", to_date),
        group_by=reports.GroupBy(group_by),
        narrowed=_narrowed(kind, status, reference, phone),
    )
    structure = ReportResult(
        from_date=from_date,
        to_date=to_date,
        group_by=group_by,
        environment=me.principal.environment.value,
        currency="KES",
        totals=Tallied(**tallied(report.totals)),
        groups=[Group(group=name, **tallied(tally)) for name, tally in report.groups],
    )
    lines = [tally_line("Total", structure.totals), *(tally_line(each.group, each) for each in structure.groups)]
    return answer(structure, f"{from_date} to {to_date}, by {group_by}.\n" + "\n".join(lines))


def _listed(payment: "PaymentRecord") -> str:
    words = [
        eat_text(payment.created_at),
        payment.kind.value,
        payment.status.value,
        f"KES {grouped(str(payment.amount))}",
        payment.phone.masked,
        payment.reference,
        f"receipt {payment.receipt}" if payment.receipt else "",
        payment.payment_id,
    ]
    return " ".join(word for word in words if word)


def tally_line(name: str, sums: Tallied) -> str:
    """Counts and sums in a sentence. That no money moved is said only where that is certain."""
    counts = [f"{sums.succeeded} succeeded", f"{sums.failed} failed", f"{sums.unknown} unknown"]
    if sums.in_progress:
        counts.append(f"{sums.in_progress} in progress")
    moved = [
        f"{word} KES {grouped(amount)}"
        for word, amount in (
            ("collected", sums.collected),
            ("paid out", sums.paid_out),
            ("reversed", sums.reversed),
        )
        if amount != "0.00"
    ]
    if sums.unknown:
        moved.append(f"KES {grouped(sums.unknown_amount)} of which it is not known whether it moved")
    # What was sent and is not answered yet may have moved already.
    nothing = "nothing known to have moved yet" if sums.in_progress else "no money moved"
    payments = "1 payment" if sums.count == 1 else f"{sums.count} payments"
    return f"{name}: {payments} ({', '.join(counts)}); {', '.join(moved) or nothing}."


def tallied(tally: "Tally") -> dict[str, Any]:
    return {
        "count": tally.count,
        "succeeded": tally.succeeded,
        "failed": tally.failed,
        "unknown": tally.unknown,
        "in_progress": tally.in_progress,
        "success_rate": tally.success_rate,
        "collected": str(Kes(tally.collected)),
        "paid_out": str(Kes(tally.paid_out)),
        "reversed": str(Kes(tally.reversed)),
        "unknown_amount": str(Kes(tally.unknown_amount)),
    }


def _narrowed(kind: str, status: str, reference: str, phone: str) -> PaymentFilter:
    return PaymentFilter(
        kind=PaymentKind(kind) if kind else None,
        status=given(status),
        reference=given(reference),
        phone=Msisdn.parse(phone) if phone.strip() else None,
    )


def _day(name: str, text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise InputError(f"{name} must be a day that exists, written YYYY-MM-DD.", field=name) from None
    if day.year not in _YEARS:
        raise InputError(f"{name} must be a day of the years {_YEARS.start} to {_YEARS.stop - 1}.", field=name)
    return day
