"""Dispatch: written down before it is sent, sent once, and never again when it is not known whether it was."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest
from sqlmodel import select

from mpesa_mcp.app.local import SANDBOX_SECRETS
from mpesa_mcp.credentials.shortcodes import remove_shortcode
from mpesa_mcp.credentials.vault import SecretField
from mpesa_mcp.payments import attempts, dispatch
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.dispatch import claim_queued, send_payment
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.models import Attempt, Payment
from mpesa_mcp.payments.reconciliation import ask_about, claim_silent
from mpesa_mcp.payments.requests import PaymentRequest
from mpesa_mcp.payments.schedule import SEND_LEASE
from mpesa_mcp.store.crossings import Claim
from mpesa_mcp.store.engine import Store, StoreUnavailable, open_store
from mpesa_mcp.values import Environment, FrozenClock, sha256_hex
from tests.shortcodes import OPERATOR, give_shortcode

from .factories import Shop, a_payout, a_push, ask_due, send_due, stk_callback
from .fake_daraja import Call, error

pytestmark = pytest.mark.anyio


async def a_payment(shop: Shop, request: PaymentRequest | None = None) -> str:
    return (await open_payment(shop.core, shop.principal, request or a_push())).payment.payment_id


def due_in(row: Payment, now: datetime) -> float:
    assert row.next_action_at is not None
    return (row.next_action_at - now).total_seconds()


async def test_the_attempt_is_committed_before_the_request_leaves(shop: Shop) -> None:
    """Seen from another connection while the request is being answered."""
    seen: list[tuple[str, Sequence[Attempt]]] = []
    other = open_store(shop.core.settings.effective_database_url)

    async def look(call: Call) -> None:
        async with other.reading(shop.principal.organization_id) as session:
            payment = await session.get(Payment, payment_id)
            assert payment is not None
            seen.append((payment.status, await session.all(select(Attempt))))

    payment_id = await a_payment(shop)
    shop.daraja.on_call = look
    try:
        await send_due(shop.core)
    finally:
        await other.close()
    [(status, [attempt])] = seen
    token = shop.daraja.of("stk_push")[0].body["CallBackURL"].rsplit("/", 1)[1]
    assert status == "sending"
    assert (attempt.payment_id, attempt.reply) == (payment_id, None)
    # 128 random bits; only their hash is kept.
    assert (len(token), attempt.callback_token_sha256) == (32, sha256_hex(token))
    assert await shop.status(payment_id) == "pending"


async def test_no_transaction_is_open_while_daraja_is_called(shop: Shop) -> None:
    """Another payment is accepted meanwhile: on SQLite an open writing transaction would keep it waiting."""
    opened: list[str] = []

    async def ask_for_another(_call: Call) -> None:
        shop.daraja.on_call = None
        with anyio.fail_after(2):
            opened.append(await a_payment(shop, a_push(reference="INV-2")))

    await a_payment(shop)
    shop.daraja.on_call = ask_for_another
    await send_due(shop.core)
    assert len(opened) == 1


async def test_each_attempt_has_paths_of_its_own(shop: Shop) -> None:
    await a_payment(shop, a_payout(key="payout-1"))
    await a_payment(shop, a_payout(key="payout-2"))
    await send_due(shop.core)
    first, second = (call.body for call in shop.daraja.of("b2c"))
    assert first["QueueTimeOutURL"] == first["ResultURL"] + "/timeout"
    assert first["ResultURL"] != second["ResultURL"]
    base, organization, _ = first["ResultURL"].rsplit("/", 2)
    assert base == f"{shop.core.local_callbacks}/cb"
    assert organization == second["ResultURL"].rsplit("/", 2)[1]
    assert "acme" not in first["ResultURL"]


async def test_a_sender_that_lost_its_claim_sends_nothing(shop: Shop, clock: FrozenClock) -> None:
    payment_id = await a_payment(shop)
    [slow] = await claim_queued(shop.core, 10)
    clock.advance(SEND_LEASE)
    [quick] = await claim_queued(shop.core, 10)
    await send_payment(shop.core, slow)
    assert (shop.daraja.calls, await shop.status(payment_id)) == ([], "queued")
    await send_payment(shop.core, quick)
    await send_payment(shop.core, slow)
    assert len(shop.daraja.of("stk_push")) == 1
    assert len(await shop.attempts(payment_id)) == 1


async def test_of_two_senders_of_one_payment_that_come_at_the_same_moment_one_sends(
    shop: Shop, clock: FrozenClock
) -> None:
    """One whose lease ran out while its process slept wakes beside the one that took the payment over."""
    payment_id = await a_payment(shop)
    [slow] = await claim_queued(shop.core, 10)
    clock.advance(SEND_LEASE)
    [quick] = await claim_queued(shop.core, 10)
    async with anyio.create_task_group() as group:
        group.start_soon(send_payment, shop.core, slow)
        group.start_soon(send_payment, shop.core, quick)
    assert len(shop.daraja.of("stk_push")) == 1
    assert len(await shop.attempts(payment_id)) == 1


async def test_a_sender_that_slept_before_its_request_left_sends_it_no_more(shop: Shop, clock: FrozenClock) -> None:
    """The payment counts as unknown by then: a person may have called it failed, and somebody have paid it anew."""

    async def sleep() -> None:
        clock.advance(SEND_LEASE)
        assert await ask_due(shop.core) == 1

    payment_id = await a_payment(shop)
    shop.daraja.on_token = sleep
    await send_due(shop.core)
    assert (shop.daraja.calls, await shop.status(payment_id)) == ([], "unknown")
    [attempt] = await shop.attempts(payment_id)
    assert attempt.reply == "notsent"


@pytest.mark.parametrize("after_the_commit", [False, True], ids=["before its attempt", "after its attempt"])
async def test_a_push_whose_whole_process_slept_does_not_prompt_the_customer_hours_later(
    shop: Shop, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch, after_the_commit: bool
) -> None:
    commit = dispatch._commit_attempt

    async def sleep() -> None:
        clock.advance(timedelta(hours=3))

    async def slept(core: Core, claim: Claim, payment: Payment) -> attempts.NewAttempt | None:
        await sleep()
        return await commit(core, claim, payment)

    payment_id = await a_payment(shop)
    if after_the_commit:
        shop.daraja.on_token = sleep
    else:
        monkeypatch.setattr(dispatch, "_commit_attempt", slept)
    await send_due(shop.core)
    assert (shop.daraja.calls, await shop.status(payment_id)) == ([], "queued")
    clock.advance(timedelta(seconds=2))
    await send_due(shop.core)
    assert (shop.daraja.calls, await shop.status(payment_id)) == ([], "expired")


async def test_a_row_under_a_lease_is_not_taken_twice(shop: Shop) -> None:
    await a_payment(shop)
    assert len(await claim_queued(shop.core, 10)) == 1
    assert await claim_queued(shop.core, 10) == []


async def test_a_reply_that_comes_after_the_lease_decides_nothing_but_brings_its_ids(
    shop: Shop, clock: FrozenClock
) -> None:
    """The sender is held in its call until reconciliation has taken the payment over."""

    async def lease_runs_out(_call: Call) -> None:
        clock.advance(SEND_LEASE)
        assert await ask_due(shop.core) == 1
        assert await shop.status(payment_id) == "unknown"

    payment_id = await a_payment(shop)
    shop.daraja.on_call = lease_runs_out
    await send_due(shop.core)
    assert await shop.status(payment_id) == "unknown"
    [attempt] = await shop.attempts(payment_id)
    assert (attempt.reply, attempt.checkout_request_id) == ("accepted", "ws_CO_1_700000001")
    assert await shop.events(payment_id) == [
        ("allowed", "queued"),
        ("attempt_committed", "sending"),
        ("lease_ran_out", "unknown"),
        ("accepted", None),
    ]


@pytest.mark.parametrize("status", [200, 400, 429], ids=["accepted", "refused", "not sent"])
async def test_a_sender_concludes_nothing_once_somebody_else_holds_the_payment(
    shop: Shop, clock: FrozenClock, status: int
) -> None:
    """Reconciliation has taken the row but not looked at it yet, so it still says `sending`."""
    taken: list[Claim] = []

    async def take_over(_call: Call) -> None:
        clock.advance(SEND_LEASE)
        taken.extend(await claim_silent(shop.core, 10))

    payment_id = await a_payment(shop)
    shop.daraja.on_call = take_over
    if status == 429:
        shop.daraja.order_spike_arrest("stk_push")
    elif status == 400:
        shop.daraja.order("stk_push", 400, error("400.002.02", "Bad Request - Invalid Amount"))
    await send_due(shop.core)
    assert await shop.status(payment_id) == "sending"
    await ask_about(shop.core, taken[0])
    assert await shop.status(payment_id) == "unknown"


async def test_a_refusal_after_the_lease_does_not_fail_the_payment(shop: Shop, clock: FrozenClock) -> None:
    async def lease_runs_out(_call: Call) -> None:
        clock.advance(SEND_LEASE)
        await ask_due(shop.core)

    payment_id = await a_payment(shop)
    shop.daraja.on_call = lease_runs_out
    shop.daraja.order("stk_push", 400, {"requestId": "1", "errorCode": "400.002.02", "errorMessage": "Invalid Amount"})
    await send_due(shop.core)
    assert await shop.status(payment_id) == "unknown"


async def test_a_spike_arrest_after_the_lease_does_not_queue_the_payment_again(shop: Shop, clock: FrozenClock) -> None:
    async def lease_runs_out(_call: Call) -> None:
        clock.advance(SEND_LEASE)
        await ask_due(shop.core)

    payment_id = await a_payment(shop)
    shop.daraja.on_call = lease_runs_out
    shop.daraja.order_spike_arrest("stk_push")
    await send_due(shop.core)
    assert await shop.status(payment_id) == "unknown"
    assert await send_due(shop.core) == 0


@pytest.mark.parametrize("request_of", [a_push, a_payout])
async def test_what_waited_for_its_token_until_it_was_cut_off_was_not_sent_and_what_had_left_is_unknown(
    shop: Shop, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch, request_of: Callable[[], PaymentRequest]
) -> None:
    monkeypatch.setattr(attempts, "CALL_DEADLINE_SECONDS", 0.3)
    answered = anyio.Event()
    shop.daraja.on_token = answered.wait
    payment_id = await a_payment(shop, request_of())
    await send_due(shop.core)
    row = await shop.row(payment_id)
    assert (row.status, row.result_code, row.not_sent_count) == ("queued", "too_late", 1)
    assert shop.daraja.of(row.kind) == []
    shop.daraja.on_token = None

    async def wait(_call: Call) -> None:
        await answered.wait()

    shop.daraja.on_call = wait
    clock.advance(timedelta(seconds=5))
    await send_due(shop.core)
    answered.set()
    assert (await shop.status(payment_id), len(shop.daraja.of(row.kind))) == ("unknown", 1)


async def test_after_a_crash_while_sending_the_payment_is_unknown_and_never_sent_again(
    shop: Shop, clock: FrozenClock
) -> None:
    over = anyio.Event()

    async def crash(_call: Call) -> None:
        scope.cancel()
        await over.wait()  # not forever: a server that stops waits for what is under way

    payment_id = await a_payment(shop)
    shop.daraja.on_call = crash
    with anyio.CancelScope() as scope:
        await send_due(shop.core)
    assert await shop.status(payment_id) == "sending"
    clock.advance(SEND_LEASE - timedelta(seconds=1))
    assert await claim_silent(shop.core, 10) == []
    clock.advance(timedelta(seconds=1))
    await ask_due(shop.core)
    assert await shop.status(payment_id) == "unknown"
    for _ in range(30):
        clock.advance(timedelta(hours=1))
        await ask_due(shop.core)
        await send_due(shop.core)
    assert len(shop.daraja.of("stk_push")) == 1
    assert await shop.status(payment_id) == "unknown"
    over.set()


@pytest.mark.parametrize("request_", [a_push(), a_payout()], ids=["stk_push", "b2c"])
async def test_what_was_not_sent_is_sent_again_with_back_off_five_times_and_then_failed(
    shop: Shop, clock: FrozenClock, request_: PaymentRequest
) -> None:
    operation = request_.kind.value
    payment_id = await a_payment(shop, request_)
    shop.daraja.order_spike_arrest(operation, times=5)
    waits = []
    # Alone in the queue it is the one that probes whether the pause of its app may end, ever more patiently.
    for tried, patience in enumerate((2, 8, 20, 40), start=1):
        await send_due(shop.core)
        row = await shop.row(payment_id)
        assert (row.status, row.not_sent_count, len(shop.daraja.of(operation))) == ("queued", tried, tried)
        waits.append(due_in(row, clock.now()))
        assert await send_due(shop.core) == 0
        clock.advance(timedelta(seconds=patience))
    assert waits == [pytest.approx(seconds, rel=0.11) for seconds in (1, 2, 4, 8)]
    await send_due(shop.core)
    row = await shop.row(payment_id)
    assert (row.status, row.next_action_at) == ("failed", None)
    clock.advance(timedelta(hours=30))
    await send_due(shop.core)
    assert len(shop.daraja.of(operation)) == 5
    assert len(await shop.attempts(payment_id)) == 5


async def test_every_attempt_of_a_payout_carries_the_same_id(shop: Shop, clock: FrozenClock) -> None:
    await a_payment(shop, a_payout())
    shop.daraja.order_spike_arrest("b2c")
    await send_due(shop.core)
    clock.advance(timedelta(seconds=2))
    await send_due(shop.core)
    first, second = (call.body for call in shop.daraja.of("b2c"))
    assert first["OriginatorConversationID"] == second["OriginatorConversationID"]
    assert first["ResultURL"] != second["ResultURL"]


@pytest.mark.parametrize(
    ("request_", "life"), [(a_push(), timedelta(minutes=2)), (a_payout(), timedelta(hours=24))], ids=["stk_push", "b2c"]
)
async def test_what_waited_too_long_expires_without_a_call(
    shop: Shop, clock: FrozenClock, request_: PaymentRequest, life: timedelta
) -> None:
    payment_id = await a_payment(shop, request_)
    clock.advance(life + timedelta(seconds=1))
    await send_due(shop.core)
    assert await shop.status(payment_id) == "expired"
    assert shop.daraja.calls == []
    assert await shop.attempts(payment_id) == []


async def test_what_waited_just_not_too_long_is_sent(shop: Shop, clock: FrozenClock) -> None:
    payment_id = await a_payment(shop)
    clock.advance(timedelta(minutes=2))
    await send_due(shop.core)
    assert await shop.status(payment_id) == "pending"


async def test_credentials_removed_after_the_request_send_nothing_and_are_tried_again(
    shop: Shop, clock: FrozenClock
) -> None:
    payment_id = await a_payment(shop)
    await remove_shortcode(
        shop.core.store,
        clock,
        organization_id=shop.principal.organization_id,
        environment=Environment.SIMULATOR,
        shortcode="174379",
        actor=OPERATOR,
    )
    for _ in range(5):
        await send_due(shop.core)
        clock.advance(timedelta(seconds=10))
    row = await shop.row(payment_id)
    assert (row.status, row.result_code, shop.daraja.calls) == ("failed", "credentials_missing", [])
    assert row.reason == "The shortcode this was to go through has been removed, so nothing was sent. Ask a person."


async def test_a_passkey_set_again_in_time_lets_the_payment_go_on(shop: Shop, clock: FrozenClock) -> None:
    payment_id = await a_payment(shop)
    await give_shortcode(
        shop.core,
        shop.principal.organization_id,
        secrets={k: v for k, v in SANDBOX_SECRETS.items() if k is not SecretField.PASSKEY},
    )
    await send_due(shop.core)
    row = await shop.row(payment_id)
    assert (row.status, row.result_code) == ("queued", "credentials_missing")
    await give_shortcode(shop.core, shop.principal.organization_id)
    clock.advance(timedelta(seconds=2))
    await send_due(shop.core)
    await shop.call_back(shop.daraja.of("stk_push")[0].body["CallBackURL"], stk_callback())
    assert await shop.status(payment_id) == "succeeded"


async def test_a_reply_is_written_down_once_the_database_is_back(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_WRITE_AGAIN_SECONDS", 0)
    payment_id = await a_payment(shop)
    session, away = Store.session, 3

    def failing(store: Store, organization_id: str) -> Any:
        nonlocal away
        if shop.daraja.of("stk_push") and away:
            away -= 1
            raise StoreUnavailable
        return session(store, organization_id)

    monkeypatch.setattr(Store, "session", failing)
    await send_due(shop.core)
    assert away == 0
    assert await shop.status(payment_id) == "pending"
    [attempt] = await shop.attempts(payment_id)
    assert attempt.checkout_request_id is not None


@pytest.mark.parametrize("where", ["platform", "platform_reading"])
async def test_a_database_that_goes_away_before_a_token_is_there_leaves_a_payment_that_was_not_sent(
    shop: Shop, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    commit = dispatch._commit_attempt

    async def then_away(core: Core, claim: Claim, payment: Payment) -> attempts.NewAttempt | None:
        made = await commit(core, claim, payment)

        def away(_store: Store) -> Any:
            raise StoreUnavailable

        monkeypatch.setattr(Store, where, away)
        return made

    monkeypatch.setattr(dispatch, "_commit_attempt", then_away)
    payment_id = await a_payment(shop, a_payout())
    await send_due(shop.core)
    monkeypatch.undo()
    [attempt] = await shop.attempts(payment_id)
    assert (await shop.status(payment_id), attempt.reply, shop.daraja.calls) == ("queued", "notsent", [])
