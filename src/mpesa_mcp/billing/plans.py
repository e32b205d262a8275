"""Plans: what the operator of the platform offers. Made and listed; what was agreed to is never changed.

`self-hosted` is built in: it has no row, and everybody who has subscribed to nothing has it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.billing.models import Plan, PlanColumns
from mpesa_mcp.errors import Advice, ConflictError, InputError
from mpesa_mcp.identity.models import PLATFORM
from mpesa_mcp.identity.names import checked_name, checked_slug
from mpesa_mcp.identity.principal import Actor, NotAllowed
from mpesa_mcp.identity.tool_names import checked_tools
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock, Kes, Role

# Above what anybody means, and far below where a column ends.
_MOST: Final = 1_000_000_000
_MOST_A_SECOND: Final = 1_000_000


class PlanExists(ConflictError):
    """A plan has this slug, or it is the built-in one's."""

    code = "plan_exists"
    advice = Advice.FIX_INPUT

    def __init__(self) -> None:
        super().__init__("A plan with this slug exists. Plans are not changed: make one with another slug.")


class NoSuchPlan(InputError):
    """The plan that was named does not exist."""

    code = "no_such_plan"

    def __init__(self) -> None:
        super().__init__("There is no such plan. List the plans to see what there is.", field="plan")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRecord:
    """A plan as offered, or as agreed to. None is no limit; `tools` None is all of them.

    `calls_per_second` is of the whole organization, `key_calls_per_second` of each of its keys.
    """

    slug: str
    monthly_fee: Kes
    included_calls: int | None = None
    included_payments: int | None = None
    calls_per_second: int | None = None
    key_calls_per_second: int | None = None
    largest_batch: int | None = None
    seats: int | None = None
    tools: frozenset[str] | None = None

    def columns(self) -> Mapping[str, Any]:
        """All but the slug, by the columns it is kept in."""
        return {
            "monthly_fee_cents": self.monthly_fee.cents,
            "included_calls": self.included_calls,
            "included_payments": self.included_payments,
            "calls_per_second": self.calls_per_second,
            "key_calls_per_second": self.key_calls_per_second,
            "largest_batch": self.largest_batch,
            "seats": self.seats,
            "tools": None if self.tools is None else sorted(self.tools),
        }


@dataclass(frozen=True, slots=True)
class OfferedPlan:
    """A plan, and what people call it."""

    name: str
    plan: PlanRecord
    built_in: bool = False


SELF_HOSTED: Final = PlanRecord(slug="self-hosted", monthly_fee=Kes(0), key_calls_per_second=100)
_BUILT_IN: Final = OfferedPlan("Self-hosted", SELF_HOSTED, built_in=True)


async def create_plan(store: Store, clock: Clock, *, name: str, plan: PlanRecord, actor: Actor) -> OfferedPlan:
    """Offers a plan. Raises InputError, NotAllowed, PlanExists."""
    require_platform(actor)
    name = checked_name(name)
    _check(plan)
    if plan.slug == SELF_HOSTED.slug:
        raise PlanExists
    row = Plan(
        organization_id=PLATFORM,
        slug=plan.slug,
        name=name,
        created_at=clock.now(),
        created_by=actor.name,
        **plan.columns(),
    )
    async with store.session(PLATFORM) as session:
        session.add(row)
        try:
            await session.flush()
        except IntegrityError as exists:
            raise PlanExists from exists
        audit.record(
            session, clock, actor=actor.name, action="plan.created", subject=plan.slug, after=dict(plan.columns())
        )
    return OfferedPlan(name, plan)


async def list_plans(store: Store) -> Sequence[OfferedPlan]:
    """The built-in plan, then the others, oldest first."""
    async with store.reading(PLATFORM) as session:
        rows = await session.all(select(Plan).order_by(col(Plan.created_at), col(Plan.slug)))
    return [_BUILT_IN, *(OfferedPlan(row.name, plan_of(row.slug, row)) for row in rows)]


async def find_plan(store: Store, slug: str) -> PlanRecord:
    """Raises NoSuchPlan."""
    if slug == SELF_HOSTED.slug:
        return SELF_HOSTED
    async with store.reading(PLATFORM) as session:
        row = await _row(session, slug)
    if row is None:
        raise NoSuchPlan
    return plan_of(slug, row)


def plan_of(slug: str, row: PlanColumns) -> PlanRecord:
    """What a row says a plan is."""
    return PlanRecord(
        slug=slug,
        monthly_fee=Kes(row.monthly_fee_cents),
        included_calls=row.included_calls,
        included_payments=row.included_payments,
        calls_per_second=row.calls_per_second,
        key_calls_per_second=row.key_calls_per_second,
        largest_batch=row.largest_batch,
        seats=row.seats,
        tools=None if row.tools is None else frozenset(row.tools),
    )


def require_platform(actor: Actor) -> None:
    """Raises NotAllowed unless the actor runs the platform: its operator or a super_admin."""
    if actor.role not in {None, Role.SUPER_ADMIN}:
        raise NotAllowed


def check_number(field: str, number: int | None, *, least: int = 0, most: int = _MOST) -> None:
    """Raises InputError; None is no limit."""
    if number is not None and not least <= number <= most:
        raise InputError(f"{field} must be a number from {least} to {most:,}.", field=field)


def check_rates(calls_per_second: int | None, key_calls_per_second: int | None) -> None:
    """Raises InputError; None is no limit."""
    check_number("calls_per_second", calls_per_second, least=1, most=_MOST_A_SECOND)
    check_number("key_calls_per_second", key_calls_per_second, least=1, most=_MOST_A_SECOND)


def _check(plan: PlanRecord) -> None:
    checked_slug(plan.slug)
    if plan.tools is not None:
        checked_tools(plan.tools)
    if plan.monthly_fee < Kes(0):
        raise InputError("monthly_fee must not be negative.", field="monthly_fee")
    check_rates(plan.calls_per_second, plan.key_calls_per_second)
    check_number("included_calls", plan.included_calls)
    check_number("included_payments", plan.included_payments)
    check_number("largest_batch", plan.largest_batch, least=1, most=_MOST_A_SECOND)
    check_number("seats", plan.seats, least=1, most=_MOST_A_SECOND)


async def _row(session: OrganizationSession, slug: str) -> Plan | None:
    return await session.first(select(Plan).where(Plan.slug == slug))
