"""Payments that wait for people, or have waited: how one is held, and whether it is still what people approved.

Dispatch asks with the very values that it is about to send: a payment that was changed in between is void, and is never
sent. The status `queued` alone sends nothing that needed an approval.
"""

from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.outcomes import move
from mpesa_mcp.payments.states import PaymentEvent
from mpesa_mcp.policy.approvals import Approval, ApprovalStatus, HeldBy, ToApprove, add_approval, close
from mpesa_mcp.policy.digests import Sending, digest_of
from mpesa_mcp.policy.rules import Decision
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock, Environment, Kes

_CHANGED = "What would have been sent was not what people were asked to approve, so nothing was sent."


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
        remarks=payment.remarks,
        purpose=payment.purpose,
        occasion=payment.occasion,
        reversed_receipt=payment.reverses_receipt,
    )


def sent_digest(payment: Payment) -> str:
    """What an approval of the payment is bound to, made from the payment as it stands."""
    return digest_of([sending_of(payment)])


async def may_be_sent(session: OrganizationSession, payment: Payment) -> bool:
    """Whether this payment needs nobody's approval, or is, as it stands in memory, what people have approved."""
    if payment.approval_id is None:
        return True
    approval = await session.get(Approval, payment.approval_id)
    return (
        approval is not None
        and approval.payment_id == payment.id
        and approval.status == ApprovalStatus.APPROVED
        and sent_digest(payment) == approval.digest
    )


async def refuse(core: Core, session: OrganizationSession, payment: Payment, decision: Decision) -> None:
    """The rules do not allow a payment, locked by the caller, any more, which people are about to approve."""
    assert payment.approval_id is not None  # it waits for people
    approval = await session.lock(Approval, payment.approval_id)
    assert approval is not None  # rows of approvals are never deleted
    close(session, core.clock, approval, ApprovalStatus.VOID)
    code = decision.reasons[0].code
    await move(core, session, payment, PaymentEvent.DECLINED, source="rules", code=code, reason=decision.said)


async def void(core: Core, session: OrganizationSession, payment: Payment) -> None:
    """Ends a payment, locked by the caller, that is not what people were asked about, and its approval."""
    approval = await session.lock(Approval, payment.approval_id) if payment.approval_id is not None else None
    still_stands = {ApprovalStatus.PENDING, ApprovalStatus.APPROVED}
    if approval is not None and approval.payment_id == payment.id and approval.status in still_stands:
        close(session, core.clock, approval, ApprovalStatus.VOID)
    await move(core, session, payment, PaymentEvent.APPROVAL_VOID, source="approval", reason=_CHANGED)
