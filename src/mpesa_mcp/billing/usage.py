"""Usage: what an organization, and each caller of it, did in a month of Nairobi. Counted, never refused for.

Payments are counted in the transaction that ends them, and again when an end changes, so that the counters always say
what the payments say. A call is counted in the transaction of its audit entry. What the rate limits refuse is gathered
in the process (`refusals`): whoever floods us must not make us write.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import col, select

from mpesa_mcp.billing.models import CallUsage, PaymentUsage
from mpesa_mcp.errors import InputError, NotFoundError
from mpesa_mcp.identity.models import PLATFORM, ApiKey, Organization
from mpesa_mcp.store.crossings import UsageTotals, usage_totals
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.paging import Page
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import EAT, Environment, Kes

_MONTH = re.compile(r"20\d\d-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class CallsOfTool:
    """Calls of one tool by one caller. `refused_calls` are not among `calls`."""

    actor: str
    tool: str
    calls: int
    refused_calls: int


@dataclass(frozen=True, slots=True)
class PaymentsOfKind:
    """Payments of one kind that one caller asked for and that ended in one way; `amount_moved` is what moved."""

    actor: str
    environment: str
    kind: str
    outcome: str
    payments: int
    amount_moved: Kes


@dataclass(frozen=True, slots=True)
class Usage:
    """What one organization used in one month."""

    organization_id: str
    month: str
    by_tool: Sequence[CallsOfTool]
    by_outcome: Sequence[PaymentsOfKind]

    @property
    def totals(self) -> UsageTotals:
        return UsageTotals(
            organization_id=self.organization_id,
            calls=sum(each.calls for each in self.by_tool),
            refused_calls=sum(each.refused_calls for each in self.by_tool),
            payments=sum(each.payments for each in self.by_outcome),
            moved_cents=sum(each.amount_moved.cents for each in self.by_outcome),
        )


def count_call(session: OrganizationSession, at: datetime, *, actor: str, tool: str, refused: bool) -> None:
    """Counts one call of a tool, in the caller's transaction."""
    count_calls(session, month_of(at), actor=actor, tool=tool, calls=int(not refused), refused=int(refused))


def count_calls(
    session: OrganizationSession, month: str, *, actor: str, tool: str, calls: int = 0, refused: int = 0
) -> None:
    """Counts several at once. The platform's own people use nothing: theirs are in its audit alone."""
    if session.organization_id == PLATFORM:
        return
    session.count(CallUsage, {"month": month, "actor": actor, "tool": tool}, calls=calls, refused=refused)


def count_payments(
    session: OrganizationSession,
    asked_at: datetime,
    *,
    actor: str,
    environment: str,
    kind: str,
    outcome: str,
    payments: int,
    moved_cents: int,
) -> None:
    """Counts payments that ended so; a negative number takes them back. In the transaction that ends them."""
    place = {
        "month": month_of(asked_at),
        "actor": actor,
        "environment": environment,
        "kind": kind,
        "outcome": outcome,
    }
    session.count(PaymentUsage, place, payments=payments, moved_cents=moved_cents)


async def usage_of(store: Store, organization_id: str, month: str, *, environment: Environment | None = None) -> Usage:
    """What one organization used in a month, written YYYY-MM; or only what was done in one environment.

    A key calls in its own environment, a person in the organization's default. Raises InputError, NotFoundError.
    """
    checked_month(month)
    async with store.reading(organization_id) as session:
        organization = await session.get(Organization, organization_id)
        if organization is None:
            raise NotFoundError("organization")
        keys = await session.all(select(ApiKey.id).where(ApiKey.environment == environment)) if environment else ()
        calls = await session.all(
            select(CallUsage).where(CallUsage.month == month).order_by(col(CallUsage.actor), col(CallUsage.tool))
        )
        payments = await session.all(
            select(PaymentUsage)
            .where(PaymentUsage.month == month, PaymentUsage.payments != 0)
            .order_by(
                col(PaymentUsage.actor),
                col(PaymentUsage.environment),
                col(PaymentUsage.kind),
                col(PaymentUsage.outcome),
            )
        )
    if environment is not None:
        here, people_too = {f"key:{key_id}" for key_id in keys}, organization.default_environment == environment
        calls = [row for row in calls if row.actor in here or (people_too and row.actor.startswith("user:"))]
        payments = [row for row in payments if row.environment == environment]
    return Usage(
        organization_id=organization_id,
        month=month,
        by_tool=[CallsOfTool(row.actor, row.tool, row.calls, row.refused) for row in calls],
        by_outcome=[
            PaymentsOfKind(row.actor, row.environment, row.kind, row.outcome, row.payments, Kes(row.moved_cents))
            for row in payments
        ],
    )


async def usage_of_all(store: Store, month: str, *, limit: int, cursor: str | None = None) -> Page[UsageTotals]:
    """The totals of every organization that used anything in a month, for the platform. Raises InputError."""
    found = await usage_totals(store, checked_month(month), after=cursor or "", limit=limit + 1)
    shown = found[:limit]
    return Page(shown, shown[-1].organization_id if len(found) > limit else None)


def month_of(at: datetime) -> str:
    """The month in Nairobi, YYYY-MM."""
    return f"{at.astimezone(EAT):%Y-%m}"


def checked_month(text: str) -> str:
    """Raises InputError."""
    if not _MONTH.fullmatch(text):
        raise InputError("month must be a month of this century, written YYYY-MM.", field="month")
    return text
