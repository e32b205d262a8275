"""Trying the rows of a batch again that are proven failed: new payments, judged and reserved like the first.

What may have been paid is never tried again, be it by another batch or payment. Both are asked twice: when somebody
decides it, and by the feeder in the commit that makes the payment.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Select, update
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.billing.terms import agreement_of
from mpesa_mcp.errors import Advice, ConflictError, NotFoundError
from mpesa_mcp.payments.batches.control import NotPossibleNow, change_batch, locked_batch, record_of
from mpesa_mcp.payments.batches.held import require_approved
from mpesa_mcp.payments.batches.judging import Judgement, judge, take
from mpesa_mcp.payments.batches.models import Batch, BatchLine
from mpesa_mcp.payments.batches.problems import BatchInvalid
from mpesa_mcp.payments.batches.reading import BatchRecord, is_withdrawn
from mpesa_mcp.payments.batches.repeats import repeats_of_failed
from mpesa_mcp.payments.batches.rows import Row, RowProblem, sorted_problems
from mpesa_mcp.payments.batches.states import BatchStage, RowState, Sum
from mpesa_mcp.payments.batches.submission import BatchRequest
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.models import UNAPPLIED, Attempt, Callback, Payment
from mpesa_mcp.payments.standing import require_may_open
from mpesa_mcp.payments.states import NOTHING_MOVED, PaymentKind
from mpesa_mcp.store.crossings import DueTable
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment, Kes, Msisdn

_TRIES = 5
_PAID_MEANWHILE = "Not tried again: this phone has been paid the same amount since, or is about to be."


class NothingToRetry(ConflictError):
    """No row is proven failed."""

    code = "nothing_to_retry"

    def __init__(self, stage: BatchStage) -> None:
        paused = " It is paused: what waits goes on with mpesa-mcp batch resume." if stage is BatchStage.PAUSED else ""
        super().__init__(
            "Nothing was changed: no row of this batch is proven failed. Rows that are unknown or disputed may have "
            f"been paid, and are never tried again; rows that a person withdrew are not either.{paused}"
        )


class StillChanging(ConflictError):
    """Again and again its rows, or what may be spent, were others when it came to trying them again."""

    code = "batch_changing"
    advice = Advice.WAIT

    def __init__(self) -> None:
        super().__init__(
            "Nothing was changed: rows of this batch fail, or somebody tries them again or spends, at this moment. "
            "Look at the batch, and try again when its rows have come to rest."
        )


class _Raced(Exception):
    """Something that was read has changed since; look again."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """The rows that are proven failed, and which of them somebody has paid meanwhile."""

    rows: Sequence[Row]
    repeats: Sequence[RowProblem]

    @property
    def payable(self) -> Sequence[Row]:
        """Those that can be tried again."""
        paid = {each.line for each in self.repeats}
        return [row for row in self.rows if row.line not in paid]


async def retry_batch(
    core: Core, organization_id: str, batch_id: str, *, actor: str, environment: Environment | None = None
) -> BatchRecord:
    """Has new payments made for the rows that are proven failed, and for no other. A paused batch stays paused.

    A row whose phone has been paid the same amount meanwhile stays failed, and says so. Raises NotFoundError,
    NotSubscribed, NotPossibleNow, NothingToRetry, ApprovalNeededNow, StillChanging, what `standing.require_may_open`
    raises, and BatchInvalid when the rules do not allow a row now, or all of them have been paid meanwhile.
    """
    for _ in range(_TRIES):
        now = core.clock.now()
        async with core.store.reading(organization_id) as session:
            batch = await session.get(Batch, batch_id.strip().lower())
            if batch is None or environment not in {None, batch.environment}:
                raise NotFoundError("batch")
            failed = await _failed(session, batch, now)
        judgement = await judge(
            core,
            organization_id,
            failed.payable,
            environment=Environment(batch.environment),
            scopes=batch.reserved_in,
            at=now,
        )
        try:
            async with core.store.session(organization_id) as session:
                await session.hold_organization(alone=True)
                batch = await locked_batch(session, batch.id, environment)
                await _have_wait(core, session, batch, failed, judgement, actor, now)
                record = await record_of(session, batch.id)
                if not await take(session, judgement, batch, now):
                    raise _Raced
                cents = sum(row.amount.cents for row in failed.payable)
                return replace(record, retried=Sum(len(failed.payable), cents))
        except _Raced:
            continue
    raise StillChanging


async def _have_wait(
    core: Core,
    session: OrganizationSession,
    batch: Batch,
    failed: _Failed,
    judgement: Judgement,
    actor: str,
    now: datetime,
) -> None:
    """The rows wait to be made payments again."""
    await require_may_open(session, PaymentKind.B2C, so="Nothing was changed.")
    (await agreement_of(session)).require(BatchRequest.tool, now, so="Nothing was changed.")
    stage = BatchStage(batch.status)
    if not stage.may_retry:
        # What was decided, not what the rows have come to: that is the reason.
        raise NotPossibleNow(stage, "nothing of it is tried again; what is to be paid is submitted as another batch")
    if await _failed(session, batch, now) != failed or not await judgement.still_holds(session):
        raise _Raced
    if not failed.rows:
        raise NothingToRetry(stage)
    if judgement.problems or not failed.payable:
        problems = sorted_problems([*judgement.problems, *failed.repeats])
        raise BatchInvalid(problems, count=len(failed.rows))
    # What people have approved is these very rows, and the feeder asks whether it still is.
    decision = judgement.approval(Kes(sum(row.amount.cents for row in failed.payable)), now)
    await require_approved(session, batch, decision)
    again = update(BatchLine).where(
        col(BatchLine.batch_id) == batch.id,
        col(BatchLine.state) == RowState.MADE,
        col(BatchLine.payment_id).in_(_proven_failed(batch.id)),
    )
    is_repeat = col(BatchLine.line).in_([each.line for each in failed.repeats])
    await session.change(again.where(is_repeat).values(problem=_PAID_MEANWHILE))
    waiting = await session.change(
        again.where(~is_repeat).values(
            state=RowState.WAITING, tries=col(BatchLine.tries) + 1, asked_at=now, problem=None
        )
    )
    if waiting != len(failed.payable):
        raise _Raced
    if batch.status == BatchStage.RUNNING:
        await change_batch(session, batch, now, counted_from=now, next_action_at=now)
        session.wake(DueTable.BATCHES, batch.id)
    detail = {"payments": waiting, "paid_meanwhile": len(failed.repeats)}
    audit.record(session, core.clock, actor=actor, action="batch.retried", subject=batch.id, detail=detail)


async def _failed(session: OrganizationSession, batch: Batch, now: datetime) -> _Failed:
    rows = await _rows(session, batch.id)
    return _Failed(rows, await repeats_of_failed(session, rows, batch, now))


async def _rows(session: OrganizationSession, batch_id: str) -> list[Row]:
    statement = select(BatchLine).where(
        BatchLine.batch_id == batch_id,
        BatchLine.state == RowState.MADE,
        col(BatchLine.payment_id).in_(_proven_failed(batch_id)),
    )
    return [
        Row(line.line, Msisdn(line.phone), Kes(line.amount_cents), line.reference, line.remarks)
        for line in await session.all(statement.order_by(col(BatchLine.line)))
    ]


def _proven_failed(batch_id: str) -> Select[str]:
    """Payments of which nothing moved, that nobody calls back about, and that were not taken back."""
    unread = select(Callback.attempt_id).where(col(Callback.status).in_(UNAPPLIED))
    called_back = select(Attempt.payment_id).where(col(Attempt.payment_id).is_not(None), col(Attempt.id).in_(unread))
    return select(Payment.id).where(
        Payment.batch_id == batch_id,
        col(Payment.status).in_(NOTHING_MOVED),
        col(Payment.id).not_in(called_back),
        ~is_withdrawn(),
    )
