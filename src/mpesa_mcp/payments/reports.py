"""Reports: counts and totals per group, with what is not known kept apart. Days, weeks and months are Nairobi's."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from typing import assert_never

from sqlalchemy import ColumnElement, func
from sqlmodel import col, select

from mpesa_mcp.errors import InputError
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.reading import conditions
from mpesa_mcp.payments.requests import PaymentFilter
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.store.paging import Page
from mpesa_mcp.values import eat_today

MAX_DAYS = 366
_EAT_OFFSET = "+3 hours"  # Nairobi has no daylight saving time


class GroupBy(StrEnum):
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    KIND = "kind"
    STATUS = "status"
    REFERENCE = "reference"


@dataclass(slots=True)
class Tally:
    """Counts by outcome, and the cents that moved. `unknown` holds what may have moved: nobody knows yet."""

    count: int = 0
    succeeded: int = 0
    failed: int = 0
    unknown: int = 0
    in_progress: int = 0
    collected: int = 0
    paid_out: int = 0
    reversed: int = 0
    unknown_amount: int = 0

    def add(self, kind: PaymentKind, status: PaymentStatus, count: int, cents: int) -> None:
        self.count += count
        if status.moved:
            self.succeeded += count
            match kind:
                case PaymentKind.STK_PUSH:
                    self.collected += cents
                case PaymentKind.B2C:
                    self.paid_out += cents
                case PaymentKind.REVERSAL:
                    self.reversed += cents
                case _:
                    assert_never(kind)
        elif status.nothing_moved:
            self.failed += count
        elif status in {PaymentStatus.UNKNOWN, PaymentStatus.DISPUTED}:
            self.unknown += count
            self.unknown_amount += cents
        else:
            self.in_progress += count

    @property
    def success_rate(self) -> float | None:
        """Succeeded among those whose outcome is known, 0 to 1 with three decimals; None when none is."""
        known = self.succeeded + self.failed
        return round(self.succeeded / known, 3) if known else None


@dataclass(frozen=True, slots=True)
class Report:
    from_date: date
    to_date: date
    group_by: GroupBy
    groups: Sequence[tuple[str, Tally]]
    totals: Tally = field(default_factory=Tally)

    def page(self, *, limit: int, cursor: str | None) -> Page[tuple[str, Tally]]:
        """The groups after `cursor`, a group's name. There may be as many references as payments."""
        rest = [group for group in self.groups if cursor is None or group[0] > cursor]
        return Page(rest[:limit], rest[limit - 1][0] if len(rest) > limit else None)


async def transaction_report(
    core: Core,
    principal: Principal,
    *,
    from_date: date,
    to_date: date,
    group_by: GroupBy,
    narrowed: PaymentFilter,
) -> Report:
    """Tallies of the payments asked for on these Nairobi days. Raises InputError."""
    check_days(core, from_date, to_date)
    async with core.store.reading(principal.organization_id) as session:
        day = _day_of(session.dialect)
        key = {
            GroupBy.KIND: col(Payment.kind),
            GroupBy.STATUS: col(Payment.status),
            GroupBy.REFERENCE: col(Payment.reference),
        }.get(group_by, day)
        rows = await session.rows(
            select(Payment.kind, Payment.status)
            .add_columns(key, func.count(), func.sum(Payment.amount_cents))
            .where(*conditions(principal.environment, from_date, to_date, narrowed))
            .group_by(key, col(Payment.kind), col(Payment.status))
        )
    totals, groups = Tally(), dict[str, Tally]()
    for kind, status, value, count, amount in rows:
        name = _group_name(group_by, str(value))
        for tally in (totals, groups.setdefault(name, Tally())):
            tally.add(PaymentKind(kind), PaymentStatus(status), count, int(amount))
    return Report(from_date, to_date, group_by, sorted(groups.items()), totals)


def check_days(core: Core, from_date: date, to_date: date) -> None:
    """Raises InputError unless the days are in order, begun, and at most a year. A later `to_date` is allowed."""
    if from_date > eat_today(core.clock):
        raise InputError("from_date must not be later than today in Nairobi.", field="from_date")
    if to_date < from_date:
        raise InputError("to_date must not be before from_date.", field="to_date")
    if to_date - from_date > timedelta(days=MAX_DAYS):
        raise InputError(f"from_date and to_date must be at most {MAX_DAYS} days apart.", field="to_date")


def _day_of(dialect: str) -> ColumnElement[str]:
    if dialect == "postgresql":
        return func.to_char(func.timezone("Africa/Nairobi", col(Payment.created_at)), "YYYY-MM-DD")
    # Cut to whole seconds: SQLite rounds the last moment of a day into the next.
    return func.date(func.substr(col(Payment.created_at), 1, 19), _EAT_OFFSET)


def _group_name(group_by: GroupBy, value: str) -> str:
    match group_by:
        case GroupBy.MONTH:
            return value[:7]
        case GroupBy.WEEK:
            year, week, _ = date.fromisoformat(value).isocalendar()
            return f"{year}-W{week:02d}"
        case _:
            return value
