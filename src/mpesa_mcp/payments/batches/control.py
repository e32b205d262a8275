"""What somebody decides about a batch that was let go: pause, resume, cancel what is unsent. Trying again: `retrying`.

Each decision holds the batch; none waits for a payment that has left. Repeating one that is in force changes nothing.
"""

from datetime import datetime

from sqlalchemy import func, update
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.billing.terms import agreement_of
from mpesa_mcp.errors import ConflictError, NotFoundError
from mpesa_mcp.payments.batches.brakes import park, stop
from mpesa_mcp.payments.batches.held import ROWS_CHANGED, is_as_let_go, require_approved, take_back, void
from mpesa_mcp.payments.batches.judging import judge_again
from mpesa_mcp.payments.batches.lines import digest_of, leave_out_waiting
from mpesa_mcp.payments.batches.models import Batch
from mpesa_mcp.payments.batches.problems import BatchInvalid
from mpesa_mcp.payments.batches.reading import BatchRecord, batch_record, totals_of
from mpesa_mcp.payments.batches.states import BatchStage, BatchStatus, batch_status
from mpesa_mcp.payments.batches.submission import BatchRequest
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.standing import require_may_open
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.store.crossings import DueTable
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment, Kes

_MAY_LEAVE = (PaymentStatus.QUEUED, PaymentStatus.SENDING)


class NotPossibleNow(ConflictError):
    """What was asked for does not fit what the batch has come to."""

    code = "batch_not_changeable"

    def __init__(self, status: BatchStatus | BatchStage, what: str) -> None:
        super().__init__(f"Nothing was changed: this batch is {status.replace('_', ' ')}, and {what}.")


class BatchVoid(ConflictError):
    """Somebody has changed its rows past this program."""

    code = "batch_void"

    def __init__(self) -> None:
        super().__init__(f"This batch is void. {ROWS_CHANGED}")


async def pause_batch(
    core: Core, organization_id: str, batch_id: str, *, actor: str, environment: Environment | None = None
) -> BatchRecord:
    """Keeps everything of it that has not left from leaving. Raises NotFoundError, NotPossibleNow."""
    async with core.store.session(organization_id) as session:
        batch = await locked_batch(session, batch_id, environment)
        if batch.status != BatchStage.PAUSED:
            status = await status_of(session, batch)
            if status is not BatchStatus.RUNNING:
                raise _not_possible(BatchStage(batch.status), status)
            await stop(session, core.clock, batch.id, reason="A person paused it; resume it to go on.", actor=actor)
        return await record_of(session, batch.id)


async def resume_batch(
    core: Core, organization_id: str, batch_id: str, *, actor: str, environment: Environment | None = None
) -> BatchRecord:
    """Lets a paused batch go on: what of it is queued is let go anew, however long it was paused.

    Whoever paused it may have found something wrong, and an org_admin have changed a rule for that: the rules in force
    are asked about each row that has not left. The digest of the rows is compared once more: when all are payments, the
    feeder does not look at them any more. Raises NotFoundError, NotPossibleNow, NotSubscribed, BatchVoid, what
    `standing.require_may_open` raises, and BatchInvalid or ApprovalNeededNow for what the rules do not let through now.
    """
    is_void = False
    async with core.store.session(organization_id) as session:
        # Before the batch, as everybody takes them: what the organization subscribed to stays so meanwhile.
        await session.hold_organization()
        batch = await locked_batch(session, batch_id, environment)
        if batch.status != BatchStage.RUNNING:
            if batch.status != BatchStage.PAUSED:
                raise _not_possible(BatchStage(batch.status), await status_of(session, batch))
            agreement = await agreement_of(session)
            agreement.require(BatchRequest.tool, core.clock.now(), so="Nothing was changed: the batch stays paused.")
            if is_void := not await is_as_let_go(session, batch, await digest_of(session, batch)):
                await void(session, core.clock, batch)
            else:
                await _require_allowed(session, batch)
                await _go_on(core, session, batch, actor)
        record = await record_of(session, batch.id)
    if is_void:
        raise BatchVoid
    return record


async def _require_allowed(session: OrganizationSession, batch: Batch) -> None:
    await require_may_open(session, PaymentKind.B2C, so="Nothing was changed: the batch stays paused.")
    judgement = await judge_again(session, batch)
    if judgement.problems:
        raise BatchInvalid(judgement.problems, count=batch.row_count)
    await require_approved(session, batch, judgement.approval(Kes(batch.amount_cents), batch.created_at))


