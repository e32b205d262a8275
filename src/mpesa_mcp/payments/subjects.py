"""What an approval is about, a payment or a batch: each answers the same questions, and takes what is decided.

Whoever has it decided has locked it, and the approval. Nothing here says who may decide: that is `policy.approvers`.
"""

from dataclasses import dataclass
from typing import get_args

from mpesa_mcp.payments.batches import held as held_batches
from mpesa_mcp.payments.batches.judging import judge_again as judge_batch_again
from mpesa_mcp.payments.batches.lines import digest_of
from mpesa_mcp.payments.batches.models import Batch
from mpesa_mcp.payments.batches.submission import BatchRequest
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.held import refuse, sent_digest, void
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.outcomes import Change, lock_payment, move
from mpesa_mcp.payments.requests import PaymentRequest
from mpesa_mcp.payments.spending import judge_again
from mpesa_mcp.payments.states import PaymentEvent, PaymentKind
from mpesa_mcp.policy.approvals import Approval
from mpesa_mcp.policy.rules import Decision, Outcome
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Kes

_TOOLS = {each.kind: each.tool for each in get_args(PaymentRequest)}


@dataclass(frozen=True, slots=True)
class PaymentSubject:
    """A single payment that waits for people."""

    payment: Payment

    @property
    def kind(self) -> PaymentKind:
        return PaymentKind(self.payment.kind)

    @property
    def tool(self) -> str:
        return tool_of(self.kind)

    async def digest(self, session: OrganizationSession) -> str:
        """Of what would be sent now."""
        return sent_digest(self.payment)

    async def judged(self, session: OrganizationSession) -> tuple[Decision, str | None]:
        """What the rules in force now say, and why they refuse it, if they do. Changes nothing."""
        decision = await judge_again(session, self.payment)
        return decision, decision.said if decision.outcome is Outcome.DECLINED else None

    async def judge_again(self, core: Core, session: OrganizationSession) -> tuple[Decision, str | None]:
        """The same, and what they refuse ends."""
        decision, refused = await self.judged(session)
        if refused is not None:
            await refuse(core, session, self.payment, decision)
        return decision, refused

    async def void(self, core: Core, session: OrganizationSession) -> None:
        """It is not what people were asked about."""
        await void(core, session, self.payment)

    async def let_go(self, core: Core, session: OrganizationSession, *, actor: str) -> None:
        """The last person who was needed has approved it."""
        now = core.clock.now()
        await move(
            core, session, self.payment, Change(PaymentEvent.APPROVED, source="person", next_action_at=now, actor=actor)
        )

    async def decline(self, core: Core, session: OrganizationSession, *, reason: str, actor: str) -> None:
        await move(
            core,
            session,
            self.payment,
            Change(
                PaymentEvent.DECLINED,
                source="person",
                reason=f"A person declined it: {reason}",
                actor=actor,
                note=reason,
            ),
        )


@dataclass(frozen=True, slots=True)
class BatchSubject:
    """A batch that waits for people: all of it at once."""

    batch: Batch

    @property
    def kind(self) -> PaymentKind:
        return PaymentKind.B2C

    @property
    def tool(self) -> str:
        return tool_of(None)

    async def digest(self, session: OrganizationSession) -> str:
        return await digest_of(session, self.batch)

    async def judged(self, session: OrganizationSession) -> tuple[Decision, str | None]:
        judgement = await judge_batch_again(session, self.batch)
        decision = judgement.approval(Kes(self.batch.amount_cents), self.batch.created_at)
        return decision, judgement.refusal(self.batch.row_count)

    async def judge_again(self, core: Core, session: OrganizationSession) -> tuple[Decision, str | None]:
        decision, refused = await self.judged(session)
        if refused is not None:
            await held_batches.refuse(session, core.clock, self.batch, reason=refused)
        return decision, refused

    async def void(self, core: Core, session: OrganizationSession) -> None:
        await held_batches.void(session, core.clock, self.batch)

    async def let_go(self, core: Core, session: OrganizationSession, *, actor: str) -> None:
        held_batches.let_go(session, core.clock, self.batch, actor=actor)

    async def decline(self, core: Core, session: OrganizationSession, *, reason: str, actor: str) -> None:
        await held_batches.decline(session, core.clock, self.batch, reason=reason, actor=actor)


Subject = PaymentSubject | BatchSubject


def tool_of(kind: PaymentKind | None) -> str:
    """The tool that asks for such a payment, or a batch (None), by which plans and subscriptions allow it."""
    return BatchRequest.tool if kind is None else _TOOLS[kind]


async def subject_of(session: OrganizationSession, approval: Approval) -> Subject:
    """What it is about, locked."""
    if approval.payment_id is not None:
        return PaymentSubject(await lock_payment(session, approval.payment_id))
    assert approval.batch_id is not None  # an approval is about one of the two
    batch = await session.lock(Batch, approval.batch_id)
    assert batch is not None  # rows of batches are never deleted
    return BatchSubject(batch)


async def subject_as_read(session: OrganizationSession, approval: Approval) -> Subject:
    """What it is about, for whoever only asks."""
    if approval.payment_id is not None:
        payment = await session.get(Payment, approval.payment_id)
        assert payment is not None  # rows of payments are never deleted
        return PaymentSubject(payment)
    batch = await session.get(Batch, approval.batch_id or "")
    assert batch is not None  # nor those of batches
    return BatchSubject(batch)
