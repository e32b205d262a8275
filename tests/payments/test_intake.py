"""Intake: what is stored, what is the same request, and that nothing is stored half."""

import contextlib
import sqlite3
from datetime import timedelta

import anyio
import asyncpg
import pytest
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.app.local import SANDBOX_SECRETS
from mpesa_mcp.credentials.shortcodes import ShortcodeUnavailable, remove_shortcode
from mpesa_mcp.credentials.vault import SecretField
from mpesa_mcp.daraja.operations import Purpose
from mpesa_mcp.errors import Advice, InternalFault
from mpesa_mcp.identity.principal import NotAllowed, Principal
from mpesa_mcp.payments.batches.rows import GivenRow
from mpesa_mcp.payments.batches.submission import BatchRequest, submit_batch
from mpesa_mcp.payments.core import CallbacksUnreachable
from mpesa_mcp.payments.intake import IdempotencyConflict, TooManyAtOnce, open_payment
from mpesa_mcp.payments.models import Payment, PaymentHistory, StkClaim
from mpesa_mcp.payments.requests import PaymentRequest
from mpesa_mcp.values import Environment, FrozenClock, Role
from tests.shortcodes import OPERATOR, give_shortcode

from .factories import (
    Shop,
    a_payout,
    a_principal,
    a_push,
    a_reversal,
    make_organization,
    send_due,
    stk_callback,
)

pytestmark = pytest.mark.anyio

OTHER_PHONE = "254700000002"


async def payments_stored(shop: Shop) -> int:
    async with shop.core.store.reading(shop.principal.organization_id) as session:
        return len(await session.all(select(Payment)))


async def opened(shop: Shop, request: PaymentRequest) -> tuple[str, bool]:
    answer = await open_payment(shop.core, shop.principal, request)
    return answer.payment.payment_id, answer.replayed


async def test_the_same_key_and_request_give_the_stored_payment(shop: Shop) -> None:
    first, replayed = await opened(shop, a_payout())
    assert not replayed
    assert await opened(shop, a_payout()) == (first, True)
    assert await payments_stored(shop) == 1


async def test_a_key_lives_as_long_as_its_payment(shop: Shop, clock: FrozenClock) -> None:
    first, _ = await opened(shop, a_payout())
    clock.advance(timedelta(days=400))
    assert await opened(shop, a_payout()) == (first, True)


@pytest.mark.parametrize(
    ("first", "second", "fields"),
    [
        (a_push(key="k"), a_push(key="k", phone=OTHER_PHONE), ["phone"]),
        (a_push(key="k"), a_push(key="k", shillings=101), ["amount"]),
        (a_push(key="k"), a_push(key="k", reference="INV-2"), ["reference"]),
        (a_push(key="k"), a_push(key="k", description="Tea"), ["description"]),
        (a_payout(), a_payout(phone=OTHER_PHONE), ["phone"]),
        (a_payout(), a_payout(shillings=101), ["amount"]),
        (a_payout(), a_payout(remarks="Bonus"), ["remarks"]),
        (a_payout(), a_payout(purpose=Purpose.SALARY), ["purpose"]),
        (a_payout(), a_payout(occasion="May"), ["occasion"]),
        (a_payout(), a_payout(shillings=101, occasion="May"), ["amount", "occasion"]),
        (a_push(key="payout-1"), a_payout(), ["kind"]),
        (a_payout(), a_push(key="payout-1"), ["kind"]),
        (a_payout(key="reversal-1"), a_reversal("SKE0000AA1"), ["kind"]),
    ],
)
async def test_the_same_key_with_another_request_is_a_conflict_that_names_the_fields(
    shop: Shop, first: PaymentRequest, second: PaymentRequest, fields: list[str]
) -> None:
    await opened(shop, first)
    with pytest.raises(IdempotencyConflict) as conflict:
        await opened(shop, second)
    assert conflict.value.fields == fields
    assert ", ".join(fields) in conflict.value.message
    assert OTHER_PHONE not in conflict.value.message
    assert await payments_stored(shop) == 1


async def test_a_key_belongs_to_one_environment(shop: Shop) -> None:
    await opened(shop, a_push(key="k"))
    sandbox = a_principal(shop.principal.organization_id, environment=Environment.SANDBOX)
    await give_shortcode(shop.core, sandbox.organization_id, environment=Environment.SANDBOX)
    with pytest.raises(IdempotencyConflict) as conflict:
        await open_payment(shop.core, sandbox, a_push(key="k"))
    assert conflict.value.fields == ["environment"]


async def test_two_organizations_may_use_the_same_key(shop: Shop) -> None:
    mine, _ = await opened(shop, a_payout())
    other = await make_organization(shop.core, "globex")
    theirs = await open_payment(shop.core, other, a_payout(shillings=500))
    assert not theirs.replayed
    assert theirs.payment.payment_id != mine


