"""Payments that wait for people, or have waited: how one is held, and whether it is still what people approved.

Dispatch asks with the very values that it is about to send: a payment that was changed in between is void, and is never
sent. The status `queued` alone sends nothing that needed an approval.
"""

from collections.abc import Collection, Sequence

from sqlalchemy import and_, or_
from sqlmodel import col, select

from mpesa_mcp.daraja.operations import sent_occasion, sent_remarks
from mpesa_mcp.payments.batches.models import Batch, BatchLine
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.outcomes import Change, move
from mpesa_mcp.payments.states import PaymentEvent, PaymentKind
from mpesa_mcp.policy.approvals import Approval, ApprovalStatus, HeldBy, ToApprove, add_approval, close
from mpesa_mcp.policy.digests import Sending, digest_of
from mpesa_mcp.policy.rules import Decision
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock, Environment, Kes

_CHANGED = "What would have been sent was not what people were asked to approve, so nothing was sent."

_NOT_THE_ROW = "What would have been sent was not what its row of the batch says, so nothing was sent."
_LINE_DIGITS = 9


def hold_for_approval(session: OrganizationSession, clock: Clock, payment: Payment, decision: Decision) -> None:
    """Has a new payment, already added and flushed, wait for people; in the transaction that stores it."""
    wanted = ToApprove(
        payment_id=payment.id,
        environment=Environment(payment.environment),
        amount=Kes(payment.amount_cents),
        digest=sent_digest(payment),
        approvers=decision.approvers,
        reasons=[HeldBy(reason.code, reason.scope, reason.sentence) for reason in decision.reasons],
    )
    approval = add_approval(session, clock, wanted, asked_by=payment.created_by)
    payment.approval_id, payment.next_action_at = approval.id, approval.expires_at


def sending_of(payment: Payment) -> Sending:
    """The payment as dispatch would send it."""
    return Sending(
        kind=payment.kind,
        environment=payment.environment,
        shortcode=payment.shortcode,
        phone=payment.phone,
        amount_cents=payment.amount_cents,
        reference=payment.reference,
        description=payment.description,
        remarks=sent_remarks(payment.remarks),
        purpose=payment.purpose,
        occasion=sent_occasion(payment.occasion),
        reversed_receipt=payment.reverses_receipt,
    )


def sent_digest(payment: Payment) -> str:
    """What an approval of the payment is bound to, made from the payment as it stands."""
    return digest_of([sending_of(payment)])


async def sendable(session: OrganizationSession, payments: Sequence[Payment]) -> Collection[str]:
    """Which of these payments need nobody's approval, or are, as they stand in memory, what people have approved.

    One of a batch is what its row says, which was checked with all others, and its batch is approved if it had to be.
    """
    of_batches = [payment for payment in payments if payment.batch_id is not None]
    alone = [payment for payment in payments if payment.batch_id is None]
    return {payment.id for payment in alone if await _is_approved(session, payment)} | await _as_rows(
        session, of_batches
    )


async def _is_approved(session: OrganizationSession, payment: Payment) -> bool:
    if payment.approval_id is None:
        return True
    approval = await session.get(Approval, payment.approval_id)
    return (
        approval is not None
        and approval.payment_id == payment.id
        and approval.status == ApprovalStatus.APPROVED
        and sent_digest(payment) == approval.digest
    )


async def _as_rows(session: OrganizationSession, payments: Sequence[Payment]) -> set[str]:
    """Which of these payments of batches are what their rows say. One statement for all of them."""
    rows: dict[str, dict[int, list[Payment]]] = {}
    for payment in payments:
        batch_id = payment.batch_id or ""
        line = (payment.idempotency_key or "").removeprefix(f"{batch_id}-").partition("-")[0]
        if line.isascii() and line.isdigit() and len(line) <= _LINE_DIGITS:
            # A row that was tried again has several.
            rows.setdefault(batch_id, {}).setdefault(int(line), []).append(payment)
    if not rows:
        return set()
    named = or_(
        *(and_(col(BatchLine.batch_id) == each, col(BatchLine.line).in_(lines)) for each, lines in rows.items())
    )
    of_the_line = and_(
        col(Batch.organization_id) == col(BatchLine.organization_id), col(Batch.id) == col(BatchLine.batch_id)
    )
    of_the_batch = and_(
        col(Approval.organization_id) == col(Batch.organization_id), col(Approval.id) == col(Batch.approval_id)
    )
    statement = (
        select(BatchLine)
        .add_columns(Batch, Approval)
        .join(Batch, of_the_line)
        .join(Approval, of_the_batch, isouter=True)
        .where(named)
    )
    found = await session.rows(statement)
    return {
        payment.id
        for line, batch, approval in found
        for payment in rows[line.batch_id][line.line]
        if line.payment_id == payment.id
        and payment.shortcode_id == batch.shortcode_id
        and sending_of(payment) == _sending_of_row(batch, line)
        and _is_let_go(batch, approval)
    }


def _sending_of_row(batch: Batch, line: BatchLine) -> Sending:
    return Sending(
        kind=PaymentKind.B2C,
        environment=batch.environment,
        shortcode=batch.shortcode,
        phone=line.phone,
        amount_cents=line.amount_cents,
        reference=line.reference,
        description="",
        remarks=sent_remarks(line.remarks),
        purpose=batch.purpose,
        occasion="",
        reversed_receipt=None,
    )


def _is_let_go(batch: Batch, approval: Approval | None) -> bool:
    """Whether people have approved the batch, if they had to."""
    if batch.approval_id is None:
        return True
    return (
        approval is not None
        and approval.batch_id == batch.id
        and approval.status == ApprovalStatus.APPROVED
        and approval.digest == batch.digest
    )


async def refuse(core: Core, session: OrganizationSession, payment: Payment, decision: Decision) -> None:
    """The rules do not allow a payment, locked by the caller, any more, which people are about to approve."""
    assert payment.approval_id is not None  # it waits for people
    approval = await session.lock(Approval, payment.approval_id)
    assert approval is not None  # rows of approvals are never deleted
    close(session, core.clock, approval, ApprovalStatus.VOID)
    code = decision.reasons[0].code
    await move(core, session, payment, Change(PaymentEvent.DECLINED, source="rules", code=code, reason=decision.said))


async def void(core: Core, session: OrganizationSession, payment: Payment) -> None:
    """Ends a payment, locked by the caller, that is not what people were asked about, and its approval."""
    approval = await session.lock(Approval, payment.approval_id) if payment.approval_id is not None else None
    still_stands = {ApprovalStatus.PENDING, ApprovalStatus.APPROVED}
    if approval is not None and approval.payment_id == payment.id and approval.status in still_stands:
        close(session, core.clock, approval, ApprovalStatus.VOID)
    reason = _CHANGED if payment.batch_id is None else _NOT_THE_ROW
    await move(core, session, payment, Change(PaymentEvent.APPROVAL_VOID, source="approval", reason=reason))
