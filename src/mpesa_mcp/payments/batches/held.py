"""A batch that waits for people: one approval, bound to the digest of all its rows, and what comes of it.

The digest is made anew from the rows when a person decides, and by the feeder in each commit that makes payments.
"""

from mpesa_mcp import audit
from mpesa_mcp.errors import Advice, ConflictError
from mpesa_mcp.payments.batches.lines import leave_out_waiting
from mpesa_mcp.payments.batches.models import Batch
from mpesa_mcp.payments.batches.states import BatchStage
from mpesa_mcp.policy.approvals import Approval, ApprovalStatus, HeldBy, ToApprove, add_approval, close
from mpesa_mcp.policy.rules import Decision, Outcome
from mpesa_mcp.store.crossings import DueTable
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock, Environment, Kes

_UNDECIDED = "Nobody approved it within 24 hours; nothing was sent."
_LONGEST_REASON = 300
ROWS_CHANGED = "The rows are not those that were checked and let go, so nothing more of it is paid. Submit it anew."


class ApprovalNeededNow(ConflictError):
    """The rules hold for more people what they let through when the batch was submitted, or approved."""

    code = "approval_needed"
    advice = Advice.ASK_A_PERSON

    def __init__(self, wanted: int, approved: int) -> None:
        people = "a person" if wanted == 1 else f"{wanted} people"
        asked = "nobody was asked about this batch" if not approved else "not so many have approved this batch"
        super().__init__(
            f"Nothing was changed: the rules now want {people} to approve what these rows amount to, and {asked}. "
            "Submit them as a batch of their own."
        )


async def require_approved(session: OrganizationSession, batch: Batch, decision: Decision) -> None:
    """Raises ApprovalNeededNow when the rules now want people, or more people than have approved the batch."""
    if decision.outcome is not Outcome.NEEDS_APPROVAL:
        return
    approval = await session.get(Approval, batch.approval_id) if batch.approval_id is not None else None
    approved = approval.approvers_needed if approval is not None else 0
    if approved < decision.approvers:
        raise ApprovalNeededNow(decision.approvers, approved)


def hold_for_approval(session: OrganizationSession, clock: Clock, batch: Batch, decision: Decision) -> None:
    """Has a new batch wait for people; in the transaction that stores it."""
    wanted = ToApprove(
        batch_id=batch.id,
        environment=Environment(batch.environment),
        payment_count=batch.row_count,
        amount=Kes(batch.amount_cents),
        digest=batch.digest,
        approvers=decision.approvers,
        reasons=[HeldBy(reason.code, reason.scope, reason.sentence) for reason in decision.reasons],
    )
    approval = add_approval(session, clock, wanted, asked_by=batch.created_by)
    batch.approval_id, batch.next_action_at = approval.id, approval.expires_at


async def is_as_let_go(session: OrganizationSession, batch: Batch, digest: str) -> bool:
    """Whether rows with this digest are those that were checked, and that people approved if they had to."""
    if digest != batch.digest:
        return False
    if batch.approval_id is None:
        return True
    approval = await session.get(Approval, batch.approval_id)
    return (
        approval is not None
        and approval.batch_id == batch.id
        and approval.status == ApprovalStatus.APPROVED
        and approval.digest == digest
    )


def let_go(session: OrganizationSession, clock: Clock, batch: Batch, *, actor: str) -> None:
    """People have approved a batch, held by the caller: its rows may become payments."""
    now = clock.now()
    batch.status, batch.reason = BatchStage.RUNNING, None
    batch.updated_at = batch.counted_from = batch.next_action_at = now
    _take_over(batch)
    session.wake(DueTable.BATCHES, batch.id)
    audit.record(session, clock, actor=actor, action="batch.approved", subject=batch.id)


async def decline(session: OrganizationSession, clock: Clock, batch: Batch, *, reason: str, actor: str) -> None:
    """A person has declined a batch, held by the caller."""
    await leave_out_waiting(session, batch)
    _end(session, clock, batch, BatchStage.DECLINED, reason=f"A person declined it: {reason}", actor=actor)


async def refuse(session: OrganizationSession, clock: Clock, batch: Batch, *, reason: str) -> None:
    """The rules do not allow a batch, held by the caller, any more, which people are about to approve."""
    await _close(session, clock, batch, ApprovalStatus.VOID)
    await leave_out_waiting(session, batch)
    _end(session, clock, batch, BatchStage.DECLINED, reason=reason[:_LONGEST_REASON])


async def expire(session: OrganizationSession, clock: Clock, batch: Batch) -> None:
    """Nobody has decided about a batch, held by the caller, in time."""
    await _close(session, clock, batch, ApprovalStatus.EXPIRED)
    await leave_out_waiting(session, batch)
    _end(session, clock, batch, BatchStage.EXPIRED, reason=_UNDECIDED)


async def void(session: OrganizationSession, clock: Clock, batch: Batch) -> None:
    """Somebody changed rows of a batch, held by the caller, past this program: nothing more of it leaves."""
    await _close(session, clock, batch, ApprovalStatus.VOID)
    # What was reserved stays so: it was for other rows than these.
    await leave_out_waiting(session, batch, gives_back=False)
    _end(session, clock, batch, BatchStage.VOID, reason=ROWS_CHANGED)
    # Some may be payments already: the feeder withdraws what has not left.
    batch.next_action_at = clock.now()
    session.wake(DueTable.BATCHES)


async def take_back(session: OrganizationSession, clock: Clock, batch: Batch) -> None:
    """A batch, held by the caller, is cancelled: nobody need decide about it any more."""
    if batch.status == BatchStage.AWAITING_APPROVAL:
        await _close(session, clock, batch, ApprovalStatus.VOID)


async def _close(session: OrganizationSession, clock: Clock, batch: Batch, status: ApprovalStatus) -> None:
    """Ends the approval, if it is this batch's and still stands."""
    approval = await session.lock(Approval, batch.approval_id) if batch.approval_id is not None else None
    stands = {ApprovalStatus.PENDING, ApprovalStatus.APPROVED}
    if approval is not None and approval.batch_id == batch.id and approval.status in stands:
        close(session, clock, approval, status)


def _end(
    session: OrganizationSession, clock: Clock, batch: Batch, stage: BatchStage, *, reason: str, actor: str = "system"
) -> None:
    batch.status, batch.reason, batch.updated_at, batch.next_action_at = stage, reason, clock.now(), None
    _take_over(batch)
    session.wake(batch.id)
    audit.record(session, clock, actor=actor, action=f"batch.{stage}", subject=batch.id, reasons=reason)


def _take_over(batch: Batch) -> None:
    """Whoever works on it finds that it is not his any more."""
    batch.fence, batch.lease_until = batch.fence + 1, None
