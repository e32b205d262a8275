"""Usage is what the payments are, in their month of Nairobi, whatever becomes of them later."""

import importlib
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import delete

from mpesa_mcp.billing.models import PaymentUsage
from mpesa_mcp.billing.usage import (
    CallsOfTool,
    PaymentsOfKind,
    count_call,
    count_payments,
    usage_of,
    usage_of_all,
)
from mpesa_mcp.errors import InputError, NotFoundError
from mpesa_mcp.identity.api_keys import create_key
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.outcomes import Change, move
from mpesa_mcp.payments.requests import PaymentRequest, ReversalRequest
from mpesa_mcp.payments.states import PaymentEvent
from mpesa_mcp.store.crossings import UsageTotals
from mpesa_mcp.values import Environment, FrozenClock, Kes, Role

from .factories import OPERATOR, a_payer, a_payout, a_push, an_organization

pytestmark = pytest.mark.anyio
SENT, SUCCESS, FAILURE = PaymentEvent.ATTEMPT_COMMITTED, PaymentEvent.SUCCESS, PaymentEvent.FAILURE
COUNTED = importlib.import_module("mpesa_mcp.store.migrations.versions.0013_usage")


async def happened(
    core: Core, payer: Principal, request: PaymentRequest, *events: PaymentEvent, receipt: str | None = None
) -> str:
    """A payment to which all this has happened, each in a transaction of its own."""
    opened = await open_payment(core, payer, request)
    payment_id = opened.payment.payment_id
    for event in events:
        async with core.store.session(payer.organization_id) as session:
            payment = await session.get(Payment, payment_id)
            assert payment is not None
            await move(
                core, session, payment, Change(event, source="test", receipt=receipt if event is SUCCESS else None)
            )
    return payment_id


async def outcomes(core: Core, payer: Principal, month: str = "2026-11") -> dict[tuple[str, str], tuple[int, str]]:
    used = await usage_of(core.store, payer.organization_id, month)
    return {(each.kind, each.outcome): (each.payments, str(each.amount_moved)) for each in used.by_outcome}


async def test_each_payment_counts_once_and_under_what_it_is_now(core: Core) -> None:
    payer = await a_payer(core)
    await happened(core, payer, a_push("p1"), SENT, SUCCESS)
    disputed = await happened(core, payer, a_push("p2"), SENT, SUCCESS, FAILURE)
    await happened(core, payer, a_push("p3"), SENT, SUCCESS, receipt="SKE0000AA1")
    await happened(core, payer, a_payout("p4"), SENT, FAILURE, SUCCESS)
    await happened(core, payer, a_payout("p5"), PaymentEvent.WITHDRAWN)
    await happened(core, payer, a_payout("p6"), SENT)  # not ended: not counted
    assert await outcomes(core, payer) == {
        ("stk_push", "succeeded"): (2, "200.00"),
        ("stk_push", "disputed"): (1, "0.00"),
        ("b2c", "disputed"): (1, "0.00"),
        ("b2c", "expired"): (1, "0.00"),
    }
    back = ReversalRequest(receipt="SKE0000AA1", reason="Paid twice", idempotency_key="r1")
    await happened(core, payer, back, SENT, SUCCESS, SUCCESS)
    async with core.store.session(payer.organization_id) as session:
        payment = await session.get(Payment, disputed)
        assert payment is not None
        await move(core, session, payment, Change(PaymentEvent.RESOLVED_SUCCEEDED, source="person"))
    assert await outcomes(core, payer) == {
        ("stk_push", "succeeded"): (2, "200.00"),
        ("stk_push", "reversed"): (1, "100.00"),
        ("reversal", "succeeded"): (1, "100.00"),
        ("b2c", "disputed"): (1, "0.00"),
        ("b2c", "expired"): (1, "0.00"),
    }


async def test_a_payment_stays_in_the_month_of_nairobi_it_was_asked_for_in(core: Core, clock: FrozenClock) -> None:
    payer = await a_payer(core)
    clock.at = datetime(2026, 11, 30, 20, 59, 59, tzinfo=UTC)  # one second to midnight in Nairobi
    await happened(core, payer, a_push("p1"), SENT)
    clock.advance(timedelta(seconds=1))
    await happened(core, payer, a_push("p2"), SENT, SUCCESS)
    async with core.store.session(payer.organization_id) as session:
        count_call(session, clock.now(), actor="key:tester", tool="stk_push", refused=False)
    await happened(core, payer, a_push("p1"), SUCCESS)
    assert await outcomes(core, payer) == {("stk_push", "succeeded"): (1, "100.00")}
    assert await outcomes(core, payer, "2026-12") == {("stk_push", "succeeded"): (1, "100.00")}
    december = await usage_of(core.store, payer.organization_id, "2026-12")
    assert december.by_tool == [CallsOfTool("key:tester", "stk_push", 1, 0)]
    assert december.by_outcome == [
        PaymentsOfKind("key:tester", "simulator", "stk_push", "succeeded", 1, Kes.from_shillings(100))
    ]


