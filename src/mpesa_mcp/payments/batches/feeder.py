"""The feeder: makes payments of the rows of a batch, some at a time, and withdraws what a cancelled one still has.

One commit makes the payments of some hundred rows and says of each row that it is made, so that a crash makes none of
them twice; the key of a payment, made of batch and line, is the second lock. No more are made ahead than leave within
seconds: others of the organization are not kept waiting, and whoever stops a batch stops nearly all of it.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy import func, update
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.errors import ConflictError, DeniedError
from mpesa_mcp.payments.attempts import has_unread_callback
from mpesa_mcp.payments.batches.brakes import stop
from mpesa_mcp.payments.batches.held import expire, is_as_let_go, void
from mpesa_mcp.payments.batches.judging import give_back
from mpesa_mcp.payments.batches.lines import digest_of
from mpesa_mcp.payments.batches.models import Batch, BatchLine
from mpesa_mcp.payments.batches.repeats import paid_since
from mpesa_mcp.payments.batches.states import BatchStage, RowState
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.history import record_history
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.outcomes import Change, lock_payment, move
from mpesa_mcp.payments.standing import require_may_open
from mpesa_mcp.payments.states import PaymentEvent, PaymentKind, PaymentStatus, first_status
from mpesa_mcp.store.crossings import Claim, DueTable, claim_due
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import new_id, random_hex

log = structlog.get_logger(__name__)

_LEASE = timedelta(seconds=60)
# Rows made in one commit, and payments of a batch that may wait in the queue.
MADE_AT_ONCE = 200
MOST_QUEUED = 500
_WITHDRAWN_AT_ONCE = 25
_LOOK_WHETHER_SENT = timedelta(milliseconds=500)
_LOOK_WHETHER_LIFTED = timedelta(seconds=10)
_PAID_MEANWHILE = "Not tried again: this phone has been paid the same amount since."


async def claim_batches(core: Core, limit: int, passing_over: Collection[str] = ()) -> Sequence[Claim]:
    """Takes batches of which something is to be made or withdrawn, or that nobody decided about, for `feed_batch`."""
    return await claim_due(
        core.store,
        DueTable.BATCHES,
        statuses=[BatchStage.AWAITING_APPROVAL, BatchStage.RUNNING, BatchStage.CANCELLING, BatchStage.VOID],
        now=core.clock.now(),
        lease=_LEASE,
        limit=limit,
        passing_over=passing_over,
    )


async def feed_batch(core: Core, claim: Claim) -> None:
    """One step of one batch, in one commit."""
    async with core.store.session(claim.organization_id) as session:
        # Before the batch, as everybody takes them.
        await session.hold_organization()
        batch = await session.lock(Batch, claim.id)
        if batch is None or batch.fence != claim.fence:
            return
        match BatchStage(batch.status):
            case BatchStage.AWAITING_APPROVAL:
                await expire(session, core.clock, batch)
                return
            case BatchStage.RUNNING:
                look_at = await _feed(core, session, batch)
            case BatchStage.CANCELLING | BatchStage.VOID:
                look_at = await _withdraw(core, session, batch)
            case _:
                return
        await session.change(
            update(Batch)
            .where(col(Batch.id) == batch.id, col(Batch.fence) == claim.fence)
            .values(next_action_at=look_at, lease_until=None)
        )
        session.wake(DueTable.BATCHES)


async def _feed(core: Core, session: OrganizationSession, batch: Batch) -> datetime | None:
    """Makes payments of the next rows; when to look again, None when all are made."""
    now = core.clock.now()
    try:
        await require_may_open(session, PaymentKind.B2C)
    except (DeniedError, ConflictError):  # frozen, suspended or closed
        return now + _LOOK_WHETHER_LIFTED
    if await _count(session, batch.id, PaymentStatus.QUEUED) > MOST_QUEUED - MADE_AT_ONCE:
        return now + _LOOK_WHETHER_SENT
    if not await is_as_let_go(session, batch, await digest_of(session, batch)):
        log.error("batch_void", batch_id=batch.id)
        await void(session, core.clock, batch)
        return now
    waiting = (
        select(BatchLine)
        .where(BatchLine.batch_id == batch.id, BatchLine.state == RowState.WAITING)
        .order_by(col(BatchLine.line))
        .limit(MADE_AT_ONCE)
    )
    lines = await session.all(waiting)
    if reason := await _key_taken(session, batch, lines):
        await stop(session, core.clock, batch.id, reason=reason, actor="system")
        return None
    payable = await _payable(session, batch, lines, now)
    payments = [_payment_of(batch, line, now) for line in payable]
    session.add(*payments)
    await session.flush()  # rows and history refer to them
    for line, payment in zip(payable, payments, strict=True):
        line.payment_id = payment.id
        _record(core, session, batch, payment, now)
    for line in lines:
        line.state = RowState.MADE
    paid = {line.line for line in payable}
    give_back(session, batch, [line for line in lines if line.line not in paid])
    session.wake(DueTable.PAYMENTS, batch.id)
    log.info("batch_fed", batch_id=batch.id, rows=len(lines))
    return now if len(lines) == MADE_AT_ONCE else None


async def _key_taken(session: OrganizationSession, batch: Batch, lines: Sequence[BatchLine]) -> str | None:
    """Why the rows cannot become payments: another payment has the key of one. None where none has.

    `check_key` refuses such keys now, but stored ones may be older.
    """
    line_of = {_key_of(batch, line): line.line for line in lines}
    taken = select(Payment).where(col(Payment.idempotency_key).in_(line_of)).order_by(col(Payment.id)).limit(1)
    payment = await session.first(taken)
    if payment is None or payment.idempotency_key is None:
        return None
    return (
        f"Line {line_of[payment.idempotency_key]} cannot be paid here: {payment.id} was made by another request with "
        "the key of this line. Cancel this batch, and submit the rows that are still to be paid as one of their own."
    )


async def _payable(
    session: OrganizationSession, batch: Batch, lines: Sequence[BatchLine], now: datetime
) -> list[BatchLine]:
    """The rows to make payments of: all, but for those to be tried again that turn out to have been paid meanwhile.

    An earlier payment of theirs may have moved money after all, or another one have paid the same.
    """
    paid = await paid_since(session, batch, {line.phone for line in lines if line.payment_id is not None}, now)
    payable = []
    for line in lines:
        if line.payment_id is None:
            payable.append(line)
        elif not await _moved_nothing(session, line.payment_id):
            continue
        elif (line.phone, line.amount_cents) in paid:
            line.problem = _PAID_MEANWHILE
        else:
            payable.append(line)
    return payable


async def _moved_nothing(session: OrganizationSession, payment_id: str) -> bool:
    """Whether an earlier payment of the row is still known to have moved nothing."""
    payment = await lock_payment(session, payment_id)
    return PaymentStatus(payment.status).nothing_moved and not await has_unread_callback(session, payment_id)


def _key_of(batch: Batch, line: BatchLine) -> str:
    again = f"-{line.tries + 1}" if line.tries else ""
    return f"{batch.id}-{line.line}{again}"


def _payment_of(batch: Batch, line: BatchLine, now: datetime) -> Payment:
    return Payment(
        organization_id=batch.organization_id,
        id=new_id("pay"),
        kind=PaymentKind.B2C,
        status=first_status(PaymentEvent.ALLOWED),
        environment=batch.environment,
        shortcode_id=batch.shortcode_id,
        shortcode=batch.shortcode,
        phone=line.phone,
        amount_cents=line.amount_cents,
        reference=line.reference,
        remarks=line.remarks,
        purpose=batch.purpose,
        idempotency_key=_key_of(batch, line),
        # One id for the payment, reused by every attempt: Daraja itself refuses a second (quirk 26).
        originator_conversation_id=random_hex(128),
        batch_id=batch.id,
        reserved_in=batch.reserved_in,
        created_by=batch.created_by,
        created_at=line.asked_at,
        updated_at=now,
        queued_at=now,
        next_action_at=now,
    )


def _record(core: Core, session: OrganizationSession, batch: Batch, payment: Payment, now: datetime) -> None:
    record_history(session, payment.id, now, event=PaymentEvent.ALLOWED, after=PaymentStatus.QUEUED, source="batch")
    audit.record(
        session,
        core.clock,
        actor=batch.created_by,
        action="payment.opened",
        subject=payment.id,
        detail={"batch_id": batch.id},
    )


async def _withdraw(core: Core, session: OrganizationSession, batch: Batch) -> datetime | None:
    """Withdraws some payments that are still queued; the last one ends the cancellation."""
    now = core.clock.now()
    queued = (
        select(Payment.id)
        .where(Payment.batch_id == batch.id, Payment.status == PaymentStatus.QUEUED)
        .order_by(col(Payment.id))
        .limit(_WITHDRAWN_AT_ONCE)
    )
    withdrawn = 0
    for payment_id in await session.all(queued):
        payment = await lock_payment(session, payment_id)
        if await has_unread_callback(session, payment_id):
            continue
        reason = "Its batch was cancelled before it was sent."
        await move(core, session, payment, Change(PaymentEvent.WITHDRAWN, source="batch", reason=reason))
        withdrawn += 1
    if withdrawn:
        return now
    # One that is being sent may come back to the queue.
    if await _count(session, batch.id, PaymentStatus.QUEUED, PaymentStatus.SENDING):
        return now + _LOOK_WHETHER_SENT
    await session.change(
        update(Batch)
        .where(col(Batch.id) == batch.id, col(Batch.status) == BatchStage.CANCELLING)
        .values(status=BatchStage.CANCELLED, updated_at=now)
    )
    session.wake(batch.id)
    return None


async def _count(session: OrganizationSession, batch_id: str, *statuses: PaymentStatus) -> int:
    # What is settled is left out by the index.
    counted = select(func.count(col(Payment.id))).where(
        Payment.batch_id == batch_id, col(Payment.settled_at).is_(None), col(Payment.status).in_(statuses)
    )
    return await session.first(counted) or 0
