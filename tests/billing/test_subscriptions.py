"""Plans and subscriptions: changed by the platform alone, audited, and binding where payments are opened."""

from datetime import timedelta

import anyio
import pytest
from sqlalchemy import text
from sqlmodel import col, select

from mpesa_mcp.audit import AuditEntry
from mpesa_mcp.billing.plans import SELF_HOSTED, NoSuchPlan, PlanExists, PlanRecord, create_plan, list_plans
from mpesa_mcp.billing.states import SubscriptionStatus
from mpesa_mcp.billing.subscriptions import NoSuchChange, set_rate_limits, terms_in_force
from mpesa_mcp.billing.terms import NotSubscribed, TermsBook, agreement_of
from mpesa_mcp.errors import Advice, InputError, NotFoundError
from mpesa_mcp.identity.principal import Actor, NotAllowed
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.standing import require_may_open
from mpesa_mcp.payments.states import PaymentKind
from mpesa_mcp.store.engine import Store, open_store
from mpesa_mcp.values import FrozenClock, Kes, Role

from .factories import OPERATOR, a_payer, a_payout, a_plan, a_push, an_organization, subscribe

pytestmark = pytest.mark.anyio
TRIAL, ACTIVE, PAST_DUE, SUSPENDED, CANCELLED = SubscriptionStatus


async def actions(store: Store, organization_id: str) -> list[str]:
    async with store.reading(organization_id) as session:
        return list(await session.all(select(AuditEntry.action).order_by(col(AuditEntry.id))))


