"""The verdicts can fail: what a crash must not leave behind is seen in the facts of one that left it."""

from collections.abc import Mapping
from typing import Any

import pytest

from .verdicts import check

PAID = {
    "kind": "b2c",
    "key": "payout-1",
    "of_batch": False,
    "status": "succeeded",
    "receipt": "SKE0000AA1",
    "reverses": None,
    "is_scheduled": False,
    "replies": ["accepted"],
    "has_id": True,
}
STEPS = [(None, "queued"), ("queued", "sending"), ("sending", "pending"), ("pending", "succeeded")]
EVENTS = ["allowed", "attempt_committed", "accepted", "success"]
GOOD: Mapping[str, Any] = {
    "complaints": [],
    "miscounted": [],
    "before": {"pay_1": PAID | {"status": "sending", "receipt": None, "replies": [None]}},
    "payments": {"pay_1": PAID},
    "history": [
        {"payment_id": "pay_1", "event": event, "from_status": before, "to_status": after, "source": "reply"}
        for event, (before, after) in zip(EVENTS, STEPS, strict=True)
    ],
    "audit": [
        ("pay_1", action) for action in ("payment.opened", "payment.sending", "payment.pending", "payment.succeeded")
    ],
    "inquiries": ["answered"],
    "callbacks": ["applied"],
    "acknowledged": ["a result"],
    "stored": ["a result"],
    "lost": 0,
    "ledger": [{"kind": "b2c", "receipt": "SKE0000AA1"}],
    "answers": [],
}


def test_what_is_as_it_should_be_passes() -> None:
    check(GOOD)


@pytest.mark.parametrize(
    "broken",
    [
        {"acknowledged": ["a result"], "stored": ["another result"]},
        {"callbacks": ["stored"]},
        {"ledger": [{"kind": "b2c", "receipt": "SKE0000AA1"}] * 2},
        {"ledger": []},
        {"payments": {"pay_1": PAID | {"receipt": "SKE0000ZZ9"}}},
        {"payments": {"pay_1": PAID | {"replies": ["unknown", "accepted"]}}},
        {"payments": {"pay_1": PAID | {"is_scheduled": True}}},
        {"payments": {"pay_1": PAID, "pay_2": PAID}},
        {"history": GOOD["history"][:-1]},
        {"audit": GOOD["audit"][:-1]},
        {"inquiries": ["pending"]},
        {"complaints": ["Traceback"]},
        {"miscounted": ["a counter"]},
    ],
    ids=[
        "acknowledged, and another stored",
        "a callback nobody applied",
        "two movements",
        "succeeded without a movement",
        "another receipt",
        "sent again after it may have left",
        "not at rest",
        "two payments for one request",
        "a status without its event",
        "a change that is not audited",
        "an open question",
        "an error in the log",
        "a counter that does not say what the payments say",
    ],
)
def test_what_a_crash_must_not_leave_is_seen(broken: Mapping[str, Any]) -> None:
    with pytest.raises(AssertionError):
        check({**GOOD, **broken})
