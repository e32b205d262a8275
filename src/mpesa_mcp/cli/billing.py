"""`mpesa-mcp plan`, `subscription`, `limit` and `usage`: what organizations may use, and what they did."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mpesa_mcp.billing.states import SubscriptionStatus
from mpesa_mcp.cli.output import Document, JsonOption, OrgOption, emit, operator, run
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.values import Kes

if TYPE_CHECKING:
    from mpesa_mcp.billing.plans import OfferedPlan, PlanRecord
    from mpesa_mcp.billing.terms import Terms
    from mpesa_mcp.identity.organizations import OrganizationRecord
    from mpesa_mcp.payments.core import Core
    from mpesa_mcp.store.crossings import UsageTotals

_AT_ONCE: Final = 1_000
_TOTALS: Final = ("month", "calls", "refused_calls", "payments", "amount_moved")

plans = typer.Typer(no_args_is_help=True, help="Plans that organizations can subscribe to.")
subscriptions = typer.Typer(no_args_is_help=True, help="What an organization subscribed to.")
limits = typer.Typer(no_args_is_help=True, help="Rate limits of one organization.")

PerSecond = Annotated[
    int | None, typer.Option("--calls-per-second", min=1, help="Calls a second of the whole organization.")
]
KeyPerSecond = Annotated[int | None, typer.Option("--key-calls-per-second", min=1, help="Calls a second of each key.")]


@plans.command()
def create(
    name: Annotated[str, typer.Argument(help="The plan's name, for people.")],
    slug: Annotated[str, typer.Option(help="Its short name: 2 to 40 of a-z, 0-9 and dash.")],
    monthly_fee: Annotated[str, typer.Option(help="KES a month, for example 1500 or 1500.00.")] = "0",
    included_calls: Annotated[int | None, typer.Option(min=0, help="Tool calls a month; more are counted.")] = None,
    included_payments: Annotated[int | None, typer.Option(min=0, help="Payments a month; more are counted.")] = None,
    calls_per_second: PerSecond = None,
    key_calls_per_second: KeyPerSecond = None,
    largest_batch: Annotated[int | None, typer.Option(min=1, help="Payments in one batch.")] = None,
    seats: Annotated[int | None, typer.Option(min=1, help="People who can sign in.")] = None,
    tools: Annotated[str | None, typer.Option(help="The only tools it opens, separated by commas.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Offer a plan. What is not given has no limit. A plan is never changed: make another one."""

    async def act(core: "Core") -> Document:
        from mpesa_mcp.billing.plans import PlanRecord, create_plan

        wanted = PlanRecord(
            slug=slug,
            monthly_fee=Kes.from_decimal(monthly_fee),
            included_calls=included_calls,
            included_payments=included_payments,
            calls_per_second=calls_per_second,
            key_calls_per_second=key_calls_per_second,
            largest_batch=largest_batch,
            seats=seats,
            tools=None if tools is None else frozenset(tool.strip() for tool in tools.split(",")),
        )
        return _offered(await create_plan(core.store, core.clock, name=name, plan=wanted, actor=_actor()))

    emit(run(act), as_json=as_json)


@plans.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the plans; self-hosted is built in, and what everybody has who subscribed to nothing."""

    async def act(core: "Core") -> list[Document]:
        from mpesa_mcp.billing.plans import list_plans

        return [_offered(offered) for offered in await list_plans(core.store)]

    columns = ("slug", "name", "monthly_fee", "included_calls", "included_payments", "calls_per_second")
    emit(run(act), as_json=as_json, columns=(*columns, "key_calls_per_second", "largest_batch", "seats", "tools"))


@subscriptions.command()
def show(org: OrgOption, as_json: JsonOption = False) -> None:
    """Show what an organization subscribed to, and what limits it has."""

    async def act(core: "Core") -> Document:
        from mpesa_mcp.billing.subscriptions import terms_in_force
        from mpesa_mcp.identity.organizations import organization_by_slug

        found = await organization_by_slug(core.store, org)
        return _in_force(core, found, await terms_in_force(core.store, found.organization_id))

    emit(run(act), as_json=as_json)


@subscriptions.command("set")
def set_(
    org: OrgOption,
    plan: Annotated[str | None, typer.Option(help="The plan's slug; by default it stays.")] = None,
    status: Annotated[SubscriptionStatus | None, typer.Option(help="By default it stays.")] = None,
    trial_days: Annotated[int | None, typer.Option(min=1, help="Days from now that a trial lasts.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Change an organization's plan, or where its subscription stands."""

    async def act(core: "Core") -> Document:
        from mpesa_mcp.billing.subscriptions import SubscriptionChange, set_subscription
        from mpesa_mcp.identity.organizations import organization_by_slug

        found = await organization_by_slug(core.store, org)
        terms = await set_subscription(
            core.store,
            core.clock,
            organization_id=found.organization_id,
            change=SubscriptionChange(plan=plan, status=status, trial_days=trial_days),
            actor=_actor(),
        )
        return _in_force(core, found, terms)

    emit(run(act), as_json=as_json)


