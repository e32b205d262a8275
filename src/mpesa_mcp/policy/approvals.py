"""Approvals: what waits for a person, and who has decided what about it.

Who may decide is in `approvers`. Nothing here moves a payment; `payments.approving` does, in the same transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import JSON, ForeignKeyConstraint, Index, UniqueConstraint, and_
from sqlmodel import Field, col, select

from mpesa_mcp import audit
from mpesa_mcp.audit.models import MAX_CLIENT
from mpesa_mcp.identity.models import User
from mpesa_mcp.identity.origins import Origin, origins_of
from mpesa_mcp.store.tables import OrganizationTable, cents, moment
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock, Environment, Kes, clean_foreign_text, new_id

APPROVAL_LIFE = timedelta(hours=24)


class ApprovalStatus(StrEnum):
    """Only a pending one can still be decided. `void`: what would be sent is not what was asked for any more."""

    PENDING = "pending"
    APPROVED = "approved"
    DECLINED = "declined"
    EXPIRED = "expired"
    VOID = "void"


class Verdict(StrEnum):
    """What one person decides."""

    APPROVED = "approved"
    DECLINED = "declined"


class Approval(OrganizationTable, table=True):
    """One request to people: to let a payment, or a batch, be sent as its digest says."""

    __tablename__ = "approvals"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "payment_id"],
            ["payments.organization_id", "payments.id"],
            name="fk_approvals_payment",
        ),
        UniqueConstraint("organization_id", "payment_id", name="uq_approvals_payment"),
        Index("ix_approvals_batch", "organization_id", "batch_id"),
        Index("ix_approvals_status", "organization_id", "status", "id"),
    )

    id: str = Field(primary_key=True, max_length=40)
    payment_id: str | None = Field(default=None, max_length=40)
    batch_id: str | None = Field(default=None, max_length=40)
    environment: str = Field(max_length=20)
    # How many payments it is about, and their sum.
    payment_count: int
    amount_cents: int = cents()
    digest: str = Field(max_length=64)
    approvers_needed: int
    status: str = Field(max_length=20)
    reasons: list[dict[str, str]] = Field(sa_type=JSON)
    asked_by: str = Field(max_length=120)
    # The client's own name for itself.
    asked_through: str | None = Field(default=None, max_length=MAX_CLIENT)
    asked_at: datetime = moment()
    expires_at: datetime = moment()
    closed_at: datetime | None = moment(nullable=True)


class ApprovalDecision(OrganizationTable, table=True):
    """What one person decided about this digest: each of the two at most once. A row is never changed."""

    __tablename__ = "approval_decisions"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "approval_id"],
            ["approvals.organization_id", "approvals.id"],
            name="fk_approval_decisions_approval",
        ),
        ForeignKeyConstraint(
            ["organization_id", "user_id"], ["users.organization_id", "users.id"], name="fk_approval_decisions_user"
        ),
    )

    approval_id: str = Field(primary_key=True, max_length=40)
    user_id: str = Field(primary_key=True, max_length=40)
    verdict: str = Field(primary_key=True, max_length=20)
    digest: str = Field(max_length=64)
    reason: str | None = Field(default=None, max_length=200)
    at: datetime = moment()


@dataclass(frozen=True, slots=True)
class HeldBy:
    """Why it waits for a person: the rule's code and scope, and a sentence of ours."""

    code: str
    scope: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToApprove:
    """What is to be approved: a payment or a batch, by its id; `digest` says exactly what will be sent."""

    payment_id: str | None = None
    batch_id: str | None = None
    environment: Environment
    payment_count: int = 1
    amount: Kes
    digest: str
    approvers: int
    reasons: Sequence[HeldBy]


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """What one person decided, and where that person's account comes from. Times in UTC.

    `counts`: it is an approval, and while more are needed whoever gave it may still decide.
    """

    user_id: str
    email: str
    verdict: Verdict
    reason: str | None
    at: datetime
    account: Origin
    counts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRecord:
    """An approval as read. Times in UTC."""

    approval_id: str
    payment_id: str | None
    batch_id: str | None
    environment: Environment
    payment_count: int
    amount: Kes
    digest: str
    approvers_needed: int
    status: ApprovalStatus
    reasons: Sequence[HeldBy]
    asked_by: str
    asked_through: str | None
    asked_at: datetime
    expires_at: datetime
    closed_at: datetime | None
    decisions: Sequence[DecisionRecord]

    @property
    def approvals(self) -> int:
        """How many approvals it has of those that it needs."""
        return min(sum(each.counts for each in self.decisions), self.approvers_needed)


def add_approval(session: OrganizationSession, clock: Clock, wanted: ToApprove, *, asked_by: str) -> Approval:
    """Asks for an approval, in the transaction that stores what is to be approved."""
    now = clock.now()
    row = Approval(
        organization_id=session.organization_id,
        id=new_id("apr"),
        payment_id=wanted.payment_id,
        batch_id=wanted.batch_id,
        environment=wanted.environment,
        payment_count=wanted.payment_count,
        amount_cents=wanted.amount.cents,
        digest=wanted.digest,
        approvers_needed=wanted.approvers,
        status=ApprovalStatus.PENDING,
        reasons=[asdict(reason) for reason in wanted.reasons],
        asked_by=asked_by,
        asked_through=clean_foreign_text(audit.circumstances().client, limit=MAX_CLIENT),
        asked_at=now,
        expires_at=now + APPROVAL_LIFE,
    )
    session.add(row)
    note(session, clock, row, actor=asked_by, action="asked")
    return row