async def test_who_subscribed_to_nothing_has_the_built_in_plan(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    terms = await terms_in_force(store, acme)
    assert (terms.agreement.plan, terms.agreement.status) == (SELF_HOSTED, ACTIVE)
    assert (terms.calls_per_second, terms.key_calls_per_second) == (None, 100)
    assert PlanRecord(slug="self-hosted", monthly_fee=Kes(0), key_calls_per_second=100) == SELF_HOSTED
    with pytest.raises(NotFoundError):
        await terms_in_force(store, "org_none")


async def test_a_plan_is_offered_once_and_agreed_to_as_it_is(store: Store, clock: FrozenClock) -> None:
    acme, other = await an_organization(store, clock), await an_organization(store, clock, "other")
    basic = await a_plan(store, clock, seats=3, tools=frozenset({"stk_push", "get_payment"}), calls_per_second=20)
    assert [offered.plan for offered in await list_plans(store)] == [SELF_HOSTED, basic]
    for slug in ("basic", "self-hosted"):
        with pytest.raises(PlanExists):
            await a_plan(store, clock, slug)
    terms = await subscribe(store, clock, acme, plan="basic")
    assert (terms.agreement.plan, terms.agreement.status) == (basic, ACTIVE)
    assert (await terms_in_force(store, other)).agreement.plan == SELF_HOSTED
    assert await actions(store, "org_platform") == ["plan.created"]
    assert await actions(store, acme) == ["organization.created", "subscription.changed"]
    for wrong in ({"seats": 0}, {"tools": frozenset({"stk_psuh"})}, {"monthly_fee": Kes(-1)}, {"calls_per_second": 0}):
        with pytest.raises(InputError):
            await a_plan(store, clock, "wrong", **wrong)


async def test_a_change_that_a_subscription_does_not_have_changes_nothing(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    await a_plan(store, clock)
    before = await subscribe(store, clock, acme, ACTIVE, plan="basic")
    with pytest.raises(NoSuchPlan):
        await subscribe(store, clock, acme, SUSPENDED, plan="nobodys")
    for status, days in ((TRIAL, 14), (PAST_DUE, 3), (None, 3)):
        with pytest.raises((NoSuchChange, InputError)) as refused:
            await subscribe(store, clock, acme, status, plan="self-hosted", trial_days=days)
        assert refused.value.http_status == (409 if status is TRIAL else 422)
    assert await terms_in_force(store, acme) == before
    said = await actions(store, acme)
    assert await subscribe(store, clock, acme, ACTIVE, plan="basic") == before  # again is no change
    assert await actions(store, acme) == said


async def test_only_the_platform_changes_plans_subscriptions_and_limits(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    root, admin = Actor("user:root", Role.SUPER_ADMIN), Actor("user:admin", Role.ORG_ADMIN)
    with pytest.raises(NotAllowed):
        await subscribe(store, clock, acme, PAST_DUE, actor=admin)
    with pytest.raises(NotAllowed):
        await create_plan(store, clock, name="Mine", plan=SELF_HOSTED, actor=admin)
    limits = {"organization_id": acme, "calls_per_second": 5, "key_calls_per_second": None}
    with pytest.raises(NotAllowed):
        await set_rate_limits(store, clock, **limits, actor=admin)  # type: ignore[arg-type] # as above
    assert (await subscribe(store, clock, acme, PAST_DUE, actor=root)).agreement.status is PAST_DUE
    set_ = await set_rate_limits(store, clock, **limits, actor=root)  # type: ignore[arg-type] # as above
    assert (set_.calls_per_second, set_.key_calls_per_second) == (5, 100)
    back = await set_rate_limits(
        store, clock, organization_id=acme, calls_per_second=None, key_calls_per_second=7, actor=OPERATOR
    )
    assert (back.calls_per_second, back.key_calls_per_second) == (None, 7)


async def test_a_trial_ends_by_itself_and_goes_on_from_past_due(core: Core, clock: FrozenClock) -> None:
    payer = await a_payer(core)
    acme = payer.organization_id
    await subscribe(core.store, clock, acme, TRIAL)
    clock.advance(timedelta(days=13))
    longer = await subscribe(core.store, clock, acme, TRIAL, trial_days=2)
    assert longer.agreement.trial_ends_at == clock.now() + timedelta(days=2)
    await open_payment(core, payer, a_payout())
    clock.advance(timedelta(days=2))
    with pytest.raises(NotSubscribed, match="trial of the organization's subscription ended on 2026-12-01") as ended:
        await open_payment(core, payer, a_payout("payout-2"))
    assert ended.value.code == "trial_ended"
    with pytest.raises(NoSuchChange):
        await subscribe(core.store, clock, acme, TRIAL, trial_days=14)
    await subscribe(core.store, clock, acme, ACTIVE)
    await open_payment(core, payer, a_payout("payout-2"))


@pytest.mark.parametrize(
    ("status", "collects", "why"),
    [
        (PAST_DUE, True, "is past due. Collecting and reading go on; paying out and reversing do not."),
        (SUSPENDED, False, "is suspended: it can be read, and nothing collected or paid."),
        (CANCELLED, False, "is cancelled: it can be read, and nothing collected or paid."),
    ],
)
async def test_what_a_subscription_does_not_allow_is_refused_with_reason_and_remedy(
    core: Core, clock: FrozenClock, status: SubscriptionStatus, collects: bool, why: str
) -> None:
    payer = await a_payer(core)
    stored = await open_payment(core, payer, a_payout())
    await subscribe(core.store, clock, payer.organization_id, status)
    for request, allowed in ((a_push(), collects), (a_payout("payout-2"), False)):
        if allowed:
            await open_payment(core, payer, request)
            continue
        with pytest.raises(NotSubscribed) as refused:
            await open_payment(core, payer, request)
        assert refused.value.message == (
            f"The organization's subscription {why} Nothing was sent. "
            "Ask a person to put it right with the operator of this platform."
        )
        assert (refused.value.code, refused.value.advice) == (f"subscription_{status}", Advice.ASK_A_PERSON)
    # What was asked for before can be read by asking again.
    again = await open_payment(core, payer, a_payout())
    assert (again.replayed, again.payment.payment_id) == (True, stored.payment.payment_id)
    async with core.store.reading(payer.organization_id) as session:
        assert len(await session.all(select(Payment.id))) == 1 + collects
    # Another organization goes on.
    await open_payment(core, await a_payer(core, "other"), a_payout())


async def test_a_tool_that_the_plan_leaves_out_is_refused(core: Core, clock: FrozenClock) -> None:
    payer = await a_payer(core)
    await a_plan(core.store, clock, tools=frozenset({"stk_push"}))
    await subscribe(core.store, clock, payer.organization_id, plan="basic")
    await open_payment(core, payer, a_push())
    with pytest.raises(NotSubscribed, match="plan, basic, does not include b2c_payment") as refused:
        await open_payment(core, payer, a_payout())
    assert refused.value.code == "not_in_plan"


async def test_remembered_terms_cost_no_read_and_are_forgotten_when_they_change(
    core: Core, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = await an_organization(core.store, clock)
    reads, reading = [], Store.reading

    def counted(store: Store, organization_id: str) -> object:
        reads.append(organization_id)
        return reading(store, organization_id)

    monkeypatch.setattr(Store, "reading", counted)
    book = TermsBook(core.store, clock)
    for _ in range(50):
        assert (await book.terms(acme)).agreement.status is ACTIVE
    assert len(reads) <= 2  # whoever begins to listen to other processes is woken once
    await subscribe(core.store, clock, acme, SUSPENDED)
    assert (await book.terms(acme)).agreement.status is SUSPENDED
    # Another process's change is noticed after some seconds at the latest.
    elsewhere = open_store(core.settings.effective_database_url)
    await subscribe(elsewhere, clock, acme, ACTIVE)
    await elsewhere.close()
    clock.advance(timedelta(seconds=5))
    assert (await book.terms(acme)).agreement.status is ACTIVE


@pytest.mark.postgresql  # on SQLite writers take turns anyway
async def test_a_payment_is_opened_before_a_change_of_the_subscription_or_under_it(core: Core) -> None:
    payer = await a_payer(core)
    organization_id, changed = payer.organization_id, anyio.Event()

    async def stop_payouts() -> None:
        await subscribe(core.store, core.clock, organization_id, ACTIVE)
        await subscribe(core.store, core.clock, organization_id, PAST_DUE)
        changed.set()

    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'")
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            async with core.store.session(organization_id) as session:
                await require_may_open(session, PaymentKind.B2C)  # as intake does
                group.start_soon(stop_payouts)
                stands = 0
                while not stands:
                    async with core.store.unbound_reading() as watching:
                        stands = (await watching.execute(waiting)).scalar_one()
                (await agreement_of(session)).require("b2c_payment", core.clock.now())
            await changed.wait()
    with pytest.raises(NotSubscribed):
        await open_payment(core, payer, a_payout())