async def test_a_push_without_a_key_is_the_same_request_for_two_minutes_even_when_settled(
    shop: Shop, clock: FrozenClock
) -> None:
    first, _ = await opened(shop, a_push())
    await send_due(shop.core)
    await shop.call_back(shop.daraja.of("stk_push")[0].body["CallBackURL"], stk_callback(code=1032))
    assert await shop.status(first) == "failed"
    clock.advance(timedelta(seconds=119))
    assert await opened(shop, a_push()) == (first, True)
    clock.advance(timedelta(seconds=1))
    second, replayed = await opened(shop, a_push())
    assert (second != first, replayed) == (True, False)
    # From here on the newer one is the one that repeats find.
    assert await opened(shop, a_push()) == (second, True)


async def test_a_push_without_a_key_is_the_same_request_while_it_is_open_but_for_a_day_at_most(
    shop: Shop, clock: FrozenClock
) -> None:
    first, _ = await opened(shop, a_push())
    await send_due(shop.core)
    clock.advance(timedelta(hours=24) - timedelta(seconds=1))
    assert await opened(shop, a_push()) == (first, True)
    clock.advance(timedelta(seconds=1))
    _, replayed = await opened(shop, a_push())
    assert not replayed


@pytest.mark.parametrize(
    "other",
    [a_push(phone=OTHER_PHONE), a_push(shillings=101), a_push(reference="INV-2"), a_push(key="k")],
    ids=["phone", "amount", "reference", "key"],
)
async def test_a_push_that_differs_is_a_new_payment(shop: Shop, other: PaymentRequest) -> None:
    first, _ = await opened(shop, a_push())
    second, replayed = await opened(shop, other)
    assert (second != first, replayed) == (True, False)


async def test_the_same_push_in_another_environment_is_a_new_payment(shop: Shop) -> None:
    first, _ = await opened(shop, a_push())
    sandbox = a_principal(shop.principal.organization_id, environment=Environment.SANDBOX)
    await give_shortcode(shop.core, sandbox.organization_id, environment=Environment.SANDBOX)
    answer = await open_payment(shop.core, sandbox, a_push())
    assert (answer.payment.payment_id != first, answer.replayed) == (True, False)


@pytest.mark.parametrize("request_", [a_push(), a_payout()], ids=["without a key", "with a key"])
async def test_fifty_callers_with_the_same_request_at_once_make_one_payment(
    shop: Shop, request_: PaymentRequest
) -> None:
    answers: list[tuple[str, bool]] = []

    async def ask() -> None:
        answers.append(await opened(shop, request_))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(ask)
    assert len({payment_id for payment_id, _ in answers}) == 1
    assert sorted(replayed for _, replayed in answers) == [False, *[True] * 49]
    assert await payments_stored(shop) == 1


async def test_callers_with_one_key_and_different_requests_at_once_make_one_payment(shop: Shop) -> None:
    outcomes: list[str] = []

    async def ask(shillings: int) -> None:
        try:
            _, replayed = await opened(shop, a_payout(shillings=shillings))
            outcomes.append("replayed" if replayed else "made")
        except IdempotencyConflict as conflict:
            outcomes.append(", ".join(conflict.fields))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for shillings in range(100, 120):
                group.start_soon(ask, shillings)
    assert sorted(outcomes) == [*["amount"] * 19, "made"]
    assert await payments_stored(shop) == 1


async def test_without_credentials_nothing_is_stored(shop: Shop) -> None:
    await remove_shortcode(
        shop.core.store,
        shop.core.clock,
        organization_id=shop.principal.organization_id,
        environment=Environment.SIMULATOR,
        shortcode="174379",
        actor=OPERATOR,
    )
    for request in (a_push(), a_payout()):
        with pytest.raises(ShortcodeUnavailable) as missing:
            await opened(shop, request)
        assert missing.value.code == "credentials_missing"
    assert await payments_stored(shop) == 0


async def test_a_shortcode_without_an_initiator_collects_but_does_not_pay_out(shop: Shop) -> None:
    initiator = {SecretField.INITIATOR_NAME, SecretField.INITIATOR_PASSWORD}
    collecting = {field: secret for field, secret in SANDBOX_SECRETS.items() if field not in initiator}
    await give_shortcode(shop.core, shop.principal.organization_id, secrets=collecting)
    with pytest.raises(ShortcodeUnavailable):
        await opened(shop, a_payout())
    await opened(shop, a_push())
    assert await payments_stored(shop) == 1


async def test_two_shortcodes_that_fit_are_no_choice(shop: Shop) -> None:
    await give_shortcode(shop.core, shop.principal.organization_id, shortcode="600000")
    with pytest.raises(ShortcodeUnavailable, match="several"):
        await opened(shop, a_push())
    assert await payments_stored(shop) == 0


async def test_without_a_public_url_the_sandbox_takes_a_push_but_no_payout(shop: Shop) -> None:
    sandbox = a_principal(shop.principal.organization_id, environment=Environment.SANDBOX)
    await give_shortcode(shop.core, sandbox.organization_id, environment=Environment.SANDBOX)
    with pytest.raises(CallbacksUnreachable):
        await open_payment(shop.core, sandbox, a_payout())
    assert await payments_stored(shop) == 0
    pushed = await open_payment(shop.core, sandbox, a_push())
    assert (pushed.payment.environment, pushed.payment.status) == (Environment.SANDBOX, "queued")