async def approval_records(session: OrganizationSession, rows: Sequence[Approval]) -> Sequence[ApprovalRecord]:
    """These approvals with what has been decided about them, in the same order."""
    told = (
        select(ApprovalDecision)
        .add_columns(User)
        .join(
            User,
            and_(
                col(User.organization_id) == col(ApprovalDecision.organization_id),
                col(User.id) == col(ApprovalDecision.user_id),
            ),
        )
        .where(col(ApprovalDecision.approval_id).in_([row.id for row in rows]))
        .order_by(col(ApprovalDecision.at))
    )
    asked = {row.id: row for row in rows}
    decided: dict[str, list[DecisionRecord]] = {row.id: [] for row in rows}
    found = await session.rows(told)
    origins = await origins_of(session, {decision.user_id for decision, _ in found})
    for decision, user in found:
        row, verdict = asked[decision.approval_id], Verdict(decision.verdict)
        is_over = ApprovalStatus(row.status) is not ApprovalStatus.PENDING
        counts = verdict is Verdict.APPROVED and (is_over or still_counts(user, row))
        account = origins[decision.user_id]
        decided[decision.approval_id].append(
            DecisionRecord(user.id, user.email, verdict, decision.reason, decision.at, account, counts)
        )
    return [_record(row, decided[row.id]) for row in rows]


def still_counts(user: User, approval: Approval) -> bool:
    """Whether an approval that this person has given counts: not of who is no org_admin any more, or became it anew."""
    return user.is_org_admin and user.had_role_before(approval.asked_at)


async def add_decision(
    session: OrganizationSession,
    clock: Clock,
    approval: Approval,
    user: User,
    verdict: Verdict,
    *,
    reason: str | None = None,
) -> None:
    """What this person decided. The row's key keeps anybody from counting twice.

    The audit tells where the account comes from: a second one of somebody's own is noticed there or nowhere.
    """
    session.add(
        ApprovalDecision(
            organization_id=session.organization_id,
            approval_id=approval.id,
            user_id=user.id,
            verdict=verdict,
            digest=approval.digest,
            reason=reason,
            at=clock.now(),
        )
    )
    account = (await origins_of(session, [user.id]))[user.id]
    note(session, clock, approval, actor=f"user:{user.id}", action=verdict, reasons=reason, more=account.for_audit)


def ask_more_people(
    session: OrganizationSession, clock: Clock, approval: Approval, *, approvers: int, reasons: Sequence[HeldBy]
) -> None:
    """Has more people approve, for these reasons, where the rules want more by now; never fewer than were asked."""
    if approvers > approval.approvers_needed:
        approval.approvers_needed = approvers
        approval.reasons = [asdict(reason) for reason in reasons]
        note(session, clock, approval, actor="system", action="raised")


def close(session: OrganizationSession, clock: Clock, approval: Approval, status: ApprovalStatus) -> None:
    """Ends an approval, locked by the caller. `expired` and `void` nobody decided, so they are told here."""
    approval.status, approval.closed_at = status, clock.now()
    session.wake(approval.id)
    if status in {ApprovalStatus.EXPIRED, ApprovalStatus.VOID}:
        note(session, clock, approval, actor="system", action=status)


def note(
    session: OrganizationSession,
    clock: Clock,
    approval: Approval,
    *,
    actor: str,
    action: str,
    reasons: str | None = None,
    more: Mapping[str, str] | None = None,
) -> None:
    """Tells the audit what became of an approval."""
    detail: dict[str, audit.Plain] = {"digest": approval.digest, "approvers_needed": approval.approvers_needed}
    for name in ("payment_id", "batch_id"):
        if (subject := getattr(approval, name)) is not None:
            detail[name] = subject
    audit.record(
        session,
        clock,
        actor=actor,
        action=f"approval.{action}",
        subject=approval.id,
        reasons=reasons,
        detail={**detail, **(more or {})},
    )


def _record(row: Approval, decisions: Sequence[DecisionRecord]) -> ApprovalRecord:
    return ApprovalRecord(
        approval_id=row.id,
        payment_id=row.payment_id,
        batch_id=row.batch_id,
        environment=Environment(row.environment),
        payment_count=row.payment_count,
        amount=Kes(row.amount_cents),
        digest=row.digest,
        approvers_needed=row.approvers_needed,
        status=ApprovalStatus(row.status),
        reasons=[HeldBy(**reason) for reason in row.reasons],
        asked_by=row.asked_by,
        asked_through=row.asked_through,
        asked_at=row.asked_at,
        expires_at=row.expires_at,
        closed_at=row.closed_at,
        decisions=decisions,
    )
