"""The life of a subscription, every pair of it, and what each state lets an organization do."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from mpesa_mcp.billing.states import Act, SubscriptionStatus, act_of, status_at
from mpesa_mcp.identity.tool_names import TOOL_NAMES
from mpesa_mcp.payments.requests import B2cRequest, ReversalRequest, StkPushRequest
from mpesa_mcp.tools.catalogue import all_tools

NOW = datetime(2026, 11, 16, 8, 30, tzinfo=UTC)
TRIAL, ACTIVE, PAST_DUE, SUSPENDED, CANCELLED = SubscriptionStatus
CHANGES = {
    (TRIAL, ACTIVE),
    (TRIAL, PAST_DUE),
    (TRIAL, SUSPENDED),
    (TRIAL, CANCELLED),
    (ACTIVE, PAST_DUE),
    (ACTIVE, SUSPENDED),
    (ACTIVE, CANCELLED),
    (PAST_DUE, ACTIVE),
    (PAST_DUE, SUSPENDED),
    (PAST_DUE, CANCELLED),
    (SUSPENDED, ACTIVE),
    (SUSPENDED, CANCELLED),
    (CANCELLED, ACTIVE),
}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(SubscriptionStatus, repeat=2)))
def test_a_subscription_changes_as_the_table_says_and_no_other_way(
    before: SubscriptionStatus, after: SubscriptionStatus
) -> None:
    assert before.may_become(after) is ((before, after) in CHANGES)


@pytest.mark.parametrize(
    ("status", "allowed"),
    [
        (TRIAL, {Act.READ, Act.COLLECT, Act.PAY_OUT}),
        (ACTIVE, {Act.READ, Act.COLLECT, Act.PAY_OUT}),
        (PAST_DUE, {Act.READ, Act.COLLECT}),
        (SUSPENDED, {Act.READ}),
        (CANCELLED, {Act.READ}),
    ],
)
def test_each_state_allows_these_acts(status: SubscriptionStatus, allowed: set[Act]) -> None:
    assert {act for act in Act if status.allows(act)} == allowed


def test_a_trial_that_has_ended_stands_as_past_due() -> None:
    assert status_at(TRIAL, NOW + timedelta(microseconds=1), NOW) is TRIAL
    assert status_at(TRIAL, NOW, NOW) is PAST_DUE
    assert status_at(ACTIVE, NOW, NOW) is ACTIVE


def test_what_a_tool_comes_to_is_what_it_says_of_itself() -> None:
    for offered in all_tools():
        hints = offered.tool.annotations
        assert hints is not None
        act = act_of(offered.tool.name)
        assert (act is Act.READ, act is Act.PAY_OUT) == (hints.read_only_hint, hints.destructive_hint), (
            offered.tool.name
        )
    for request in (StkPushRequest, B2cRequest, ReversalRequest):
        assert (act_of(request.tool) is Act.PAY_OUT) is request.kind.pays_out
    assert {act_of(name) for name in TOOL_NAMES} == {*Act}
    assert act_of("bulk_payment") is Act.PAY_OUT