async def test_in_one_environment_only_what_was_done_there_is_seen(core: Core) -> None:
    payer = await a_payer(core)
    made = [await a_key(core, payer.organization_id, each) for each in (Environment.SIMULATOR, Environment.SANDBOX)]
    async with core.store.session(payer.organization_id) as session:
        for actor in (*made, "user:jane"):
            count_call(session, core.clock.now(), actor=actor, tool="get_payment", refused=False)
        for environment in (Environment.SIMULATOR, Environment.SANDBOX):
            ended = {"actor": "user:jane", "environment": environment, "kind": "b2c", "outcome": "succeeded"}
            count_payments(session, core.clock.now(), **ended, payments=1, moved_cents=100_00)
    month = "2026-11"
    seen = {
        environment: await usage_of(core.store, payer.organization_id, month, environment=environment)
        for environment in Environment
    }
    # What people do is done in the organization's default environment.
    callers = {environment: {each.actor for each in used.by_tool} for environment, used in seen.items()}
    assert callers == {
        Environment.SIMULATOR: {made[0], "user:jane"},
        Environment.SANDBOX: {made[1]},
        Environment.PRODUCTION: set(),
    }
    assert [used.totals.payments for used in seen.values()].count(1) == 2
    assert (await usage_of(core.store, payer.organization_id, month)).totals.payments == 2


async def a_key(core: Core, organization_id: str, environment: Environment) -> str:
    made = await create_key(
        core.store,
        core.keyring,
        core.clock,
        organization_id=organization_id,
        name="assistant",
        role=Role.MANAGER,
        environment=environment,
        expires_at=None,
        tools=None,
        actor=OPERATOR,
    )
    return f"key:{made.record.key_id}"


async def test_each_organization_sees_its_own_usage_and_the_platform_totals_alone(core: Core) -> None:
    payer, other = await a_payer(core), await a_payer(core, "other", key="key:other")
    idle = await an_organization(core.store, core.clock, "idle")
    for whose, calls in ((payer, 2), (other, 1)):
        await happened(core, whose, a_push(), SENT, SUCCESS)
        async with core.store.session(whose.organization_id) as session:
            for _ in range(calls):
                count_call(session, core.clock.now(), actor=whose.actor, tool="get_payment", refused=False)
            count_call(session, core.clock.now(), actor=whose.actor, tool="get_payment", refused=True)
    used = await usage_of(core.store, payer.organization_id, "2026-11")
    assert {tool.actor for tool in used.by_tool} | {ended.actor for ended in used.by_outcome} == {"key:tester"}
    ours, theirs = [
        UsageTotals(organization_id=each, calls=calls, refused_calls=1, payments=1, moved_cents=100_00)
        for each, calls in ((payer.organization_id, 2), (other.organization_id, 1))
    ]
    assert used.totals == ours
    first = await usage_of_all(core.store, "2026-11", limit=1)
    assert (first.items, first.next_cursor) == ([ours], payer.organization_id)
    rest = await usage_of_all(core.store, "2026-11", limit=1, cursor=first.next_cursor)
    assert (rest.items, rest.next_cursor) == ([theirs], None)
    assert (await usage_of_all(core.store, "2026-10", limit=1)).items == []
    assert (await usage_of(core.store, idle, "2026-11")).totals == UsageTotals(organization_id=idle)
    with pytest.raises(NotFoundError):
        await usage_of(core.store, "org_none", "2026-11")
    for wrong in ("2026-13", "2026-1", "november", "2026-11-01"):
        with pytest.raises(InputError):
            await usage_of(core.store, idle, wrong)


async def test_what_had_ended_before_there_was_usage_is_counted_by_the_migration(
    core: Core, clock: FrozenClock
) -> None:
    payer = await a_payer(core)
    clock.at = datetime(2026, 11, 30, 20, 59, 59, 999_000, tzinfo=UTC)
    await happened(core, payer, a_push("p1"), SENT, SUCCESS)
    await happened(core, payer, a_payout("p2"), SENT, FAILURE)
    await happened(core, payer, a_payout("p3"), SENT)
    clock.advance(timedelta(seconds=1))
    await happened(core, payer, a_push("p4"), SENT, SUCCESS, FAILURE)
    before = [await outcomes(core, payer, month) for month in ("2026-11", "2026-12")]
    engine = create_async_engine(core.settings.owner_database_url)
    async with engine.begin() as connection:
        await connection.execute(delete(PaymentUsage))
        month = COUNTED._MONTH[connection.dialect.name]
        await connection.execute(text(COUNTED._COUNTED.replace("{month}", month)))
    await engine.dispose()
    assert [await outcomes(core, payer, month) for month in ("2026-11", "2026-12")] == before
    assert [len(each) for each in before] == [2, 1]
