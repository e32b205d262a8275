"""Subscriptions and rate limits as the platform sets them: by its operator or a super_admin, each change audited."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import update
from sqlmodel import col

from mpesa_mcp import audit
from mpesa_mcp.billing.models import RateLimit, Subscription
from mpesa_mcp.billing.plans import PlanRecord, check_number, check_rates, find_plan, require_platform
from mpesa_mcp.billing.states import SubscriptionStatus
from mpesa_mcp.billing.terms import Agreement, Terms, agreement_of, terms_of, terms_topic
from mpesa_mcp.errors import ConflictError, InputError, NotFoundError
from mpesa_mcp.identity.models import Organization
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock

TRIAL_DAYS: Final = 14
MOST_TRIAL_DAYS: Final = 366


class NoSuchChange(ConflictError):
    """The life of a subscription does not have this change. Nothing was changed."""

    code = "no_such_change"

    def __init__(self, before: SubscriptionStatus, after: SubscriptionStatus) -> None:
        super().__init__(f"A subscription that is {before} cannot become {after}. Nothing was changed.")
        self.before = before
        self.after = after


@dataclass(frozen=True, slots=True)
class SubscriptionChange:
    """What to change; None stays as it is. `trial_days` is for a trial, counted from now."""

    plan: str | None = None
    status: SubscriptionStatus | None = None
    trial_days: int | None = None


async def terms_in_force(store: Store, organization_id: str) -> Terms:
    """What an organization has agreed to, and its rate limits. Raises NotFoundError."""
    async with store.reading(organization_id) as session:
        if await session.get(Organization, organization_id) is None:
            raise NotFoundError("organization")
        return await terms_of(session)


async def set_subscription(
    store: Store, clock: Clock, *, organization_id: str, change: SubscriptionChange, actor: Actor
) -> Terms:
    """Changes the plan, the status or the end of a trial; from the next call on it holds.

    Raises NotAllowed, NotFoundError, NoSuchPlan, InputError, NoSuchChange; then nothing was changed.
    """
    require_platform(actor)
    plan = None if change.plan is None else await find_plan(store, change.plan)
    async with store.session(organization_id) as session:
        # A payment is opened under the terms of before or under the new ones, never beside the change.
        await session.hold_organization(alone=True)
        await _hold_organization(session)
        known = await session.get(Subscription, organization_id) is not None
        before = await agreement_of(session)
        after = _changed(before, change, plan, clock.now(), known=known)
        if after != before or not known:
            await _write(session, after, clock.now(), actor, known=known)
            audit.record(
                session,
                clock,
                actor=actor.name,
                action="subscription.changed",
                subject=organization_id,
                before=_described(before),
                after=_described(after),
            )
            session.wake(terms_topic(organization_id))
        return await terms_of(session)


async def set_rate_limits(
    store: Store,
    clock: Clock,
    *,
    organization_id: str,
    calls_per_second: int | None,
    key_calls_per_second: int | None,
    actor: Actor,
) -> Terms:
    """Sets an organization's own rate limits; None follows the plan. Raises NotAllowed, NotFoundError, InputError."""
    require_platform(actor)
    check_rates(calls_per_second, key_calls_per_second)
    limits = {"calls_per_second": calls_per_second, "key_calls_per_second": key_calls_per_second}
    async with store.session(organization_id) as session:
        await _hold_organization(session)
        row = await session.get(RateLimit, organization_id)
        before = None if row is None else {name: getattr(row, name) for name in limits}
        if row is None:
            row = RateLimit(organization_id=organization_id, changed_at=clock.now(), changed_by=actor.name)
            session.add(row)
        row.calls_per_second, row.key_calls_per_second = calls_per_second, key_calls_per_second
        row.changed_at, row.changed_by = clock.now(), actor.name
        audit.record(
            session,
            clock,
            actor=actor.name,
            action="rate_limit.changed",
            subject=organization_id,
            before=before,
            after=limits,
        )
        session.wake(terms_topic(organization_id))
        await session.flush()
        return await terms_of(session)


async def _hold_organization(session: OrganizationSession) -> None:
    """Two who change the same organization's terms take turns. Raises NotFoundError."""
    if await session.lock(Organization, session.organization_id) is None:
        raise NotFoundError("organization")


def _changed(
    before: Agreement, change: SubscriptionChange, plan: PlanRecord | None, now: datetime, *, known: bool
) -> Agreement:
    """What the agreement is after the change; from none at all everything can follow. Raises NoSuchChange, InputError.

    A trial that has ended is past due, and goes on from there.
    """
    plan = plan or before.plan
    was = before.status_at(now)
    status = change.status or was
    if known and status is not was and not was.may_become(status):
        raise NoSuchChange(was, status)
    if status is SubscriptionStatus.TRIAL:
        begins = before.status is not SubscriptionStatus.TRIAL
        if not begins and change.trial_days is None:
            return replace(before, plan=plan)
        days = TRIAL_DAYS if change.trial_days is None else change.trial_days
        check_number("trial_days", days, least=1, most=MOST_TRIAL_DAYS)
        return Agreement(plan=plan, status=status, trial_ends_at=now + timedelta(days=days))
    if change.trial_days is not None:
        raise InputError("trial_days is for a subscription in trial only.", field="trial_days")
    return replace(before, plan=plan) if status is was else Agreement(plan=plan, status=status)


async def _write(session: OrganizationSession, after: Agreement, now: datetime, actor: Actor, *, known: bool) -> None:
    values = {
        "plan": after.plan.slug,
        "status": after.status,
        "trial_ends_at": after.trial_ends_at,
        "changed_at": now,
        "changed_by": actor.name,
        **after.plan.columns(),
    }
    if known:
        own = col(Subscription.organization_id) == session.organization_id
        await session.change(update(Subscription).where(own).values(**values))
    else:
        session.add(Subscription(organization_id=session.organization_id, **values))
        await session.flush()


def _described(agreement: Agreement) -> dict[str, str | None]:
    ends = agreement.trial_ends_at
    return {
        "plan": agreement.plan.slug,
        "status": agreement.status.value,
        "trial_ends_at": None if ends is None else ends.isoformat(timespec="seconds"),
    }
