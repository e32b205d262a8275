"""Rules in intake: what they decide is what is stored, and the counters say at all times what the payments say."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from sqlmodel import select

from mpesa_mcp.app.chores import tidy
from mpesa_mcp.daraja.codes import Verdict
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.outcomes import Evidence, apply_evidence
from mpesa_mcp.payments.records import PaymentRecord
from mpesa_mcp.payments.requests import PaymentRequest
from mpesa_mcp.policy.models import SpendRule
from mpesa_mcp.policy.rule_book import RuleUnreadable
from mpesa_mcp.values import FrozenClock, Role
from tests.spending import Counted, counted, give_rule, miscounted

from .factories import Shop, a_payout, a_principal, a_push, a_reversal, send_due, stk_callback

pytestmark = pytest.mark.anyio

ORGANIZATION_DAY = ("simulator", "organization", "", "day", "2026-11-16")


async def opened(shop: Shop, request: PaymentRequest) -> PaymentRecord:
    return (await open_payment(shop.core, shop.principal, request)).payment


async def what_is_counted(shop: Shop) -> Counted:
    """The counters, which agree with the payments."""
    async with shop.core.store.reading(shop.principal.organization_id) as session:
        assert await miscounted(session) == []
        return await counted(session)


async def learn(shop: Shop, payment_id: str, verdict: Verdict) -> None:
    async with shop.core.store.session(shop.principal.organization_id) as session:
        said = Evidence(verdict=verdict, source="callback", code="0", reason="A reason.")
        await apply_evidence(shop.core, session, payment_id, said)


async def rule(shop: Shop, scope: str = "organization", **words: object) -> None:
    await give_rule(shop.core, shop.principal.organization_id, scope, **words)


async def test_fifty_payouts_at_once_reserve_exactly_the_limit(shop: Shop) -> None:
    await rule(shop, per_day=2000)
    became: Counter[str] = Counter()

    async def pay(number: int) -> None:
        payment = await opened(shop, a_payout(key=f"payout-{number}", phone=f"2547000000{number:02d}"))
        became[payment.status] += 1

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(pay, number)
    assert became == {"queued": 20, "declined": 30}
    assert (await what_is_counted(shop))[ORGANIZATION_DAY] == (2000_00, 20)


async def test_a_new_organization_pays_little_alone_more_with_approval_and_only_so_much_a_day(shop: Shop) -> None:
    alone = await opened(shop, a_payout(shillings=10_000, key="at-the-threshold"))
    held = await opened(shop, a_payout(shillings=10_001, key="above-it"))
    assert (alone.status, held.status) == ("queued", "awaiting_approval")
    assert held.reason == "The organization's rule asks a person to approve what is above KES 10,000.00."
    assert held.next_look_at == shop.core.clock.now() + timedelta(hours=24)
    await opened(shop, a_payout(shillings=79_000, key="the-rest-but-999"))
    declined = await opened(shop, a_payout(shillings=1000, key="too-much"))
    assert (declined.status, declined.result_code, declined.reason) == (
        "declined",
        "per_day",
        "The organization's rule allows KES 100,000.00 a day; KES 999.00 of it is left until 2026-11-17 00:00 in "
        "Nairobi.",
    )
    assert await shop.events(declined.payment_id) == [("refused_by_policy", "declined")]
    assert (await opened(shop, a_payout(shillings=999, key="the-rest"))).status == "queued"
    assert (await what_is_counted(shop))[ORGANIZATION_DAY] == (100_000_00, 4)
    assert await send_due(shop.core) == 2  # what nobody approved is not sent
    # The same request again is the same payment, whatever has become of the budget.
    again = await open_payment(shop.core, shop.principal, a_payout(shillings=1000, key="too-much"))
    assert (again.replayed, again.payment.status) == (True, "declined")


async def test_what_was_reserved_comes_back_when_nothing_moved_and_is_counted_again_in_a_dispute(shop: Shop) -> None:
    payment_id = (await opened(shop, a_payout())).payment_id
    before = await what_is_counted(shop)
    assert len(before) == 4 * 4  # four scopes; hour, day, month and the recipient's day
    await send_due(shop.core)
    await learn(shop, payment_id, Verdict.FAILED)
    assert await what_is_counted(shop) == {}
    await learn(shop, payment_id, Verdict.FAILED)
    assert await what_is_counted(shop) == {}
    await learn(shop, payment_id, Verdict.SUCCEEDED)
    assert await shop.status(payment_id) == "disputed"
    assert await what_is_counted(shop) == before


async def test_what_fails_the_day_after_is_given_back_to_the_day_it_was_asked_for(
    shop: Shop, clock: FrozenClock
) -> None:
    await rule(shop, per_day=100)
    clock.at = datetime(2026, 11, 30, 20, 59, tzinfo=UTC)  # a minute before December in Nairobi
    first = (await opened(shop, a_payout())).payment_id
    assert (await opened(shop, a_payout(key="second", shillings=10))).status == "declined"
    await send_due(shop.core)
    clock.advance(timedelta(minutes=1))
    assert (await opened(shop, a_payout(key="third"))).status == "queued"
    await learn(shop, first, Verdict.FAILED)
    periods = {place[-1] for place in await what_is_counted(shop)}
    assert periods == {"2026-12-01T00", "2026-12-01", "2026-12"}


async def test_counters_of_forty_days_ago_are_forgotten_and_what_is_given_back_then_changes_no_limit(
    shop: Shop, clock: FrozenClock
) -> None:
    await rule(shop, per_month=100)
    first = (await opened(shop, a_payout())).payment_id
    await send_due(shop.core)
    asked_at = clock.now()
    clock.at = asked_at + timedelta(days=40)
    await tidy(shop.core)
    assert len(await what_is_counted(shop)) == 4 * 4  # its hour began forty days ago, and not before
    clock.advance(timedelta(days=31))
    second = (await opened(shop, a_payout(key="second"))).payment_id
    now_counted = {place for place in await what_is_counted(shop) if place[-1] > "2027"}
    await tidy(shop.core)

    async def remaining() -> Counted:
        async with shop.core.store.reading(shop.principal.organization_id) as session:
            return await counted(session)

    assert set(await remaining()) == now_counted
    await learn(shop, first, Verdict.FAILED)
    assert (await remaining())["simulator", "organization", "", "day", "2026-11-16"] == (-100_00, -1)
    assert (await opened(shop, a_payout(key="third", shillings=10))).result_code == "per_month"
    await tidy(shop.core)
    assert set(await remaining()) == now_counted
    await learn(shop, first, Verdict.SUCCEEDED)
    assert await shop.status(first) == "disputed"
    assert (await opened(shop, a_payout(key="fourth", shillings=10))).result_code == "per_month"
    assert await shop.status(second) == "queued"


async def test_the_rules_of_the_caller_and_of_the_tool_bind_too_and_find_what_was_spent_before(shop: Shop) -> None:
    await opened(shop, a_payout(shillings=400))
    await rule(shop, "role:manager", per_day=500)
    refused = await opened(shop, a_payout(shillings=101, key="second"))
    assert refused.reason is not None
    assert refused.reason.startswith("The rule for the role manager allows KES 500.00 a day; KES 100.00 of it is left")
    admin = a_principal(shop.principal.organization_id, role=Role.ORG_ADMIN)
    assert (await open_payment(shop.core, admin, a_payout(shillings=101, key="third"))).payment.status == "queued"
    await rule(shop, "tool:b2c_payment", per_payment=50)
    refused = await opened(shop, a_payout(shillings=51, key="fourth"))
    assert refused.reason == "The rule for b2c_payment allows at most KES 50.00 a payment."


async def test_a_reversal_is_money_that_leaves_and_a_collection_is_not(shop: Shop) -> None:
    await rule(shop, per_payment=50, approval_above=10)
    collected = await opened(shop, a_push())
    assert collected.status == "queued"
    await send_due(shop.core)
    await shop.call_back(shop.daraja.of("stk_push")[-1].body["CallBackURL"], stk_callback(receipt="SKE0000AA1"))
    assert (await opened(shop, a_reversal("SKE0000AA1"))).status == "declined"
    await rule(shop, approval_above=10)
    held = await opened(shop, a_reversal("SKE0000AA1", key="reversal-2"))
    assert held.status == "awaiting_approval"
    assert {place[1] for place in await what_is_counted(shop)} == {
        "organization",
        "role:manager",
        "key:tester",
        "tool:reverse",
    }


async def test_a_rule_for_stk_push_caps_what_is_collected_from_then_on(shop: Shop) -> None:
    await opened(shop, a_push(reference="BEFORE"))
    await rule(shop, "tool:stk_push", payments_per_day=1)
    assert (await opened(shop, a_push(reference="FIRST"))).status == "queued"
    assert (await opened(shop, a_push(reference="SECOND"))).result_code == "payments_per_day"
    assert {place[1] for place in await what_is_counted(shop)} == {"tool:stk_push"}


async def test_of_several_first_payments_at_once_to_a_new_recipient_one_is_let_through(
    shop: Shop, clock: FrozenClock
) -> None:
    await rule(shop, first_payment=500, cool_off_hours=24)
    assert (await opened(shop, a_payout(shillings=501, key="too-much"))).result_code == "first_payment"
    became: Counter[str] = Counter()

    async def pay(number: int) -> None:
        became[(await opened(shop, a_payout(shillings=500, key=f"payout-{number}"))).status] += 1

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(pay, number)
    assert became == {"queued": 1, "declined": 7}
    clock.advance(timedelta(hours=24))
    assert (await opened(shop, a_payout(shillings=9000, key="known-by-now"))).status == "queued"
    await what_is_counted(shop)


async def test_a_rule_of_a_newer_program_is_no_fault_of_who_asks_and_lets_nothing_through(shop: Shop) -> None:
    await rule(shop, per_day=2000)
    async with shop.core.store.session(shop.principal.organization_id) as session:
        row = await session.first(select(SpendRule))
        assert row is not None
        row.rule = {**row.rule, "never_heard_of": 1}
    with pytest.raises(RuleUnreadable):
        await opened(shop, a_payout())
    assert await what_is_counted(shop) == {}
