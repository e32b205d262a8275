"""The life of a subscription, and what each state of it allows. Pure: no clock, no database.

`may_become` is the whole table; whatever it does not list does not happen. A trial that has ended stands as past due
until somebody decides: no work of ours has to run at midnight for it.
"""

from datetime import datetime
from enum import StrEnum


class Act(StrEnum):
    """What a call comes to, as far as a subscription is concerned."""

    READ = "read"
    COLLECT = "collect"
    PAY_OUT = "pay_out"


# Every other tool reads, be it here or at Safaricom.
_COLLECTING = frozenset({"stk_push"})
PAYING_OUT = frozenset({"b2c_payment", "reverse", "bulk_payment"})


def act_of(tool: str) -> Act:
    """What calling this tool comes to."""
    if tool in PAYING_OUT:
        return Act.PAY_OUT
    return Act.COLLECT if tool in _COLLECTING else Act.READ


class SubscriptionStatus(StrEnum):
    TRIAL = "trial"
    ACTIVE = "active"
    PAST_DUE = "past_due"
    SUSPENDED = "suspended"
    CANCELLED = "cancelled"

    def allows(self, act: Act) -> bool:
        """Reading goes on always; collecting until suspended; paying out only while all is well."""
        return act is Act.READ or act in _ALLOWED[self]

    def may_become(self, other: "SubscriptionStatus") -> bool:
        """Whether the life of a subscription has this change. Staying the same is none."""
        return other in _NEXT[self]


_S = SubscriptionStatus
_ALLOWED: dict[SubscriptionStatus, frozenset[Act]] = {
    _S.TRIAL: frozenset({Act.COLLECT, Act.PAY_OUT}),
    _S.ACTIVE: frozenset({Act.COLLECT, Act.PAY_OUT}),
    _S.PAST_DUE: frozenset({Act.COLLECT}),
    _S.SUSPENDED: frozenset(),
    _S.CANCELLED: frozenset(),
}
_NEXT: dict[SubscriptionStatus, frozenset[SubscriptionStatus]] = {
    _S.TRIAL: frozenset({_S.ACTIVE, _S.PAST_DUE, _S.SUSPENDED, _S.CANCELLED}),
    _S.ACTIVE: frozenset({_S.PAST_DUE, _S.SUSPENDED, _S.CANCELLED}),
    _S.PAST_DUE: frozenset({_S.ACTIVE, _S.SUSPENDED, _S.CANCELLED}),
    _S.SUSPENDED: frozenset({_S.ACTIVE, _S.CANCELLED}),
    # Whoever comes back begins anew, and has had the trial.
    _S.CANCELLED: frozenset({_S.ACTIVE}),
}


def status_at(status: SubscriptionStatus, trial_ends_at: datetime | None, now: datetime) -> SubscriptionStatus:
    """What a stored status comes to at this moment."""
    if status is _S.TRIAL and trial_ends_at is not None and now >= trial_ends_at:
        return _S.PAST_DUE
    return status
