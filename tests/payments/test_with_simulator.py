"""Whole payments against the simulator, without a worker: what happened to the money is read in its ledger."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import httpx2
import pytest

from mpesa_mcp.app.local import LocalPlatform, local_platform
from mpesa_mcp.identity.organizations import OrganizationRecord
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.identity.standing import freeze, suspend
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.reading import history_of
from mpesa_mcp.payments.requests import PaymentRequest
from mpesa_mcp.payments.states import PaymentStatus
from mpesa_mcp.store.crossings import DueTable

from .factories import (
    a_payout,
    a_principal,
    a_push,
    a_reversal,
    apply_due,
    ask_due,
    send_due,
    send_due_inquiries,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def platform() -> AsyncIterator[LocalPlatform]:
    async with local_platform(delay_ms=10, reconcile_speed=1000, worker=False) as opened:
        yield opened


def phone(last_two: int) -> str:
    return f"2547000000{last_two:02d}"


async def opened(platform: LocalPlatform, request: PaymentRequest) -> str:
    principal = a_principal(platform.organization.organization_id)
    return (await open_payment(platform.core, principal, request)).payment.payment_id


async def row_of(platform: LocalPlatform, payment_id: str) -> Payment:
    async with platform.core.store.reading(platform.organization.organization_id) as session:
        payment = await session.get(Payment, payment_id)
    assert payment is not None
    return payment


async def until(platform: LocalPlatform, payment_id: str, *statuses: str) -> Payment:
    """Does a worker's rounds, woken by what is stored, until the payment stands in one of these statuses."""
    core = platform.core
    with anyio.fail_after(15):
        while True:
            token = core.store.wakeups.token(DueTable.CALLBACKS)
            for work in (send_due, apply_due, ask_due, send_due_inquiries):
                await work(core)
            payment = await row_of(platform, payment_id)
            if payment.status in statuses:
                return payment
            await core.store.wakeups.wait(token, 0.02)


async def ledger(platform: LocalPlatform) -> list[dict[str, Any]]:
    async with httpx2.AsyncClient(base_url=platform.simulator_url, trust_env=False) as http:
        movements: list[dict[str, Any]] = (await http.get("/_sim/ledger")).json()
    return movements


async def order_fault(platform: LocalPlatform, **fault: object) -> None:
    async with httpx2.AsyncClient(base_url=platform.simulator_url, trust_env=False) as http:
        assert (await http.post("/_sim/faults", json=fault)).status_code == 200


async def test_a_payout_that_was_carried_out_although_the_gateway_denied_it_pays_once(
    platform: LocalPlatform,
) -> None:
    """It is said to be stopped by a rate limit, is sent again and called a duplicate; our own question settles it."""
    fault = {"faultstring": "Spike arrest", "detail": {"errorcode": "policies.ratelimit.SpikeArrestViolation"}}
    await order_fault(platform, operation="b2c", status=429, body={"fault": fault}, after=True)
    payment_id = await opened(platform, a_payout(phone=phone(84)))
    await send_due(platform.core)
    assert (await row_of(platform, payment_id)).status == "queued"
    payment = await until(platform, payment_id, "succeeded", "failed", "disputed")
    assert payment.status == "succeeded"
    [movement] = await ledger(platform)
    assert (movement["receipt"], movement["amount"]) == (payment.receipt, 100)
    lines = await history_of(platform.core, platform.organization.organization_id, payment_id)
    assert [(line.event, line.code) for line in lines if line.source == "reply"] == [
        ("not_sent", "policies.ratelimit.SpikeArrestViolation"),
        ("unclear", "500.002.1001"),
    ]


@pytest.mark.parametrize(
    ("last_two", "status"),
    [(84, "succeeded"), (85, "failed"), (90, "succeeded"), (92, "succeeded"), (93, "succeeded"), (94, "failed")],
)
async def test_a_payout_whose_answer_or_callback_is_lost_is_settled_as_it_happened(
    platform: LocalPlatform, last_two: int, status: str
) -> None:
    payment_id = await opened(platform, a_payout(phone=phone(last_two)))
    payment = await until(platform, payment_id, "succeeded", "failed", "disputed")
    assert payment.status == status
    assert [m["receipt"] for m in await ledger(platform)] == ([payment.receipt] if status == "succeeded" else [])


