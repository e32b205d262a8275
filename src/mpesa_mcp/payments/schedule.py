"""When things happen again, with some jitter. `speed` divides every reconciliation interval."""

from datetime import timedelta

from mpesa_mcp.payments.states import PaymentKind
from mpesa_mcp.values.ids import jitter

# The topic that wakes who asks about payments; a queue's own name wakes who sends them.
TO_BE_ASKED_ABOUT = "payments_to_be_asked_about"
# A sender holds a payment this long; the longest call (token, call, refusal, token) is cut off before.
SEND_LEASE = timedelta(seconds=90)
CALL_DEADLINE_SECONDS = 60.0
# What has not left so long after its attempt does not leave any more: its call could outlast the lease.
LEAVES_WITHIN = SEND_LEASE - timedelta(seconds=CALL_DEADLINE_SECONDS)
# How long a queued payment may wait before it is stale.
QUEUE_LIFE = {
    PaymentKind.STK_PUSH: timedelta(minutes=2),
    PaymentKind.B2C: timedelta(hours=24),
    PaymentKind.REVERSAL: timedelta(hours=24),
}
NOT_SENT_TRIES = 5
INQUIRY_LIFE = timedelta(minutes=5)
_LEAST_INQUIRY_LIFE = timedelta(seconds=10)

# For three minutes a push is asked about often; if it is silent until then, it is called unknown.
_WHILE_PROMPTED = tuple(timedelta(seconds=seconds) for seconds in range(15, 180, 10))
_PAYOUT = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=6), timedelta(hours=24))
# When Daraja is asked about a payment that stays silent, counted from the send.
_QUESTIONS = {
    PaymentKind.STK_PUSH: (
        *_WHILE_PROMPTED,
        *(timedelta(minutes=minutes) for minutes in (5, 15, 60, 6 * 60, 24 * 60)),
    ),
    PaymentKind.B2C: _PAYOUT,
    PaymentKind.REVERSAL: _PAYOUT,
}
# After so many questions without an answer a pending payment is called unknown.
_SILENT_AFTER = {PaymentKind.STK_PUSH: len(_WHILE_PROMPTED), PaymentKind.B2C: 2, PaymentKind.REVERSAL: 2}


def first_question_after(kind: PaymentKind, speed: float) -> timedelta:
    """How long after the send Daraja is asked for the first time."""
    return _QUESTIONS[kind][0] / speed


def next_question_after(kind: PaymentKind, asked: int, speed: float) -> timedelta | None:
    """How long from question number `asked` (0: the send) to the next, or None when a person must decide."""
    moments = (timedelta(0), *_QUESTIONS[kind])
    if asked + 1 >= len(moments):
        return None
    return (moments[asked + 1] - moments[asked]) * jitter(0.05) / speed


def asked_often_enough(kind: PaymentKind, asked: int) -> bool:
    """Whether a pending payment that was asked about so often, in vain, is called unknown."""
    return asked >= _SILENT_AFTER[kind]


def inquiry_life(speed: float) -> timedelta:
    """How long reconciliation's own question may stay unanswered before the next is asked."""
    return max(INQUIRY_LIFE / speed, _LEAST_INQUIRY_LIFE)


def resend_after(tried: int, retry_after_seconds: float | None) -> timedelta:
    """The back-off after a send that is proven not to have happened: 1, 2, 4, 8 s, or what Daraja asked for."""
    backed_off = 2.0 ** (tried - 1) * jitter(0.1)
    return timedelta(seconds=max(backed_off, min(retry_after_seconds or 0, 60)))
