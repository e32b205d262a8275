"""What was decided about a batch, what a row is at, and what a batch has come to. Pure.

Only the first two are stored. What a batch has come to is derived from its rows each time it is read: an
acknowledgement, a counter or a flag could be wrong, the payments cannot.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from mpesa_mcp.payments.states import PaymentStatus


class BatchStage(StrEnum):
    """What was decided about a batch; the column `status` of its row."""

    AWAITING_APPROVAL = "awaiting_approval"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    DECLINED = "declined"
    EXPIRED = "expired"
    VOID = "void"

    @property
    def may_send(self) -> bool:
        """Whether rows may become payments, and payments may leave."""
        return self is BatchStage.RUNNING

    @property
    def may_retry(self) -> bool:
        """Whether rows that are proven failed may be tried again."""
        return self in {BatchStage.RUNNING, BatchStage.PAUSED}

    @property
    def is_over(self) -> bool:
        """Nothing that has not left will leave."""
        return self in {BatchStage.CANCELLED, BatchStage.DECLINED, BatchStage.EXPIRED, BatchStage.VOID}


class RowState(StrEnum):
    """Where a row is: rejected when it was checked, waiting to become a payment, made one, or cancelled before."""

    REJECTED = "rejected"
    WAITING = "waiting"
    MADE = "made"
    CANCELLED = "cancelled"


class Outcome(StrEnum):
    """What one row has come to, in the order of the totals. `unknown` may have been paid."""

    WAITING = "waiting"
    IN_PROGRESS = "in_progress"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"
    DISPUTED = "disputed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


_OF_PAYMENT = {
    PaymentStatus.AWAITING_APPROVAL: Outcome.WAITING,
    PaymentStatus.QUEUED: Outcome.WAITING,
    PaymentStatus.SENDING: Outcome.IN_PROGRESS,
    PaymentStatus.PENDING: Outcome.IN_PROGRESS,
    PaymentStatus.UNKNOWN: Outcome.UNKNOWN,
    PaymentStatus.SUCCEEDED: Outcome.SUCCEEDED,
    PaymentStatus.REVERSED: Outcome.SUCCEEDED,
    PaymentStatus.FAILED: Outcome.FAILED,
    PaymentStatus.DECLINED: Outcome.FAILED,
    PaymentStatus.EXPIRED: Outcome.FAILED,
    PaymentStatus.DISPUTED: Outcome.DISPUTED,
}


def outcome_of(state: RowState, payment: PaymentStatus | None, *, is_withdrawn: bool = False) -> Outcome:
    """What a row has come to. A row that waits is waiting, whatever an earlier payment of it came to.

    `is_withdrawn` tells a payment that was taken back before it left from one that waited too long.
    """
    match state:
        case RowState.REJECTED:
            return Outcome.REJECTED
        case RowState.CANCELLED:
            return Outcome.CANCELLED
        case RowState.WAITING:
            return Outcome.WAITING
        case RowState.MADE:
            assert payment is not None  # a row is made together with its payment
            if is_withdrawn and payment is PaymentStatus.EXPIRED:
                return Outcome.CANCELLED
            return _OF_PAYMENT[payment]


class BatchStatus(StrEnum):
    """What a batch has come to.

    `unresolved`: nothing more is sent, and of some rows nobody knows (yet) whether they were paid.
    """

    AWAITING_APPROVAL = "awaiting_approval"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    UNRESOLVED = "unresolved"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    DECLINED = "declined"
    EXPIRED = "expired"
    VOID = "void"

    @property
    def is_final(self) -> bool:
        """Nothing more happens by itself, and of every row it is known what it came to."""
        return self in {
            BatchStatus.COMPLETED,
            BatchStatus.CANCELLED,
            BatchStatus.DECLINED,
            BatchStatus.EXPIRED,
            BatchStatus.VOID,
        }

    @property
    def is_at_rest(self) -> bool:
        """Waiting longer shows nothing new, unless a person acts or Safaricom answers a question."""
        return self.is_final or self in {
            BatchStatus.AWAITING_APPROVAL,
            BatchStatus.PAUSED,
            BatchStatus.UNRESOLVED,
        }


@dataclass(frozen=True, slots=True)
class Sum:
    """How many rows, and what they amount to."""

    count: int = 0
    cents: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """The rows of a batch by outcome. Rejected rows have no amount: nobody could read, or wanted, theirs.

    `for_a_person`: how many of those that are not known nobody asks about any more, so that a person must find out.
    """

    by_outcome: dict[Outcome, Sum] = field(default_factory=dict)
    for_a_person: int = 0

    @classmethod
    def of(cls, groups: Iterable[tuple[Outcome, int, int]]) -> "Totals":
        """Adds up groups of (outcome, rows, cents)."""
        found: dict[Outcome, Sum] = {}
        for outcome, count, cents in groups:
            so_far = found.get(outcome, Sum())
            found[outcome] = Sum(so_far.count + count, so_far.cents + cents)
        return cls(found)

    def __getitem__(self, outcome: Outcome) -> Sum:
        return self.by_outcome.get(outcome, Sum())

    @property
    def under_way(self) -> int:
        """Rows that wait or have been sent without an answer yet."""
        return self[Outcome.WAITING].count + self[Outcome.IN_PROGRESS].count

    @property
    def not_known(self) -> int:
        return self[Outcome.UNKNOWN].count + self[Outcome.DISPUTED].count

    @property
    def decided(self) -> int:
        """Rows of which it is known for good whether they were paid; rejected ones are not counted."""
        return sum(self[outcome].count for outcome in (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.CANCELLED))


def batch_status(stage: BatchStage, totals: Totals) -> BatchStatus:
    """What a batch has come to, by what was decided and by its rows."""
    match stage:
        case BatchStage.AWAITING_APPROVAL:
            return BatchStatus.AWAITING_APPROVAL
        case BatchStage.RUNNING | BatchStage.PAUSED:
            if totals.under_way:
                return BatchStatus.RUNNING if stage is BatchStage.RUNNING else BatchStatus.PAUSED
            return BatchStatus.UNRESOLVED if totals.not_known else BatchStatus.COMPLETED
        case BatchStage.CANCELLING | BatchStage.CANCELLED | BatchStage.DECLINED | BatchStage.EXPIRED | BatchStage.VOID:
            if totals.under_way:
                return BatchStatus.CANCELLING
            if totals.not_known:
                return BatchStatus.UNRESOLVED
            return BatchStatus.CANCELLED if stage is BatchStage.CANCELLING else BatchStatus(stage.value)
