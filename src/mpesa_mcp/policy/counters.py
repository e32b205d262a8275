"""Spending counters: reserved when a payment is asked for, given back when it is certain that nothing moved.

A limit holds because the statement that reserves says it (docs/decisions/0016): it adds to the row only where the
sum stays within, so that two who read the same sum cannot both spend it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Select, and_, delete, or_
from sqlmodel import col, select

from mpesa_mcp.policy.models import Spending
from mpesa_mcp.policy.rules import Bounds, Place, Rule, Used, bounds
from mpesa_mcp.policy.windows import Window
from mpesa_mcp.store.counters import Bounded
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment

# Rules ask about the periods of this moment only. The rest is for people who look, and for clocks that differ.
KEPT: Final = timedelta(days=40)


async def used_so_far(
    session: OrganizationSession,
    *,
    environment: Environment,
    scopes: Collection[str],
    recipients: Collection[str],
    at: datetime,
) -> dict[Place, Used]:
    """What the periods that `at` lies in have counted already."""
    periods = [(col(Spending.window) == window) & (col(Spending.period) == window.period(at)) for window in Window]
    rows = await session.all(
        select(Spending).where(
            col(Spending.environment) == environment,
            col(Spending.scope).in_(sorted(scopes)),
            col(Spending.recipient).in_(["", *sorted(recipients)]),
            or_(*periods),
        )
    )
    return {Place(row.scope, Window(row.window), row.recipient): Used(row.amount_cents, row.payments) for row in rows}


async def reserve(
    session: OrganizationSession,
    *,
    environment: Environment,
    scopes: Sequence[str],
    rules: Mapping[str, Rule],
    paid: Mapping[str, Used],
    at: datetime,
) -> bool:
    """Counts what is to be `paid`, by recipient, in every scope, within the limits of the rules there.

    False when somebody else was faster: a limit would be exceeded, and the transaction must be rolled back.
    """
    wanted = []
    for place, more in _places(scopes, paid):
        rule = rules.get(place.scope)
        most = bounds(rule, place.window, of_recipient=place.recipient != "") if rule else Bounds(None, None)
        wanted.append(
            Bounded(
                place=_key(environment, place, at),
                numbers={"amount_cents": more.cents, "payments": more.payments},
                most={"amount_cents": most.cents, "payments": most.payments},
            )
        )
    return await session.count_within(Spending, wanted)


async def reserve_many(
    session: OrganizationSession,
    *,
    environment: Environment,
    scopes: Sequence[str],
    rules: Mapping[str, Rule],
    rows: Select[*tuple[Any, ...]],
    recipients: int,
    total: Used,
    at: datetime,
) -> bool:
    """As `reserve`, of so many `recipients` that a query gives: columns recipient, amount_cents and payments.

    With the numbers of a `total` that is negative, and without rules, it gives back.
    """

    def bounded(scope: str, window: Window) -> Bounded:
        most = bounds(rules[scope], window, of_recipient=False) if scope in rules else Bounds(None, None)
        return Bounded(
            place=_key(environment, Place(scope, window, ""), at),
            numbers={"amount_cents": total.cents, "payments": total.payments},
            most={"amount_cents": most.cents, "payments": most.payments},
        )

    # In the order in which everybody counts, that of the periods' texts: what is of an hour comes after a day's
    # recipients.
    day = Window.DAY.period(at)
    before = [bounded(scope, window) for scope in scopes for window in Window if window.period(at) <= day]
    after = [bounded(scope, window) for scope in scopes for window in Window if window.period(at) > day]
    if not await session.count_within(Spending, before):
        return False
    for scope in sorted(scopes):
        place = _key(environment, Place(scope, Window.DAY, ""), at)
        del place["recipient"]
        most = bounds(rules[scope], Window.DAY, of_recipient=True) if scope in rules else Bounds(None, None)
        limits = {"amount_cents": most.cents, "payments": most.payments}
        if await session.count_rows(Spending, place, rows, limits) != recipients:
            return False
    return await session.count_within(Spending, after)


def count_again(
    session: OrganizationSession,
    *,
    environment: Environment,
    scopes: Sequence[str],
    paid: Mapping[str, Used],
    at: datetime,
) -> None:
    """Counts with the commit, whatever the limits: negative numbers give back what was reserved `at` that time."""
    for place, more in _places(scopes, paid):
        session.count(Spending, _key(environment, place, at), amount_cents=more.cents, payments=more.payments)


async def forget_past(store: Store, organization_id: str, now: datetime) -> None:
    """Deletes the counters of periods that are over for long.

    A payment of such a period may still be given back, or counted again: that begins a row anew, below nothing perhaps,
    which no rule reads and the next call deletes.
    """
    past = or_(*(and_(col(Spending.window) == each, col(Spending.period) < each.period(now - KEPT)) for each in Window))
    async with store.reading(organization_id) as session:
        if await session.first(select(Spending.period).where(past).limit(1)) is None:
            return
    async with store.session(organization_id) as session:
        await session.change(delete(Spending).where(past))


def _places(scopes: Sequence[str], paid: Mapping[str, Used]) -> Iterator[tuple[Place, Used]]:
    """Everywhere that payments are counted: in each window, and of the day each recipient apart."""
    total = Used(sum(more.cents for more in paid.values()), sum(more.payments for more in paid.values()))
    for scope in scopes:
        for window in Window:
            yield Place(scope, window, ""), total
        for recipient, more in paid.items():
            yield Place(scope, Window.DAY, recipient), more


def _key(environment: Environment, place: Place, at: datetime) -> dict[str, str]:
    return {
        "environment": environment,
        "scope": place.scope,
        "recipient": place.recipient,
        "window": place.window,
        "period": place.window.period(at),
    }