async def test_a_key_of_lesser_role_or_without_the_tool_stores_nothing(shop: Shop) -> None:
    organization_id = shop.principal.organization_id
    refused: list[tuple[Principal, PaymentRequest]] = [
        (a_principal(organization_id, role=Role.USER), a_payout()),
        (a_principal(organization_id, role=Role.USER), a_reversal("SKE0000AA1")),
        (a_principal(organization_id, tools=frozenset({"b2c_payment"})), a_push()),
        (a_principal(organization_id, tools=frozenset({"stk_push"})), a_payout()),
    ]
    for principal, request in refused:
        with pytest.raises(NotAllowed):
            await open_payment(shop.core, principal, request)
    assert await payments_stored(shop) == 0
    allowed = a_principal(organization_id, role=Role.USER, tools=frozenset({"stk_push"}))
    assert not (await open_payment(shop.core, allowed, a_push())).replayed


async def test_payment_history_and_audit_are_one_commit(shop: Shop) -> None:
    payment_id, _ = await opened(shop, a_payout())
    async with shop.core.store.reading(shop.principal.organization_id) as session:
        entries = await session.all(select(audit.AuditEntry).where(audit.AuditEntry.subject == payment_id))
    assert [(entry.actor, entry.action) for entry in entries] == [("key:tester", "payment.opened")]
    assert await shop.events(payment_id) == [("allowed", "queued")]
    row = await shop.row(payment_id)
    assert (row.status, row.created_by, row.next_action_at) == ("queued", "key:tester", shop.core.clock.now())


@pytest.mark.parametrize("table", ["payment_history", "audit_entries"])
@pytest.mark.own_database
async def test_a_commit_that_fails_leaves_no_payment_no_history_and_no_audit_entry(shop: Shop, table: str) -> None:
    before = await counts(shop)
    await refuse_inserts(shop, table)
    with pytest.raises(InternalFault):
        await opened(shop, a_push())
    assert await counts(shop) == before


@pytest.mark.own_database
async def test_who_is_overtaken_again_and_again_is_told_to_try_again_with_the_same_key(shop: Shop) -> None:
    before = await counts(shop)
    row = GivenRow(1, "0712000001", 100, "SAL-11", "November salary")
    payroll = BatchRequest(name="November payroll", rows=[row], idempotency_key="payroll-11")
    await lose_inserts(shop, "spending")
    with pytest.raises(TooManyAtOnce) as overtaken:
        await opened(shop, a_payout())
    with pytest.raises(TooManyAtOnce):
        await submit_batch(shop.core, shop.principal, payroll)
    assert (overtaken.value.http_status, overtaken.value.advice) == (409, Advice.WAIT)
    assert "same idempotency_key" in overtaken.value.message
    assert await counts(shop) == before


async def lose_inserts(shop: Shop, table: str) -> None:
    """From here on a statement that adds to this table, if its limits allow, adds nothing, as if others were first."""
    path = shop.core.settings.sqlite_path
    if path is not None:
        with contextlib.closing(sqlite3.connect(path)) as sqlite:
            sqlite.execute(f"CREATE TRIGGER lost BEFORE INSERT ON {table} BEGIN SELECT RAISE(IGNORE); END")
        return
    owner = await asyncpg.connect(shop.core.settings.owner_database_url.replace("+asyncpg", ""))
    try:
        await owner.execute("CREATE FUNCTION lost() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
        await owner.execute(f"CREATE TRIGGER lost BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION lost()")
    finally:
        await owner.close()


async def refuse_inserts(shop: Shop, table: str) -> None:
    """From here on the database itself refuses new rows of this table."""
    path = shop.core.settings.sqlite_path
    if path is not None:
        with contextlib.closing(sqlite3.connect(path)) as sqlite:
            sqlite.execute(f"CREATE TRIGGER no BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END")
        return
    owner = await asyncpg.connect(shop.core.settings.owner_database_url.replace("+asyncpg", ""))
    try:
        await owner.execute(f"ALTER TABLE {table} ADD CONSTRAINT no CHECK (false) NOT VALID")
    finally:
        await owner.close()


async def counts(shop: Shop) -> list[int]:
    async with shop.core.store.reading(shop.principal.organization_id) as session:
        return [
            len(await session.all(select(col(table.organization_id))))
            for table in (Payment, PaymentHistory, audit.AuditEntry, StkClaim)
        ]


async def test_each_payout_has_an_id_of_its_own_for_daraja(shop: Shop) -> None:
    first, _ = await opened(shop, a_payout(key="payout-1"))
    second, _ = await opened(shop, a_payout(key="payout-2"))
    ids = [(await shop.row(payment_id)).originator_conversation_id for payment_id in (first, second)]
    assert all(ids)
    assert ids[0] != ids[1]