@limits.command("set")
def set_limits(
    org: OrgOption,
    calls_per_second: PerSecond = None,
    key_calls_per_second: KeyPerSecond = None,
    as_json: JsonOption = False,
) -> None:
    """Give an organization rate limits of its own. What is not given follows its plan again."""

    async def act(core: "Core") -> Document:
        from mpesa_mcp.billing.subscriptions import set_rate_limits
        from mpesa_mcp.identity.organizations import organization_by_slug

        found = await organization_by_slug(core.store, org)
        terms = await set_rate_limits(
            core.store,
            core.clock,
            organization_id=found.organization_id,
            calls_per_second=calls_per_second,
            key_calls_per_second=key_calls_per_second,
            actor=_actor(),
        )
        return _in_force(core, found, terms)

    emit(run(act), as_json=as_json)


def usage(
    org: Annotated[str | None, typer.Option("--org", help="One organization, in detail; by default all.")] = None,
    month: Annotated[str | None, typer.Option(help="A month in Nairobi, YYYY-MM; by default this one.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what an organization used in a month, or what all of them did."""

    async def of_one(core: "Core", slug: str) -> Document:
        from mpesa_mcp.billing.subscriptions import terms_in_force
        from mpesa_mcp.billing.usage import month_of, usage_of
        from mpesa_mcp.identity.organizations import organization_by_slug

        found = await organization_by_slug(core.store, slug)
        used = await usage_of(core.store, found.organization_id, month or month_of(core.clock.now()))
        plan = (await terms_in_force(core.store, found.organization_id)).agreement.plan
        return {
            **_totals(used.totals, slug, used.month),
            "plan": plan.slug,
            "included_calls": plan.included_calls,
            "included_payments": plan.included_payments,
            "by_tool": [asdict(each) for each in used.by_tool],
            "by_outcome": [asdict(each) | {"amount_moved": str(each.amount_moved)} for each in used.by_outcome],
        }

    async def of_all(core: "Core") -> list[Document]:
        from mpesa_mcp.billing.usage import month_of, usage_of_all
        from mpesa_mcp.identity.organizations import list_all

        wanted = month or month_of(core.clock.now())
        slugs = {each.organization_id: each.slug for each in await list_all(core.store)}
        listed: list[Document] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await usage_of_all(core.store, wanted, limit=_AT_ONCE, cursor=cursor)
            # The platform's own calls have no organization.
            listed += [_totals(each, slugs.get(each.organization_id), wanted) for each in page.items]
            cursor = page.next_cursor
        return listed

    if org is None:
        emit(run(of_all), as_json=as_json, columns=("slug", *_TOTALS))
        return
    used = run(lambda core: of_one(core, org))
    if as_json:
        emit(used, as_json=True)
        return
    details = {name: used[name] for name in ("by_tool", "by_outcome")}
    emit({name: told for name, told in used.items() if name not in details}, as_json=False)
    for rows in details.values():
        assert isinstance(rows, list)
        if rows:
            emit(rows, as_json=False, columns=tuple(rows[0]))


def _totals(totals: "UsageTotals", slug: str | None, month: str) -> Document:
    return {
        "organization_id": totals.organization_id,
        "slug": slug,
        "month": month,
        "calls": totals.calls,
        "refused_calls": totals.refused_calls,
        "payments": totals.payments,
        "amount_moved": str(Kes(totals.moved_cents)),
    }


def _actor() -> Actor:
    return Actor(operator(), None)


def _offered(offered: "OfferedPlan") -> Document:
    return {"slug": offered.plan.slug, "name": offered.name, **_plan(offered.plan), "built_in": offered.built_in}


def _plan(plan: "PlanRecord") -> Document:
    return {
        "monthly_fee": str(plan.monthly_fee),
        "included_calls": plan.included_calls,
        "included_payments": plan.included_payments,
        "calls_per_second": plan.calls_per_second,
        "key_calls_per_second": plan.key_calls_per_second,
        "largest_batch": plan.largest_batch,
        "seats": plan.seats,
        "tools": plan.tools,
    }


def _in_force(core: "Core", organization: "OrganizationRecord", terms: "Terms") -> Document:
    agreement = terms.agreement
    return {
        "organization_id": organization.organization_id,
        "slug": organization.slug,
        "plan": agreement.plan.slug,
        "status": agreement.status_at(core.clock.now()),
        "trial_ends_at": agreement.trial_ends_at,
        **_plan(agreement.plan),
        # In force: the organization's own where it has some.
        "calls_per_second": terms.calls_per_second,
        "key_calls_per_second": terms.key_calls_per_second,
    }
