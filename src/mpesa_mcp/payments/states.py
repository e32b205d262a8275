"""The statuses of a payment and the only ways from one to the next. Pure: no clock, no database, no network.

`next_status` is the whole table. What it does not list does not happen: the caller records the event and changes
nothing. In particular nothing leads back to `queued` except a send that is proven not to have happened.
"""

from enum import StrEnum


class PaymentKind(StrEnum):
    STK_PUSH = "stk_push"
    B2C = "b2c"
    REVERSAL = "reversal"

    @property
    def pays_out(self) -> bool:
        """Whether money leaves the organization."""
        return self is not PaymentKind.STK_PUSH

    @property
    def is_asked_about_by_checkout(self) -> bool:
        """Whether Daraja answers at once what became of it, by its checkout id; else an inquiry asks for it."""
        match self:
            case PaymentKind.STK_PUSH:
                return True
            case PaymentKind.B2C | PaymentKind.REVERSAL:
                return False

    @property
    def decides_about_another(self) -> bool:
        """Whether its end is also that of another payment: the one it gives back."""
        match self:
            case PaymentKind.STK_PUSH | PaymentKind.B2C:
                return False
            case PaymentKind.REVERSAL:
                return True


CONCERNS_NO_OTHER = tuple(kind for kind in PaymentKind if not kind.decides_about_another)


class PaymentStatus(StrEnum):
    AWAITING_APPROVAL = "awaiting_approval"
    QUEUED = "queued"
    SENDING = "sending"
    PENDING = "pending"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DECLINED = "declined"
    EXPIRED = "expired"
    DISPUTED = "disputed"
    REVERSED = "reversed"

    @property
    def is_final(self) -> bool:
        return self in _FINAL

    @property
    def is_settled(self) -> bool:
        """Final, or disputed: nothing more happens by itself."""
        return self.is_final or self is PaymentStatus.DISPUTED

    @property
    def nothing_moved(self) -> bool:
        """Whether it is certain that no money moved and none will: a new payment cannot pay twice."""
        return self in NOTHING_MOVED

    @property
    def moved(self) -> bool:
        """Whether money moved for this payment, given back later or not."""
        return self in {PaymentStatus.SUCCEEDED, PaymentStatus.REVERSED}


NOTHING_MOVED = (PaymentStatus.FAILED, PaymentStatus.DECLINED, PaymentStatus.EXPIRED)
_FINAL = frozenset({*NOTHING_MOVED, PaymentStatus.SUCCEEDED, PaymentStatus.REVERSED})


class Reply(StrEnum):
    """What Daraja's own answer to an attempt came to, as it is stored."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    NOT_SENT = "notsent"
    UNKNOWN = "unknown"


class PaymentEvent(StrEnum):
    """What can happen to a payment."""

    ALLOWED = "allowed"
    NEEDS_APPROVAL = "needs_approval"
    REFUSED_BY_POLICY = "refused_by_policy"
    APPROVED = "approved"
    DECLINED = "declined"
    APPROVAL_EXPIRED = "approval_expired"
    APPROVAL_VOID = "approval_void"
    ATTEMPT_COMMITTED = "attempt_committed"
    WITHDRAWN = "withdrawn"
    TOO_OLD = "too_old"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNCLEAR = "unclear"
    NOT_SENT = "not_sent"
    NOT_SENT_FOR_GOOD = "not_sent_for_good"
    LEASE_RAN_OUT = "lease_ran_out"
    SILENT = "silent"
    SUCCESS = "success"
    FAILURE = "failure"
    REVERSED = "reversed"
    CONTRADICTION = "contradiction"
    RESOLVED_SUCCEEDED = "resolved_succeeded"
    RESOLVED_FAILED = "resolved_failed"


_S, _E = PaymentStatus, PaymentEvent
_NEXT: dict[tuple[PaymentStatus, PaymentEvent], PaymentStatus] = {
    (_S.AWAITING_APPROVAL, _E.APPROVED): _S.QUEUED,
    (_S.AWAITING_APPROVAL, _E.DECLINED): _S.DECLINED,
    (_S.AWAITING_APPROVAL, _E.APPROVAL_EXPIRED): _S.EXPIRED,
    # What would be sent is not what people were asked about, or have approved.
    **{(status, _E.APPROVAL_VOID): _S.EXPIRED for status in (_S.AWAITING_APPROVAL, _S.QUEUED)},
    (_S.QUEUED, _E.ATTEMPT_COMMITTED): _S.SENDING,
    (_S.QUEUED, _E.WITHDRAWN): _S.EXPIRED,
    (_S.QUEUED, _E.TOO_OLD): _S.EXPIRED,
    # A send that was "proven" not to have happened and then is called back about must not be sent again.
    (_S.QUEUED, _E.UNCLEAR): _S.UNKNOWN,
    (_S.SENDING, _E.ACCEPTED): _S.PENDING,
    (_S.SENDING, _E.REFUSED): _S.FAILED,
    (_S.SENDING, _E.UNCLEAR): _S.UNKNOWN,
    (_S.SENDING, _E.LEASE_RAN_OUT): _S.UNKNOWN,
    (_S.SENDING, _E.NOT_SENT): _S.QUEUED,
    (_S.SENDING, _E.NOT_SENT_FOR_GOOD): _S.FAILED,
    (_S.PENDING, _E.SILENT): _S.UNKNOWN,
    (_S.PENDING, _E.UNCLEAR): _S.UNKNOWN,
    **{(status, _E.SUCCESS): _S.SUCCEEDED for status in (_S.SENDING, _S.PENDING, _S.UNKNOWN)},
    **{(status, _E.FAILURE): _S.FAILED for status in (_S.SENDING, _S.PENDING, _S.UNKNOWN)},
    **{(status, _E.RESOLVED_SUCCEEDED): _S.SUCCEEDED for status in (_S.UNKNOWN, _S.DISPUTED)},
    **{(status, _E.RESOLVED_FAILED): _S.FAILED for status in (_S.UNKNOWN, _S.DISPUTED)},
    (_S.SUCCEEDED, _E.REVERSED): _S.REVERSED,
    (_S.SUCCEEDED, _E.FAILURE): _S.DISPUTED,
    # An expired one may have been sent: by an attempt that was taken for not sent and was carried out after all.
    **{(status, _E.SUCCESS): _S.DISPUTED for status in (_S.FAILED, _S.EXPIRED)},
    **{(status, _E.CONTRADICTION): _S.DISPUTED for status in (_S.SUCCEEDED, _S.REVERSED, _S.FAILED, _S.EXPIRED)},
}


def first_status(event: PaymentEvent) -> PaymentStatus:
    """The status a new payment starts in, by what policy said of it."""
    return {_E.ALLOWED: _S.QUEUED, _E.NEEDS_APPROVAL: _S.AWAITING_APPROVAL, _E.REFUSED_BY_POLICY: _S.DECLINED}[event]


def next_status(status: PaymentStatus, event: PaymentEvent) -> PaymentStatus | None:
    """The status after `event`, or None when the event changes nothing and is only recorded."""
    return _NEXT.get((status, event))
