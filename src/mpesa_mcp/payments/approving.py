"""Approving: what people decide about payments that wait for them.

A decision is about a digest of exactly what will be sent, compared when it is made (and by dispatch once more: `held`).
Whatever is decided, the approval, the payment, its history and the audit change in one transaction; who may decide is
in `policy.approvers`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mpesa_mcp.billing.terms import agreement_of
from mpesa_mcp.errors import Advice, ConflictError, InputError, MpesaMcpError, NotFoundError
from mpesa_mcp.identity.organizations import get_organization
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.payments.batches import held as held_batches
from mpesa_mcp.payments.batches.judging import judge_again as judge_batch_again
from mpesa_mcp.payments.batches.lines import digest_of
from mpesa_mcp.payments.batches.models import Batch
from mpesa_mcp.payments.batches.submission import BatchRequest
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.held import refuse, sent_digest, void
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.outcomes import lock_payment, move
from mpesa_mcp.payments.requests import B2cRequest, ReversalRequest, StkPushRequest
from mpesa_mcp.payments.spending import judge_again
from mpesa_mcp.payments.standing import refusal, require_may_open
from mpesa_mcp.payments.states import PaymentEvent, PaymentKind, PaymentStatus
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
from mpesa_mcp.policy.approvers import AnotherMustApprove, approvals_given, require_approver, require_decider
from mpesa_mcp.policy.rules import Outcome
from mpesa_mcp.store.crossings import Claim, DueTable, claim_due
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Kes

_REASON_CHARACTERS = (2, 200)
_LEASE = timedelta(seconds=30)
_TOOLS = {each.kind: each.tool for each in (StkPushRequest, B2cRequest, ReversalRequest)}
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


@dataclass(frozen=True, slots=True)
class _Held:
    """An approval and what it is about, both locked."""

    approval: Approval
    what: Payment | Batch

    @property
    def kind(self) -> PaymentKind:
        return PaymentKind(self.what.kind) if isinstance(self.what, Payment) else PaymentKind.B2C

    @property
    def tool(self) -> str:
        """The tool that asks for such a thing, by which plans and subscriptions allow it."""
        return BatchRequest.tool if isinstance(self.what, Batch) else _TOOLS[self.kind]

    async def is_as_asked(self, session: OrganizationSession) -> bool:
        digest = sent_digest(self.what) if isinstance(self.what, Payment) else await digest_of(session, self.what)
        return digest == self.approval.digest

    async def judged_again(self, core: Core, session: OrganizationSession) -> str | None:
        """Asks the rules in force now: what they refuse, and with it this ends; or how many people must approve."""
        if isinstance(self.what, Batch):
            judgement = await judge_batch_again(session, self.what)
            refused = judgement.refusal(self.what.row_count)
            decision = judgement.approval(Kes(self.what.amount_cents), self.what.created_at)
            if refused is not None:
                await held_batches.refuse(session, core.clock, self.what, reason=refused)
        else:
            decision = await judge_again(session, self.what)
            refused = decision.said if decision.outcome is Outcome.DECLINED else None
            if refused is not None:
                await refuse(core, session, self.what, decision)
        reasons = [HeldBy(reason.code, reason.scope, reason.sentence) for reason in decision.reasons]
        if refused is None:
            ask_more_people(session, core.clock, self.approval, approvers=decision.approvers, reasons=reasons)
        return refused


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
        held = await _held(session, approval_id)
        approval = held.approval
        user = await require_approver(session, actor, approval)
        if digest is not None and digest != approval.digest:
            raise SawSomethingElse
        given = await approvals_given(session, approval)
        if user.id in given and approval.status == ApprovalStatus.APPROVED:
            return await _record(session, approval)
        _require_open(held, core.clock.now())
        if user.id in given:
            raise AnotherMustApprove
        await require_may_open(session, held.kind, so=_NOT_APPROVED)
        (await agreement_of(session)).require(held.tool, core.clock.now(), so=_NOT_APPROVED)
        if not await held.is_as_asked(session):
            await _void(core, session, held.what)
        elif (refused := await held.judged_again(core, session)) is None:
            await add_decision(session, core.clock, approval, user, Verdict.APPROVED)
            if len(given) + 1 >= approval.approvers_needed:
                close(session, core.clock, approval, ApprovalStatus.APPROVED)
                await _let_go(core, session, held.what, actor.name)
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
    tool = BatchRequest.tool if kind is None else _TOOLS[kind]
    return refusal(standing, kind or PaymentKind.B2C, so=_NOT_APPROVED) or terms.agreement.refusal(
        tool, core.clock.now(), so=_NOT_APPROVED
    )


async def decline(core: Core, organization_id: str, approval_id: str, *, actor: Actor, reason: str) -> ApprovalRecord:
    """Declines for good: one person is enough. `reason` is shown to whoever asked, an assistant too.

    Raises InputError, NotFoundError, NotAnApprover, ApprovalClosed.
    """
    said = _checked_reason(reason)
    async with core.store.session(organization_id) as session:
        held = await _held(session, approval_id)
        approval = held.approval
        user = await require_decider(session, actor)
        _require_open(held, core.clock.now())
        await add_decision(session, core.clock, approval, user, Verdict.DECLINED, reason=said)
        close(session, core.clock, approval, ApprovalStatus.DECLINED)
        if isinstance(held.what, Batch):
            await held_batches.decline(session, core.clock, held.what, reason=said, actor=actor.name)
        else:
            await move(
                core,
                session,
                held.what,
                PaymentEvent.DECLINED,
                source="person",
                reason=f"A person declined it: {said}",
                actor=actor.name,
                note=said,
            )
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
        await move(core, session, payment, PaymentEvent.APPROVAL_EXPIRED, source="clock", reason=_UNDECIDED)


async def _void(core: Core, session: OrganizationSession, what: Payment | Batch) -> None:
    """It is not what people were asked about."""
    if isinstance(what, Batch):
        await held_batches.void(session, core.clock, what)
    else:
        await void(core, session, what)


async def _let_go(core: Core, session: OrganizationSession, what: Payment | Batch, actor: str) -> None:
    """The last person who was needed has approved it."""
    if isinstance(what, Batch):
        held_batches.let_go(session, core.clock, what, actor=actor)
        return
    now = core.clock.now()
    await move(core, session, what, PaymentEvent.APPROVED, source="person", next_action_at=now, actor=actor)


async def _held(session: OrganizationSession, approval_id: str) -> _Held:
    """What it is about first, then the approval: the order in which everybody takes them. Raises NotFoundError."""
    wanted = approval_id.strip().lower()
    found = await session.get(Approval, wanted)
    if found is None:
        raise NotFoundError("approval")
    await session.hold_organization()
    what: Payment | Batch | None
    if found.payment_id is not None:
        what = await lock_payment(session, found.payment_id)
    else:
        assert found.batch_id is not None  # an approval is about one of the two
        what = await session.lock(Batch, found.batch_id)
    approval = await session.lock(Approval, wanted)
    assert approval is not None
    assert what is not None  # rows of neither are ever deleted
    return _Held(approval, what)


def _require_open(held: _Held, now: datetime) -> None:
    """Raises ApprovalClosed."""
    status = ApprovalStatus(held.approval.status)
    if status is ApprovalStatus.PENDING and now >= held.approval.expires_at:
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