async def _go_on(core: Core, session: OrganizationSession, batch: Batch, actor: str) -> None:
    now = core.clock.now()
    await change_batch(
        session, batch, now, status=BatchStage.RUNNING, reason=None, counted_from=now, next_action_at=now
    )
    await session.change(
        update(Payment)
        .where(col(Payment.batch_id) == batch.id, col(Payment.status) == PaymentStatus.QUEUED)
        # The fence: whoever took one and found the batch paused must not put it away now.
        .values(queued_at=now, next_action_at=now, lease_until=None, fence=col(Payment.fence) + 1)
    )
    session.wake(DueTable.PAYMENTS, DueTable.BATCHES, batch.id)
    audit.record(session, core.clock, actor=actor, action="batch.resumed", subject=batch.id)


async def cancel_batch(
    core: Core, organization_id: str, batch_id: str, *, actor: str, environment: Environment | None = None
) -> BatchRecord:
    """Nothing of it that has not left will leave; what was sent is settled as ever.

    The worker withdraws payments that are queued already. Raises NotFoundError, NotPossibleNow.
    """
    now = core.clock.now()
    async with core.store.session(organization_id) as session:
        batch = await locked_batch(session, batch_id, environment)
        stage = BatchStage(batch.status)
        if stage in {BatchStage.CANCELLING, BatchStage.CANCELLED}:
            return await record_of(session, batch.id)
        status = await status_of(session, batch)
        if stage.is_over or status in {BatchStatus.COMPLETED, BatchStatus.UNRESOLVED}:
            raise NotPossibleNow(status, "nothing of it is unsent")
        await take_back(session, core.clock, batch)
        await leave_out_waiting(session, batch)
        may_leave = select(func.count(col(Payment.id))).where(
            Payment.batch_id == batch.id, col(Payment.status).in_(_MAY_LEAVE)
        )
        has_payments = bool(await session.first(may_leave))
        await change_batch(
            session,
            batch,
            now,
            status=BatchStage.CANCELLING if has_payments else BatchStage.CANCELLED,
            reason="It was cancelled; what had not been sent is not sent.",
            next_action_at=now if has_payments else None,
        )
        await park(session, batch.id)
        session.wake(DueTable.BATCHES, batch.id)
        audit.record(session, core.clock, actor=actor, action="batch.cancelled", subject=batch.id)
        return await record_of(session, batch.id)


def _not_possible(stage: BatchStage, status: BatchStatus) -> NotPossibleNow:
    """Why it can neither be paused nor resumed, and what to do instead."""
    if stage is BatchStage.AWAITING_APPROVAL:
        return NotPossibleNow(
            stage, "a person decides about it first: approved, it goes on by itself; cancel it if it must not be paid"
        )
    if stage.is_over or stage is BatchStage.CANCELLING:
        # What was decided, not what the rows have come to: that is the reason.
        return NotPossibleNow(stage, "that is final; submit what is still to be paid as another batch")
    return NotPossibleNow(status, "nothing of it waits to be sent; rows that failed are paid with retry")


async def locked_batch(session: OrganizationSession, batch_id: str, environment: Environment | None) -> Batch:
    """Raises NotFoundError; a batch of another environment than this is not found either."""
    batch = await session.lock(Batch, batch_id.strip().lower())
    if batch is None or environment not in {None, batch.environment}:
        raise NotFoundError("batch")
    return batch


async def status_of(session: OrganizationSession, batch: Batch) -> BatchStatus:
    """What it has come to."""
    return batch_status(BatchStage(batch.status), await totals_of(session, batch.id))


async def change_batch(session: OrganizationSession, batch: Batch, now: datetime, **values: object) -> None:
    """Changes a batch that is held, and takes it from whoever works on it: the fence is another one."""
    await session.change(
        update(Batch)
        .where(col(Batch.id) == batch.id)
        .values(fence=col(Batch.fence) + 1, lease_until=None, updated_at=now, **values)
    )


async def record_of(session: OrganizationSession, batch_id: str) -> BatchRecord:
    """The batch as this transaction leaves it."""
    batch = await session.get(Batch, batch_id)
    assert batch is not None
    return batch_record(batch, await totals_of(session, batch_id))
