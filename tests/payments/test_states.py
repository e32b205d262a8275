"""The table of statuses, pair by pair, against the same table written down here a second time."""

import itertools

import pytest

from mpesa_mcp.payments.states import PaymentEvent, PaymentStatus, first_status, next_status

# (status, events) -> status, as docs/money.md has it. Whatever is not here changes nothing.
TABLE = {
    ("awaiting_approval", "approved"): "queued",
    ("awaiting_approval", "declined"): "declined",
    ("awaiting_approval", "approval_expired"): "expired",
    ("awaiting_approval", "approval_void"): "expired",
    ("queued", "approval_void"): "expired",
    ("queued", "attempt_committed"): "sending",
    ("queued", "withdrawn"): "expired",
    ("queued", "too_old"): "expired",
    ("queued", "unclear"): "unknown",
    ("sending", "accepted"): "pending",
    ("sending", "refused"): "failed",
    ("sending", "unclear"): "unknown",
    ("sending", "lease_ran_out"): "unknown",
    ("sending", "not_sent"): "queued",
    ("sending", "not_sent_for_good"): "failed",
    ("sending", "success"): "succeeded",
    ("sending", "failure"): "failed",
    ("pending", "success"): "succeeded",
    ("pending", "failure"): "failed",
    ("pending", "silent"): "unknown",
    ("pending", "unclear"): "unknown",
    ("unknown", "success"): "succeeded",
    ("unknown", "failure"): "failed",
    ("unknown", "resolved_succeeded"): "succeeded",
    ("unknown", "resolved_failed"): "failed",
    ("disputed", "resolved_succeeded"): "succeeded",
    ("disputed", "resolved_failed"): "failed",
    ("succeeded", "reversed"): "reversed",
    ("succeeded", "failure"): "disputed",
    ("failed", "success"): "disputed",
    ("succeeded", "contradiction"): "disputed",
    ("reversed", "contradiction"): "disputed",
    ("failed", "contradiction"): "disputed",
    ("expired", "success"): "disputed",
    ("expired", "contradiction"): "disputed",
}
FINAL = {"succeeded", "failed", "declined", "expired", "reversed"}


@pytest.mark.parametrize(("status", "event"), list(itertools.product(PaymentStatus, PaymentEvent)))
def test_each_event_leads_where_the_table_says_and_nowhere_else(status: PaymentStatus, event: PaymentEvent) -> None:
    assert next_status(status, event) == TABLE.get((status.value, event.value))


def test_only_a_send_that_did_not_happen_leads_back_to_the_queue() -> None:
    back = {(status, event) for (status, event), after in TABLE.items() if after == "queued"}
    assert back == {("awaiting_approval", "approved"), ("sending", "not_sent")}
    assert {
        (status.value, event.value)
        for status, event in itertools.product(PaymentStatus, PaymentEvent)
        if next_status(status, event) is PaymentStatus.QUEUED
    } == back


def test_a_final_status_is_left_only_by_a_contradiction_or_a_reversal() -> None:
    ways_out = {
        (status.value, event.value, str(next_status(status, event)))
        for status, event in itertools.product(PaymentStatus, PaymentEvent)
        if status.is_final and next_status(status, event) is not None
    }
    assert ways_out == {
        ("succeeded", "reversed", "reversed"),
        ("succeeded", "failure", "disputed"),
        ("failed", "success", "disputed"),
        ("expired", "success", "disputed"),
        ("expired", "contradiction", "disputed"),
        ("succeeded", "contradiction", "disputed"),
        ("reversed", "contradiction", "disputed"),
        ("failed", "contradiction", "disputed"),
    }


@pytest.mark.parametrize("status", list(PaymentStatus))
def test_statuses_answer_questions_about_themselves(status: PaymentStatus) -> None:
    assert status.is_final == (status.value in FINAL)
    assert status.is_settled == (status.value in FINAL | {"disputed"})
    assert status.nothing_moved == (status.value in {"failed", "declined", "expired"})
    assert status.moved == (status.value in {"succeeded", "reversed"})


@pytest.mark.parametrize(
    ("event", "status"),
    [("allowed", "queued"), ("needs_approval", "awaiting_approval"), ("refused_by_policy", "declined")],
)
def test_a_new_payment_starts_where_policy_puts_it(event: str, status: str) -> None:
    assert first_status(PaymentEvent(event)) == status
