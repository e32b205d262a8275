"""What the spending counters say, beside what the payments say; and rules that stand in nobody's way."""

from collections import Counter
from collections.abc import Iterable

from sqlmodel import select

from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.states import PaymentStatus
from mpesa_mcp.policy.changes import set_rule
from mpesa_mcp.policy.models import Spending
from mpesa_mcp.policy.rules import ORGANIZATION
from mpesa_mcp.policy.windows import Window
from mpesa_mcp.policy.words import Words, rule_from
from mpesa_mcp.store.tenancy import OrganizationSession

OPERATOR = Actor("operator:tester", None)
WIDE: Words = {"per_day": 100_000_000}
Counted = dict[tuple[str, ...], tuple[int, int]]


async def give_rule(core: Core, organization_id: str, scope: str = ORGANIZATION, **words: object) -> None:
    """A rule as the operator sets it."""
    rule = rule_from(words)
    await set_rule(core.store, core.clock, organization_id=organization_id, scope=scope, rule=rule, actor=OPERATOR)


async def give_wide_rules(core: Core, organization_id: str) -> None:
    """For tests about something else, that pay more than a new organization may."""
    await give_rule(core, organization_id, **WIDE)


async def counted(session: OrganizationSession) -> Counted:
    """The counters that are not at nothing, by (environment, scope, recipient, window, period)."""
    return written(await session.all(select(Spending)))


async def miscounted(session: OrganizationSession) -> list[str]:
    """Where the counters do not say what the payments say."""
    return differing(await session.all(select(Spending)), await session.all(select(Payment)))


def differing(rows: Iterable[Spending], payments: Iterable[Payment]) -> list[str]:
    says, is_so = written(rows), summed(payments)
    return [
        f"{place} is at {says.get(place)}, not at {is_so.get(place)}"
        for place in {*says, *is_so}
        if says.get(place) != is_so.get(place)
    ]


def written(rows: Iterable[Spending]) -> Counted:
    return {
        (row.environment, row.scope, row.recipient, row.window, row.period): (row.amount_cents, row.payments)
        for row in rows
        if (row.amount_cents, row.payments) != (0, 0)
    }


def summed(payments: Iterable[Payment]) -> Counted:
    """The same, from the payments themselves."""
    amounts: Counter[tuple[str, ...]] = Counter()
    numbers: Counter[tuple[str, ...]] = Counter()
    for payment in payments:
        if PaymentStatus(payment.status).nothing_moved:
            continue
        for scope in payment.reserved_in:
            periods = [("", window) for window in Window] + [(payment.phone, Window.DAY)]
            for recipient, window in periods:
                period = window.period(payment.created_at)
                place = (payment.environment, scope, recipient, window.value, period)
                amounts[place] += payment.amount_cents
                numbers[place] += 1
    return {place: (amounts[place], numbers[place]) for place in amounts}
