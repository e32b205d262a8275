"""Approving: what people decide about payments that wait for them.

A decision is about a digest of exactly what will be sent, compared when it is made (and by dispatch once more: `held`).
Whatever is decided, the approval, the payment, its history and the audit change in one transaction; who may decide is
in `policy.approvers`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlmodel import col, select

from mpesa_mcp.billing.terms import agreement_of
from mpesa_mcp.errors import Advice, ConflictError, InputError, MpesaMcpError, NotFoundError
from mpesa_mcp.identity.models import User
from mpesa_mcp.identity.organizations import get_organization
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.outcomes import Change, lock_payment, move
from mpesa_mcp.payments.standing import refusal, require_may_open
from mpesa_mcp.payments.states import PaymentEvent, PaymentKind, PaymentStatus
from mpesa_mcp.payments.subjects import Subject, subject_as_read, subject_of, tool_of
from mpesa_mcp.policy.approvals import (
    Approval,
    ApprovalRecord,
    ApprovalStatus,
    HeldBy,
    Verdict,
    add_decision,
    approval_records,
    ask_more_people,
    close,
)
from mpesa_mcp.policy.approvers import (
    AnotherMustApprove,
    Approvers,
    approvals_given,
    approvers_of,
    refusal_of_approver,
    require_approver,
    require_decider,
)
from mpesa_mcp.store.crossings import Claim, DueTable, claim_due
from mpesa_mcp.store.tenancy import OrganizationSession

_REASON_CHARACTERS = (2, 200)
_LEASE = timedelta(seconds=30)
# Dispatch does not ask about the subscription: what was approved while all was well is sent.
_NOT_APPROVED = (
    "Nothing was approved, so nothing will be sent: this waits until its approval expires, and can still be declined."
)
_UNDECIDED = "Nobody approved it within 24 hours; nothing was sent."


class ApprovalClosed(ConflictError):
    """It has been decided, or its time is over."""

    code = "approval_closed"

    def __init__(self, status: ApprovalStatus) -> None:
        super().__init__(f"Nothing was changed: this approval is {status} already.")
        self.status = status


class ApprovalVoid(ConflictError):
    """What would be sent is not what was asked for."""

    code = "approval_void"

    def __init__(self, why: str = "What would be sent is not what was asked for any more.") -> None:
        super().__init__(
            f"{why} The approval is void and nothing will be sent; whoever wants the payment asks for it anew."
        )


class NotAllowedAnyMore(ApprovalVoid):
    """The rules have changed since it was asked for, and do not allow it now. `said` names what they refuse."""

    def __init__(self, said: str) -> None:
        super().__init__(f"The rules do not allow this any more. {said}")


class SawSomethingElse(ConflictError):
    """The digest that the approver names is not the one of this approval."""

    code = "digest_differs"
    advice = Advice.FIX_INPUT

    def __init__(self) -> None:
        super().__init__(
            "What you saw is not what would be sent. Read the approval again, and approve it with the digest it "
            "shows. Nothing was changed."
        )


async def approve(
    core: Core, organization_id: str, approval_id: str, *, actor: Actor, digest: str | None = None
) -> ApprovalRecord:
    """Approves, as one of the people who are needed; with the last of them the payment is queued.

    The rules in force now are asked again: they may want more people than before, or not allow it any more.
    `digest` is the one the person saw. Who approves again what they have approved changes nothing.

    Raises NotFoundError, what `require_approver` and `require_may_open` raise, NotSubscribed, SawSomethingElse,
    AnotherMustApprove, ApprovalClosed, ApprovalVoid, NotAllowedAnyMore.
    """
    refused: str | None = None
    async with core.store.session(organization_id) as session:
        approval, subject = await _held(session, approval_id)
        user = await require_approver(session, actor, approval)
        if digest is not None and digest != approval.digest:
            raise SawSomethingElse
        given = await approvals_given(session, approval)
        if user.id in given and approval.status == ApprovalStatus.APPROVED:
            return await _record(session, approval)
        _require_open(approval, core.clock.now())
        if user.id in given:
            raise AnotherMustApprove
        await require_may_open(session, subject.kind, so=_NOT_APPROVED)
        (await agreement_of(session)).require(subject.tool, core.clock.now(), so=_NOT_APPROVED)
        if await subject.digest(session) != approval.digest:
            await subject.void(core, session)
        elif (refused := await _judged_again(core, session, approval, subject)) is None:
            await add_decision(session, core.clock, approval, user, Verdict.APPROVED)
            if len(given) + 1 >= approval.approvers_needed:
                close(session, core.clock, approval, ApprovalStatus.APPROVED)
                await subject.let_go(core, session, actor=actor.name)
        record = await _record(session, approval)
    if refused is not None:
        raise NotAllowedAnyMore(refused)
    if record.status is ApprovalStatus.VOID:
        raise ApprovalVoid
    return record


async def refusal_to_approve(core: Core, organization_id: str, kind: PaymentKind | None) -> MpesaMcpError | None:
    """Why nobody can approve such a payment now, or a batch (None): what it subscribed to is as far as remembered."""
    async with core.store.reading(organization_id) as session:
        standing = (await get_organization(session)).status
    terms = await core.billing.terms.terms(organization_id)
    return refusal(standing, kind or PaymentKind.B2C, so=_NOT_APPROVED) or terms.agreement.refusal(
        tool_of(kind), core.clock.now(), so=_NOT_APPROVED
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """What it would come to if this person approved it now.

    `no_approver`: why they may not. `refused`: why the rules in force would decline it instead. `needed` and `missing`
    are approvals, by the rules in force; `approvers` are those who may give one.
    """

    no_approver: MpesaMcpError | None
    refused: str | None
    needed: int
    missing: int
    approvers: Approvers


async def prospect(core: Core, organization_id: str, approval_id: str, *, actor: Actor) -> Prospect:
    """Asks what `approve` would ask, and changes nothing. Of a batch every row is read. Raises NotFoundError."""
    async with core.store.reading(organization_id) as session:
        approval = await session.get(Approval, approval_id.strip().lower())
        if approval is None:
            raise NotFoundError("approval")
        user = await session.get(User, actor.user_id) if actor.user_id is not None else None
        decision, refused = await (await subject_as_read(session, approval)).judged(session)
        needed = max(approval.approvers_needed, decision.approvers)
        return Prospect(
            no_approver=refusal_of_approver(user, actor, approval),
            refused=refused,
            needed=needed,
            missing=needed - len(await approvals_given(session, approval)),
            approvers=await approvers_of(session, approval),
        )


async def waiting_in_vain(core: Core, organization_id: str, approval_ids: Collection[str]) -> frozenset[str]:
    """Which of these approvals fewer people may give than are needed; whoever becomes org_admin now changes nothing."""
    async with core.store.reading(organization_id) as session:
        asked = await session.all(select(Approval).where(col(Approval.id).in_(approval_ids)))
        return frozenset([each.id for each in asked if (await approvers_of(session, each)).now < each.approvers_needed])


async def decline(core: Core, organization_id: str, approval_id: str, *, actor: Actor, reason: str) -> ApprovalRecord:
    """Declines for good: one person is enough. `reason` is shown to whoever asked, an assistant too.

    Raises InputError, NotFoundError, NotAnApprover, ApprovalClosed.
    """
    said = _checked_reason(reason)
    async with core.store.session(organization_id) as session:
        approval, subject = await _held(session, approval_id)
        user = await require_decider(session, actor)
        _require_open(approval, core.clock.now())
        await add_decision(session, core.clock, approval, user, Verdict.DECLINED, reason=said)
        close(session, core.clock, approval, ApprovalStatus.DECLINED)
        await subject.decline(core, session, reason=said, actor=actor.name)
        return await _record(session, approval)


async def claim_unapproved(core: Core, limit: int, passing_over: Collection[str] = ()) -> Sequence[Claim]:
    """Takes payments whose time to be approved is over, for `expire_unapproved`."""
    return await claim_due(
        core.store,
        DueTable.PAYMENTS,
        statuses=[PaymentStatus.AWAITING_APPROVAL],
        now=core.clock.now(),
        lease=_LEASE,
        limit=limit,
        passing_over=passing_over,
    )


async def expire_unapproved(core: Core, claim: Claim) -> None:
    """Ends one that nobody decided about in time."""
    async with core.store.session(claim.organization_id) as session:
        payment = await lock_payment(session, claim.id)
        if payment.fence != claim.fence or PaymentStatus(payment.status) is not PaymentStatus.AWAITING_APPROVAL:
            return
        if payment.approval_id is not None:
            approval = await session.lock(Approval, payment.approval_id)
            assert approval is not None  # rows of approvals are never deleted
            close(session, core.clock, approval, ApprovalStatus.EXPIRED)
        await move(core, session, payment, Change(PaymentEvent.APPROVAL_EXPIRED, source="clock", reason=_UNDECIDED))


async def _held(session: OrganizationSession, approval_id: str) -> tuple[Approval, Subject]:
    """What it is about first, then the approval: the order in which everybody takes them. Raises NotFoundError."""
    wanted = approval_id.strip().lower()
    found = await session.get(Approval, wanted)
    if found is None:
        raise NotFoundError("approval")
    await session.hold_organization()
    subject = await subject_of(session, found)
    approval = await session.lock(Approval, wanted)
    assert approval is not None  # rows of approvals are never deleted
    return approval, subject


async def _judged_again(core: Core, session: OrganizationSession, approval: Approval, subject: Subject) -> str | None:
    """Asks the rules in force now: what they refuse, and with it this ends; or how many people must approve."""
    decision, refused = await subject.judge_again(core, session)
    if refused is None:
        reasons = [HeldBy(reason.code, reason.scope, reason.sentence) for reason in decision.reasons]
        ask_more_people(session, core.clock, approval, approvers=decision.approvers, reasons=reasons)
    return refused


def _require_open(approval: Approval, now: datetime) -> None:
    """Raises ApprovalClosed."""
    status = ApprovalStatus(approval.status)
    if status is ApprovalStatus.PENDING and now >= approval.expires_at:
        status = ApprovalStatus.EXPIRED  # the sweep is about to write it down
    if status is not ApprovalStatus.PENDING:
        raise ApprovalClosed(status)


async def _record(session: OrganizationSession, approval: Approval) -> ApprovalRecord:
    await session.flush()
    [record] = await approval_records(session, [approval])
    return record


def _checked_reason(reason: str) -> str:
    least, most = _REASON_CHARACTERS
    text = reason.strip()
    if not least <= len(text) <= most or not text.isprintable():
        raise InputError(f"reason must be {least} to {most} printable characters on one line.", field="reason")
    return text
