"""What must hold after any crash: the simulator's ledger and our rows agree, with at most one movement."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mpesa_mcp.payments.states import PaymentEvent, PaymentKind, PaymentStatus, Reply, first_status, next_status

_IN_LEDGER = {PaymentKind.STK_PUSH: "stk", PaymentKind.B2C: "b2c", PaymentKind.REVERSAL: "reversal"}
_NOT_SENT_YET = {PaymentStatus.AWAITING_APPROVAL, PaymentStatus.QUEUED}
_MOVED = {PaymentStatus.SUCCEEDED, PaymentStatus.REVERSED}


def check(facts: Mapping[str, Any]) -> None:
    assert facts["complaints"] == []
    assert facts["miscounted"] == []
    _everything_is_at_rest(facts)
    _no_request_made_two_payments(facts)
    for payment_id, payment in facts["payments"].items():
        _ledger_agrees(facts, payment)
        _nothing_that_may_have_left_was_sent_again(facts["before"].get(payment_id), payment)
        steps = [line for line in facts["history"] if line["payment_id"] == payment_id]
        _history_is_a_path_of_the_table(steps, payment["status"])
        _every_change_is_audited(steps, [action for subject, action in facts["audit"] if subject == payment_id])


def unknown_payments(facts: Mapping[str, Any]) -> Sequence[str]:
    return [each for each, payment in facts["payments"].items() if payment["status"] == PaymentStatus.UNKNOWN]


def _everything_is_at_rest(facts: Mapping[str, Any]) -> None:
    assert {*facts["inquiries"]} <= {"answered", "failed", "expired"}
    assert "stored" not in facts["callbacks"]
    # What was acknowledged is there; a callback that was stored and not acknowledged may be, too.
    assert Counter(facts["acknowledged"]) <= Counter(facts["stored"])
    assert not any(payment["is_scheduled"] for payment in facts["payments"].values())


def _no_request_made_two_payments(facts: Mapping[str, Any]) -> None:
    """The act was repeated after the crash and at the end: the second time it finds what the first found."""
    # A row of a batch that is tried again is another payment, with a key of its own.
    made = Counter((each["kind"], each["key"] if each["of_batch"] else "") for each in facts["payments"].values())
    assert max(made.values(), default=0) <= 1
    answers: Sequence[Mapping[str, Any]] = facts["answers"]
    first, last = answers[: len(answers) // 2], answers[len(answers) // 2 :]
    for repeated, again in zip(first, last, strict=True):
        if "payment_id" in repeated:
            assert again == {"payment_id": repeated["payment_id"], "replayed": True}
            assert repeated["replayed"] == (repeated["payment_id"] in facts["before"])


def _ledger_agrees(facts: Mapping[str, Any], payment: Mapping[str, Any]) -> None:
    status = PaymentStatus(payment["status"])
    movements = [each for each in facts["ledger"] if each["kind"] == _IN_LEDGER[PaymentKind(payment["kind"])]]
    assert len(movements) <= 1
    if movements:
        assert status in _MOVED | {PaymentStatus.UNKNOWN}
        assert payment["receipt"] in {None, movements[0]["receipt"]}
    else:
        assert status not in _MOVED | {PaymentStatus.DISPUTED}
    if status is PaymentStatus.UNKNOWN:
        # Nobody ever told an id of it, or it is a payout that never came to Safaricom.
        assert not payment["has_id"]
        assert not (movements and payment["kind"] == PaymentKind.B2C)
        assert payment["replies"][-1] in {None, Reply.UNKNOWN}
    given_back = [each for each in facts["payments"].values() if each["reverses"] and each["status"] in _MOVED]
    if payment["kind"] == PaymentKind.STK_PUSH:
        assert (status is PaymentStatus.REVERSED) == bool(given_back)


def _nothing_that_may_have_left_was_sent_again(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
    if before is not None and before["status"] not in _NOT_SENT_YET:
        assert len(now["replies"]) == len(before["replies"])


def _history_is_a_path_of_the_table(lines: Sequence[Mapping[str, Any]], status: str) -> None:
    at: PaymentStatus | None = None
    for line in lines:
        if line["to_status"] is None:
            continue
        event = PaymentEvent(line["event"])
        to = first_status(event) if at is None else next_status(at, event)
        assert (line["from_status"], line["to_status"]) == (at, to)
        at = to
    assert at == status


def _every_change_is_audited(lines: Sequence[Mapping[str, Any]], actions: Sequence[str]) -> None:
    changes = [line["to_status"] for line in lines if line["to_status"] is not None]
    told = [action.removeprefix("payment.") for action in actions]
    assert [status for status in told if status in {"opened", *PaymentStatus}] == ["opened", *changes[1:]]
