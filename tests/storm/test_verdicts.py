"""The verdicts of a storm must be able to fail: each promise, broken by a row made for it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from mpesa_mcp.payments.states import PaymentKind, PaymentStatus

from .facts import Facts, Row, Told
from .verdicts import broken_promises

MOVEMENT: Mapping[str, Any] = {
    "amount": 100,
    "receipt": "SKE0000AA1",
    "checkout_request_id": "ws_CO_1",
    "originator_conversation_id": None,
}
PUSH = Row(
    payment_id="pay_1",
    slug="shop-1",
    kind=PaymentKind.STK_PUSH,
    status=PaymentStatus.SUCCEEDED,
    phone="254700000001",
    shillings=100,
    receipt="SKE0000AA1",
    checkout_request_ids=["ws_CO_1"],
    movements=[MOVEMENT],
)
FAILED = replace(PUSH, status=PaymentStatus.FAILED, phone="254700000080", receipt=None, movements=[])
CUT_OFF = replace(
    PUSH,
    status=PaymentStatus.UNKNOWN,
    receipt=None,
    checkout_request_ids=[],
    is_cut_off=True,
    was_heard_of=False,
    was_accepted=False,
)
PAYOUT = replace(CUT_OFF, kind=PaymentKind.B2C, originator_conversation_id="ours", movements=[])
ANSWERS = [{"kind": "stk_push", "order": 1, "payment_id": "pay_1", "replayed": again} for again in (False, True)]


def broken(row: Row, **more: Any) -> list[str]:
    facts = Facts(**{"rows": [row], "answers": ANSWERS, "orders": 1, **more})
    return [promise for _, promise, _ in broken_promises(facts)]


@pytest.mark.parametrize("row", [PUSH, FAILED, CUT_OFF, PAYOUT, replace(CUT_OFF, movements=[])])
def test_what_agrees_breaks_no_promise(row: Row) -> None:
    assert broken(row) == []


@pytest.mark.parametrize(
    ("row", "promise"),
    [
        (replace(PUSH, movements=[MOVEMENT, MOVEMENT]), "no payment has two movements"),
        (replace(PUSH, movements=[]), "what succeeded has moved"),
        (replace(FAILED, movements=[MOVEMENT]), "what failed or expired has not moved"),
        (replace(PUSH, status=PaymentStatus.FAILED, movements=[]), "what Safaricom accepted ends as the table"),
        (replace(PUSH, status=PaymentStatus.DISPUTED), "only what was told two things is disputed"),
        (replace(PUSH, status=PaymentStatus.REVERSED), "a payment is reversed if its reversal succeeded"),
        (replace(PUSH, status=PaymentStatus.PENDING), "everything comes to rest"),
        (replace(CUT_OFF, is_scheduled=True), "everything comes to rest"),
        (replace(CUT_OFF, is_cut_off=False), "only what nobody can tell stays open"),
        (replace(CUT_OFF, was_heard_of=True), "only what nobody can tell stays open"),
        (
            replace(PAYOUT, movements=[{**MOVEMENT, "originator_conversation_id": "ours"}]),
            "only what nobody can tell stays open",
        ),
        (replace(PUSH, shillings=90), "the amount is the ledger's"),
        (replace(PUSH, receipt="SKE0000AA2"), "the receipt is the ledger's"),
        (replace(PUSH, checkout_request_ids=["ws_CO_2"]), "the movement has the id that Daraja gave"),
    ],
)
def test_a_row_that_breaks_a_promise_is_named(row: Row, promise: str) -> None:
    assert any(named.startswith(promise) for named in broken(row))


def test_a_second_row_for_a_request_is_named() -> None:
    twice = [ANSWERS[0], {**ANSWERS[1], "replayed": False}]
    assert broken(PUSH, answers=twice)
    assert broken(PUSH, rows=[PUSH, replace(PUSH, payment_id="pay_2")])


def test_money_of_nobodys_and_errors_in_logs_are_named() -> None:
    assert broken(PUSH, strays=[MOVEMENT])
    assert broken(PUSH, complaints=["an error"])
    assert broken(PUSH, miscounted=["a counter"])


@pytest.mark.parametrize(
    "told",
    [
        Told(review={}, reconcile={}),
        Told(review={"unknown": {"pay_1", "pay_2"}}, reconcile={}),
        Told(review={"unknown": {"pay_1"}, "failed": {"pay_2"}}, reconcile={}),
        Told(review={"unknown": {"pay_1"}}, reconcile={"statuses_differ": []}),
        Told(review={"unknown": {"pay_1"}}, reconcile={"missing_there": [{"payment_id": "pay_1"}]}),
        Told(review={"unknown": {"pay_1"}}, reconcile={"matched": [{"payment_id": "pay_1"}]}),
    ],
)
def test_commands_that_tell_something_else_are_named(told: Told) -> None:
    nothing: dict[str, Any] = dict.fromkeys(
        ("missing_here", "missing_there", "amounts_differ", "matched", "matched_without_receipt"), ()
    )
    agreeing = nothing | {"statuses_differ": [{"payment_id": "pay_1"}]}
    assert broken(CUT_OFF, told={"shop-1": Told(review={"unknown": {"pay_1"}}, reconcile=agreeing)}) == []
    assert broken(CUT_OFF, told={"shop-1": replace(told, reconcile=agreeing | dict(told.reconcile))})
