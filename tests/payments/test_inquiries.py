"""Inquiries: questions that move nothing, are answered, refused or expire, and are not asked twice for nothing."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from sqlmodel import select

from mpesa_mcp.errors import InputError
from mpesa_mcp.identity.principal import NotAllowed
from mpesa_mcp.payments.core import CallbacksUnreachable
from mpesa_mcp.payments.inquiries import ask_balance, ask_status
from mpesa_mcp.payments.inquiry_dispatch import claim_stale_inquiries, expire_inquiry
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.models import Inquiry
from mpesa_mcp.payments.reading import balances_of
from mpesa_mcp.payments.schedule import INQUIRY_LIFE
from mpesa_mcp.values import Environment, FrozenClock, Role
from tests.shortcodes import give_shortcode

from .factories import (
    Shop,
    a_principal,
    a_push,
    make_organization,
    result,
    send_due,
    send_due_inquiries,
    stk_callback,
)
from .fake_daraja import error

pytestmark = pytest.mark.anyio

ACCOUNTS = "Working Account|KES|700.50|600.00|0.00|0.00&Charges Paid Account|KES|-15.40|-15.40|0.00|0.00"


async def asked_balance(shop: Shop, *, max_age_seconds: int = 60) -> str:
    asked = await ask_balance(shop.core, shop.principal, max_age=timedelta(seconds=max_age_seconds))
    return asked.inquiry_id


async def inquiry(shop: Shop, inquiry_id: str) -> Inquiry:
    async with shop.core.store.reading(shop.principal.organization_id) as session:
        row = await session.get(Inquiry, inquiry_id)
    assert row is not None
    return row


async def answer_balance(shop: Shop, number: int = 1, *, accounts: str = ACCOUNTS) -> None:
    url = shop.daraja.of("balance")[number - 1].body["ResultURL"]
    await shop.call_back(url, result(f"AG_balance_{number}", AccountBalance=accounts))


async def inquiries_stored(shop: Shop) -> Sequence[Inquiry]:
    async with shop.core.store.reading(shop.principal.organization_id) as session:
        return await session.all(select(Inquiry))


async def test_an_answered_balance_is_kept_account_by_account_in_cents(shop: Shop) -> None:
    inquiry_id = await asked_balance(shop)
    await send_due_inquiries(shop.core)
    assert (await inquiry(shop, inquiry_id)).status == "pending"
    await answer_balance(shop)
    row = await inquiry(shop, inquiry_id)
    assert (row.status, row.result_code, row.next_action_at) == ("answered", "0", None)
    snapshots = await balances_of(shop.core, shop.principal.organization_id, inquiry_id)
    assert [(s.account, s.currency, s.current.cents, s.available.cents) for s in snapshots] == [
        ("Working Account", "KES", 700_50, 600_00),
        ("Charges Paid Account", "KES", -15_40, -15_40),
    ]


async def test_the_same_balance_answer_again_adds_no_snapshots(shop: Shop) -> None:
    inquiry_id = await asked_balance(shop)
    await send_due_inquiries(shop.core)
    await answer_balance(shop)
    await answer_balance(shop, accounts="Working Account|KES|1.00|1.00|0.00|0.00")
    assert len(await balances_of(shop.core, shop.principal.organization_id, inquiry_id)) == 2
    assert [callback.note for callback in await shop.callbacks()] == [None, "came again"]


async def test_a_balance_is_asked_again_only_when_it_is_older_than_the_caller_accepts(
    shop: Shop, clock: FrozenClock
) -> None:
    first = await asked_balance(shop)
    assert await asked_balance(shop, max_age_seconds=0) == first  # under way already
    await send_due_inquiries(shop.core)
    await answer_balance(shop)
    clock.advance(timedelta(seconds=60))
    assert await asked_balance(shop, max_age_seconds=60) == first
    second = await asked_balance(shop, max_age_seconds=59)
    assert second != first
    assert len(await inquiries_stored(shop)) == 2


async def test_a_balance_answer_that_cannot_be_read_is_malformed_and_answers_nothing(shop: Shop) -> None:
    inquiry_id = await asked_balance(shop)
    await send_due_inquiries(shop.core)
    await answer_balance(shop, accounts="Working Account|KES|seven hundred|0|0|0")
    assert (await inquiry(shop, inquiry_id)).status == "pending"
    assert (await shop.callbacks())[0].status == "malformed"
    await answer_balance(shop)
    assert (await inquiry(shop, inquiry_id)).status == "answered"


async def test_an_announcement_does_not_close_a_question(shop: Shop) -> None:
    """ResultType 1: more is to come (daraja/api.md §0)."""
    inquiry_id = await asked_balance(shop)
    await send_due_inquiries(shop.core)
    announcement = result("AG_balance_1", code=0)
    announcement["Result"]["ResultType"] = 1
    url = shop.daraja.of("balance")[0].body["ResultURL"]
    await shop.call_back(url, announcement)
    assert (await inquiry(shop, inquiry_id)).status == "pending"
    await shop.call_back(url, result("AG_balance_1", code="100000000"))
    assert (await inquiry(shop, inquiry_id)).status == "pending"
    await answer_balance(shop)
    assert (await inquiry(shop, inquiry_id)).status == "answered"


async def test_a_question_that_daraja_answers_with_a_failure_is_failed(shop: Shop) -> None:
    inquiry_id = await asked_balance(shop)
    await send_due_inquiries(shop.core)
    await shop.call_back(shop.daraja.of("balance")[0].body["ResultURL"], result("AG_balance_1", code=2001))
    row = await inquiry(shop, inquiry_id)
    assert (row.status, row.result_code, row.answer) == ("failed", "2001", None)
    assert await asked_balance(shop) != inquiry_id  # a failure is no balance


async def test_a_refused_question_is_failed_at_once(shop: Shop) -> None:
    inquiry_id = await asked_balance(shop)
    shop.daraja.order("balance", 400, error("400.002.02", "Bad Request - Invalid Initiator"))
    await send_due_inquiries(shop.core)
    row = await inquiry(shop, inquiry_id)
    assert (row.status, row.result_code, row.next_action_at) == ("failed", "400.002.02", None)


async def test_a_question_that_was_not_sent_is_sent_again_and_given_up_after_five_times(
    shop: Shop, clock: FrozenClock
) -> None:
    inquiry_id = await asked_balance(shop)
    shop.daraja.order_spike_arrest("balance", times=5)
    statuses = []
    for _ in range(5):
        await send_due_inquiries(shop.core)
        statuses.append((await inquiry(shop, inquiry_id)).status)
        clock.advance(timedelta(seconds=10))
    assert statuses == ["queued"] * 4 + ["failed"]
    assert len(shop.daraja.of("balance")) == 5


async def test_a_question_nobody_answers_expires_and_may_be_asked_again(shop: Shop, clock: FrozenClock) -> None:
    inquiry_id = await asked_balance(shop)
    await send_due_inquiries(shop.core)
    clock.advance(INQUIRY_LIFE - timedelta(seconds=1))
    assert await claim_stale_inquiries(shop.core, 10) == []
    clock.advance(timedelta(seconds=1))
    for claim in await claim_stale_inquiries(shop.core, 10):
        await expire_inquiry(shop.core, claim)
    assert (await inquiry(shop, inquiry_id)).status == "expired"
    assert await asked_balance(shop) != inquiry_id
    await answer_balance(shop)
    assert (await inquiry(shop, inquiry_id)).status == "expired"


async def test_an_answer_between_the_claim_and_the_expiry_wins(shop: Shop, clock: FrozenClock) -> None:
    inquiry_id = await asked_balance(shop)
    await send_due_inquiries(shop.core)
    clock.advance(INQUIRY_LIFE)
    [claim] = await claim_stale_inquiries(shop.core, 10)
    await answer_balance(shop)
    await expire_inquiry(shop.core, claim)
    assert (await inquiry(shop, inquiry_id)).status == "answered"


async def test_a_queue_timeout_leaves_a_question_open(shop: Shop) -> None:
    inquiry_id = await asked_balance(shop)
    await send_due_inquiries(shop.core)
    await shop.call_back(shop.daraja.of("balance")[0].body["QueueTimeOutURL"], b"")
    assert (await inquiry(shop, inquiry_id)).status == "pending"


async def test_the_status_of_any_receipt_may_be_asked_and_names_are_kept_apart(shop: Shop) -> None:
    asked = await ask_status(shop.core, shop.principal, "SKE0000ZZ1")
    await send_due_inquiries(shop.core)
    [call] = shop.daraja.of("transaction_status")
    assert call.body["TransactionID"] == "SKE0000ZZ1"
    parameters = {"DebitPartyName": "254700000009 - JANE\u202e DOE", "CreditPartyName": "600000 - ACME"}
    await shop.call_back(
        call.body["ResultURL"],
        result(
            "AG_transaction_status_1",
            TransactionStatus="Completed",
            Amount="50.00",
            ReceiptNo="SKE0000ZZ1",
            **parameters,
        ),
    )
    row = await inquiry(shop, asked.inquiry_id)
    assert row.status == "answered"
    assert row.answer is not None
    assert {k: row.answer[k] for k in ("transaction_status", "receipt", "amount_cents", "debit_number", "names")} == {
        "transaction_status": "Completed",
        "receipt": "SKE0000ZZ1",
        "amount_cents": 50_00,
        "debit_number": "254700000009",
        "names": "JANE DOE; ACME",
    }


async def test_an_answer_about_another_receipt_does_not_answer_the_question(shop: Shop) -> None:
    asked = await ask_status(shop.core, shop.principal, "SKE0000ZZ1")
    await send_due_inquiries(shop.core)
    url = shop.daraja.of("transaction_status")[0].body["ResultURL"]
    answer = {"TransactionStatus": "Completed", "Amount": "50.00"}
    await shop.call_back(url, result("AG_transaction_status_1", ReceiptNo="SKE0000ZZ2", **answer))
    assert (await inquiry(shop, asked.inquiry_id)).status == "pending"
    assert [(c.status, c.note) for c in await shop.callbacks()] == [("mismatched", "disagrees in: receipt")]
    await shop.call_back(url, result("AG_transaction_status_1", ReceiptNo="SKE0000ZZ1", **answer))
    assert (await inquiry(shop, asked.inquiry_id)).status == "answered"


async def test_an_answer_to_another_question_does_not_answer_this_one(shop: Shop) -> None:
    asked = await ask_status(shop.core, shop.principal, "SKE0000ZZ1")
    await send_due_inquiries(shop.core)
    url = shop.daraja.of("transaction_status")[0].body["ResultURL"]
    await shop.call_back(url, result("AG_of_another_question", TransactionStatus="Completed"))
    assert (await inquiry(shop, asked.inquiry_id)).status == "pending"
    assert (await shop.callbacks())[0].status == "mismatched"


async def test_a_status_answer_that_disagrees_with_our_payment_is_not_shown_as_the_answer(shop: Shop) -> None:
    opened = await open_payment(shop.core, shop.principal, a_push())
    await send_due(shop.core)
    await shop.call_back(shop.daraja.of("stk_push")[0].body["CallBackURL"], stk_callback(receipt="SKE0000AA1"))
    asked = await ask_status(shop.core, shop.principal, "SKE0000AA1")
    await send_due_inquiries(shop.core)
    url = shop.daraja.of("transaction_status")[0].body["ResultURL"]
    wrong = {"TransactionStatus": "Completed", "Amount": "5000.00", "ReceiptNo": "SKE0000AA1"}
    await shop.call_back(url, result("AG_transaction_status_1", **wrong))
    row = await inquiry(shop, asked.inquiry_id)
    assert (row.status, row.answer, row.payment_id) == ("pending", None, opened.payment.payment_id)
    assert (await shop.events(opened.payment.payment_id))[-1] == ("status_mismatch", None)
    await shop.call_back(url, result("AG_transaction_status_1", **(wrong | {"Amount": "100.00"})))
    assert (await inquiry(shop, asked.inquiry_id)).status == "answered"
    assert await shop.status(opened.payment.payment_id) == "succeeded"


async def test_questions_need_the_role_the_tool_and_an_address_for_the_answer(shop: Shop) -> None:
    organization_id = shop.principal.organization_id
    for principal in (
        a_principal(organization_id, role=Role.USER),
        a_principal(organization_id, tools=frozenset({"stk_push"})),
    ):
        with pytest.raises(NotAllowed):
            await ask_balance(shop.core, principal, max_age=timedelta(0))
        with pytest.raises(NotAllowed):
            await ask_status(shop.core, principal, "SKE0000AA1")
    sandbox = a_principal(organization_id, environment=Environment.SANDBOX)
    await give_shortcode(shop.core, sandbox.organization_id, environment=Environment.SANDBOX)
    with pytest.raises(CallbacksUnreachable):
        await ask_balance(shop.core, sandbox, max_age=timedelta(0))
    with pytest.raises(CallbacksUnreachable):
        await ask_status(shop.core, sandbox, "SKE0000AA1")
    with pytest.raises(InputError):
        await ask_status(shop.core, shop.principal, "not a receipt")
    assert await inquiries_stored(shop) == []


async def test_a_balance_of_another_organization_is_never_the_known_one(shop: Shop) -> None:
    mine = await asked_balance(shop)
    other = await make_organization(shop.core, "globex")
    theirs = await ask_balance(shop.core, other, max_age=timedelta(hours=1))
    assert theirs.inquiry_id != mine
    assert await balances_of(shop.core, other.organization_id, mine) == []
