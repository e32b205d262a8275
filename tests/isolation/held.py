"""What waits for people in an organization whose ids somebody else tries."""

from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.held import hold_for_approval
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.policy.approvals import ApprovalDecision, Verdict
from mpesa_mcp.policy.rules import Decision, Outcome, Reason


async def store_held(core: Core, organization_id: str, payment_id: str, user_id: str) -> dict[str, str]:
    """An approval of this payment that one person has given; what names it."""
    because = Reason(code="approval_above", scope="organization", sentence="zebra needs two people")
    decision = Decision(outcome=Outcome.NEEDS_APPROVAL, reasons=(because,), approvers=2)
    async with core.store.session(organization_id) as session:
        payment = await session.lock(Payment, payment_id)
        assert payment is not None
        hold_for_approval(session, core.clock, payment, decision)
        payment.next_action_at = None  # no worker takes it
        approval_id = payment.approval_id
        assert approval_id is not None
        await session.flush()
        session.add(
            ApprovalDecision(
                organization_id=organization_id,
                approval_id=approval_id,
                user_id=user_id,
                verdict=Verdict.APPROVED,
                digest="zebra",
                at=core.clock.now(),
            )
        )
    return {"an approval": approval_id}