@pytest.mark.parametrize(
    ("last_two", "status"),
    [(84, "succeeded"), (85, "failed"), (87, "succeeded"), (90, "succeeded"), (92, "succeeded"), (96, "succeeded")],
)
async def test_a_push_whose_answer_or_callback_is_lost_is_settled_as_it_happened(
    platform: LocalPlatform, last_two: int, status: str
) -> None:
    payment_id = await opened(platform, a_push(phone=phone(last_two)))
    payment = await until(platform, payment_id, "succeeded", "failed", "disputed")
    assert payment.status == status
    assert len(await ledger(platform)) == (1 if status == "succeeded" else 0)


async def test_a_push_that_failed_first_and_then_succeeded_is_a_dispute(platform: LocalPlatform) -> None:
    payment_id = await opened(platform, a_push(phone=phone(88)))
    payment = await until(platform, payment_id, "disputed")
    [movement] = await ledger(platform)
    assert payment.receipt in {None, movement["receipt"]}


@pytest.mark.parametrize("request_", [a_push(phone=phone(89)), a_payout(phone=phone(89))], ids=["stk_push", "b2c"])
async def test_a_forged_callback_changes_nothing_and_the_true_one_settles(
    platform: LocalPlatform, request_: PaymentRequest
) -> None:
    payment_id = await opened(platform, request_)
    payment = await until(platform, payment_id, "succeeded", "failed", "disputed")
    [movement] = await ledger(platform)
    assert (payment.status, movement["amount"]) == ("succeeded", 100)
    assert payment.receipt in {None, movement["receipt"]}


async def test_a_firewall_page_leaves_it_unknown_and_is_never_taken_for_failure(platform: LocalPlatform) -> None:
    payment_id = await opened(platform, a_payout(phone=phone(91)))
    await send_due(platform.core)
    payment = await row_of(platform, payment_id)
    assert (payment.status, PaymentStatus(payment.status).is_settled) == ("unknown", False)
    assert await send_due(platform.core) == 0


@pytest.mark.parametrize("halt", [freeze, suspend])
async def test_what_was_accepted_is_settled_although_its_organization_is_halted_since(
    platform: LocalPlatform, halt: Callable[..., Awaitable[OrganizationRecord]]
) -> None:
    payment_ids = [await opened(platform, a_payout(phone=phone(1))), await opened(platform, a_push(phone=phone(2)))]
    while await send_due(platform.core):
        pass
    core, operator = platform.core, Actor("operator:tester", None)
    await halt(core.store, core.clock, organization_id=platform.organization.organization_id, actor=operator)
    for payment_id in payment_ids:
        payment = await until(platform, payment_id, "succeeded", "failed", "disputed")
        assert payment.status == "succeeded"
    assert len(await ledger(platform)) == 2


async def test_a_reversal_gives_the_money_back_once(platform: LocalPlatform) -> None:
    payment_id = await opened(platform, a_push(phone=phone(1)))
    received = await until(platform, payment_id, "succeeded")
    if received.receipt is None:  # a question was faster than the callback, which brings the receipt
        with anyio.fail_after(5):
            while (received := await row_of(platform, payment_id)).receipt is None:
                token = platform.core.store.wakeups.token(DueTable.CALLBACKS)
                await apply_due(platform.core)
                await platform.core.store.wakeups.wait(token, 0.02)
    assert received.receipt is not None
    reversal_id = await opened(platform, a_reversal(received.receipt))
    reversal = await until(platform, reversal_id, "succeeded")
    assert (await row_of(platform, payment_id)).status == "reversed"
    movements = [(m["kind"], m["amount"], m["receipt"]) for m in await ledger(platform)]
    assert movements == [("stk", 100, received.receipt), ("reversal", 100, reversal.receipt)]
