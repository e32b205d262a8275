"""When things happen again: pure functions of what happened so far. `speed` divides every reconciliation interval."""

from datetime import timedelta

from mpesa_mcp.payments.states import PaymentKind
from mpesa_mcp.values.ids import jitter

# A sender holds a payment this long; the longest call (token, refusal, token, call) is cut off before.
SEND_LEASE = timedelta(seconds=90)
CALL_DEADLINE_SECONDS = 60.0
# How long a queued payment may wait before it is stale.
QUEUE_LIFE = {
    PaymentKind.STK_PUSH: timedelta(minutes=2),
    PaymentKind.B2C: timedelta(hours=24),
    PaymentKind.REVERSAL: timedelta(hours=24),
}
NOT_SENT_TRIES = 5
INQUIRY_LIFE = timedelta(minutes=5)

_STK_FIRST = timedelta(seconds=15)
_STK_STEP = timedelta(seconds=10)
_STK_QUICK_QUESTIONS = 17  # from 15 s to about three minutes
_STK_SLOW = (timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1), timedelta(hours=6), timedelta(hours=24))
_PAYOUT = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=6),
    timedelta(hours=24),
)
# After so many questions without an answer a pending payment is called unknown.
_SILENT_AFTER = {PaymentKind.STK_PUSH: _STK_QUICK_QUESTIONS, PaymentKind.B2C: 2, PaymentKind.REVERSAL: 2}


def first_question_after(kind: PaymentKind, speed: float) -> timedelta:
    """How long after the send Daraja is asked for the first time."""
    first = _STK_FIRST if kind is PaymentKind.STK_PUSH else _PAYOUT[0]
    return first / speed


def next_question_after(kind: PaymentKind, asked: int, speed: float) -> timedelta | None:
    """How long until question number `asked` + 1, or None when a person must decide."""
    if kind is PaymentKind.STK_PUSH:
        if asked < _STK_QUICK_QUESTIONS:
            return _STK_STEP * jitter(0.1) / speed
        steps, taken = _STK_SLOW, asked - _STK_QUICK_QUESTIONS
    else:
        steps, taken = _PAYOUT, asked
    return steps[taken] * jitter(0.1) / speed if taken < len(steps) else None


def asked_often_enough(kind: PaymentKind, asked: int) -> bool:
    """Whether a pending payment that was asked about so often, in vain, is called unknown."""
    return asked >= _SILENT_AFTER[kind]


def resend_after(tried: int, retry_after_seconds: float | None) -> timedelta:
    """The back-off after a send that is proven not to have happened: 1, 2, 4, 8 s, or what Daraja asked for."""
    backed_off = 2.0 ** (tried - 1) * jitter(0.1)
    return timedelta(seconds=max(backed_off, min(retry_after_seconds or 0, 60)))
