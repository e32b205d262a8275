"""Which story dies where. The first story of a point is its short form; the others are told by `make crash`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .deaths import Death, Side


@dataclass(frozen=True)
class Case:
    """A story, and the deaths of the processes that play it, one after the other."""

    story: str
    deaths: tuple[Death, ...]

    def __str__(self) -> str:
        return f"{self.story}, {', then '.join(map(str, self.deaths))}"


STORIES_AT: Mapping[str, Sequence[str]] = {
    "intake.open_payment:commit": ("push", "push without a key", "payout", "reversal"),
    "approving.approve:commit": ("payout that is approved",),
    "approving.decline:commit": ("payout that is declined",),
    "approving.claim_unapproved:claim_due": ("payout that nobody approves",),
    "approving.expire_unapproved:commit": ("payout that nobody approves",),
    "dispatch.claim_queued:claim_due": ("payout", "push", "reversal"),
    "dispatch._commit_attempts:commit": ("payout", "push", "reversal"),
    "dispatch._call:stk_push": ("push", "push without its callback", "push called back before the answer"),
    "dispatch._call:b2c": ("payout", "payout without its callback", "payout called back before the answer"),
    "dispatch._call:reversal": ("reversal",),
    "waiting.put_back:commit": ("payout that is turned away", "push that is turned away"),
    "dispatch._give_up:commit": ("push that waited too long",),
    "client._send_with_token:post#1": ("balance", "payout", "push", "payout with a dead token"),
    "client._send_with_token:post#2": ("balance with a dead token",),
    "client.fetch_token:exchange": ("payout", "push", "balance"),
    "credential._ask_simulator:exchange": ("payout", "reversal", "balance"),
    "tokens._take_lease:commit": ("balance", "push", "payout", "payout with a dead token"),
    "tokens._change:commit": ("balance", "payout", "push", "payout with a dead token"),
    "tokens.forget:commit": ("payout with a dead token", "balance with a dead token"),
    "circuits._record:commit": ("payout that is turned away", "push that is turned away"),
    "circuits._take_probe:commit": ("push that is turned away", "payout that is turned away"),
    "replies._conclude_sends:commit": (
        "payout",
        "push",
        "reversal",
        "payout that is turned away",
        "push without an answer",
        "payout without an answer",
    ),
    "sidecar._keep:store_callbacks": (
        "push",
        "payout",
        "reversal",
        "status",
        "push with a forgery",
        "payout called back thrice",
        "payout called back before the answer",
        "payout that times out",
    ),
    "inbox.claim_stored:claim_due": ("push", "payout", "reversal", "balance"),
    "inbox._apply_callbacks:commit": (
        "payout",
        "push",
        "reversal",
        "balance",
        "push that fails",
        "payout that fails",
        "push with a forgery",
        "push without an answer",
        "payout called back thrice",
        "payout without its callback",
        "payout that times out",
        "payout to be confirmed",
    ),
    "reconciliation.claim_silent:claim_due": ("push without its callback", "payout without its callback"),
    "reconciliation.ask_about:commit#1": ("payout without its callback", "push without its callback"),
    "reconciliation.ask_about:commit#2": ("push that is decided slowly",),
    "reconciliation._ask_stk:stk_query": ("push without its callback", "push that is decided slowly"),
    "reconciliation._ask_later:commit": ("question about a push during a pause",),
    "reconciliation._settle_by_answer:commit": ("push without its callback",),
    "inquiries.ask_balance:commit": ("balance",),
    "inquiries.ask_status:commit": ("status",),
    "inquiry_dispatch._claim:claim_due": ("payout without its callback", "balance"),
    "inquiry_dispatch._commit_attempt:commit": ("payout without its callback", "balance", "status"),
    "inquiry_dispatch._call:balance": ("balance",),
    "inquiry_dispatch._call:transaction_status": ("payout without its callback", "status", "payout to be confirmed"),
    "inquiry_dispatch._conclude:commit": ("payout without its callback", "balance"),
    "inquiry_dispatch._expire:commit": ("balance without an answer",),
    "inquiry_dispatch._put_back:commit": ("question about a balance during a pause",),
    "desk.resolve_payment:commit": ("resolve",),
    "desk.withdraw_payment:commit": ("withdraw",),
    "adoption._adopt:commit": ("adopt",),
    "submission.submit_batch:commit": ("batch",),
    "feeder.claim_batches:claim_due": ("batch",),
    "feeder.feed_batch:commit": ("batch", "batch that is tried again"),
    "control.pause_batch:commit": ("batch that is paused for a while",),
    "control.resume_batch:commit": ("batch that is paused for a while",),
    "control.cancel_batch:commit": ("batch that is cancelled",),
    "retrying.retry_batch:commit": ("batch that is tried again",),
}

_SENT = Death("dispatch._commit_attempts:commit", Side.AFTER)
_ANSWERED = Death("dispatch._call:b2c", Side.AFTER)
# Who recovers may die too.
TWICE = [
    Case("payout", (_SENT, Death("reconciliation.ask_about:commit#1", Side.AFTER))),
    Case("payout", (_ANSWERED, Death("inquiry_dispatch._call:transaction_status", Side.AFTER))),
]
TWICE_IN_FULL = [
    Case("payout", (first, Death(point, side)))
    for first in (_SENT, _ANSWERED)
    for point in (
        "reconciliation.claim_silent:claim_due",
        "reconciliation.ask_about:commit#1",
        "inquiry_dispatch._commit_attempt:commit",
        "inquiry_dispatch._call:transaction_status",
        "inquiry_dispatch._conclude:commit",
        "sidecar._keep:store_callbacks",
        "inbox._apply_callbacks:commit",
    )
    for side in Side
]

# Where the money is, the short form dies on both sides; elsewhere only after, since what comes before is rolled back.
_ON_BOTH_SIDES = (
    "approving.approve:",
    "intake.",
    "feeder.feed_batch:",
    "dispatch._call:",
    "dispatch._commit_attempts:",
    "dispatch.claim_queued:",
    "replies.",
    "sidecar.",
    "inbox.",
    "reconciliation.ask_about:",
    "reconciliation._settle_by_answer:",
)
# The short form on PostgreSQL: where two transactions about one payment may run at once.
_ON_POSTGRESQL = {
    "intake.open_payment:commit",
    "dispatch.claim_queued:claim_due",
    "dispatch._commit_attempts:commit",
    "dispatch._call:b2c",
    "sidecar._keep:store_callbacks",
    "inbox.claim_stored:claim_due",
    "inbox._apply_callbacks:commit",
    "replies._conclude_sends:commit",
}

EVERY = [
    *(
        Case(story, (Death(point, side),))
        for point, stories in STORIES_AT.items()
        for story in stories
        for side in Side
    ),
    *TWICE,
    *(case for case in TWICE_IN_FULL if case not in TWICE),
]


def is_short(case: Case) -> bool:
    """Whether the case is part of the suite, and not of `make crash` alone."""
    death = case.deaths[0]
    is_first = case.story == STORIES_AT[death.point][0]
    return case in TWICE or (
        len(case.deaths) == 1 and is_first and (death.side is Side.AFTER or death.point.startswith(_ON_BOTH_SIDES))
    )


def is_short_on_postgresql(case: Case) -> bool:
    return is_short(case) and len(case.deaths) == 1 and case.deaths[0].point in _ON_POSTGRESQL


def ends_unknown(case: Case, facts: Mapping[str, Any]) -> bool:
    """Whether a person must find out: no id of a payment ever came back, and nobody can say whether it left."""
    first = case.deaths[0]
    at = (first.point, first.side)
    # No answer brought an id, and the callback died with the process; only a payout has an id of our own.
    unheard = any(
        each["status"] in {"sending", "unknown"} and each["kind"] != "b2c" and not each["has_id"]
        for each in facts["before"].values()
    )
    return bool(facts["payments"]) and (
        at in _NEVER_LEFT or (case.story, *at) in _NOBODY_WAS_TOLD or (unheard and facts["lost"] > 0)
    )


# `sending` is committed and the request has not left, or was turned away and nobody has heard of it. Nobody can tell
# that from a request that left and was lost.
_NEVER_LEFT = {
    ("dispatch._commit_attempts:commit", Side.AFTER),
    ("client._send_with_token:post#1", Side.BEFORE),
    *((f"dispatch._call:{operation}", Side.BEFORE) for operation in ("stk_push", "b2c", "reversal")),
    *(
        (point, side)
        for point in (
            "client.fetch_token:exchange",
            "credential._ask_simulator:exchange",
            "tokens._take_lease:commit",
            "tokens._change:commit",
            "circuits._record:commit",
        )
        for side in Side
    ),
}
# The answer died with the process. A payout is asked about by its own id, but these have none.
_NOBODY_WAS_TOLD = {
    ("payout that is turned away", "replies._conclude_sends:commit", Side.BEFORE),
    ("payout with a dead token", "client._send_with_token:post#1", Side.AFTER),
    *(("payout with a dead token", "tokens.forget:commit", side) for side in Side),
    ("push without its callback", "dispatch._call:stk_push", Side.AFTER),
}
