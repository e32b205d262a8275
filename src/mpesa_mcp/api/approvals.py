"""Approvals: what waits for people, and what they decide. Only a person decides; programs may read."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import Field, JsonValue

from mpesa_mcp.api.examples import (
    APPROVAL,
    AT,
    DIGEST,
    JANE,
    JANES_ADDRESS,
    KEY,
    NEXT_DAY,
    PAYMENT,
    SOON,
    example,
    example_of,
)
from mpesa_mcp.api.payments import PaymentAnswer, payment_answer
from mpesa_mcp.api.permissions import allow
from mpesa_mcp.api.routes import Call, Calling, PermittedRoute
from mpesa_mcp.api.shapes import Answer, Body, Cursor, Limit, Moment, Page
from mpesa_mcp.billing.states import Act
from mpesa_mcp.payments import approving
from mpesa_mcp.payments.approval_reading import AskedFor, ToDecide, approval_to_decide, list_approvals
from mpesa_mcp.policy.approvals import ApprovalStatus, Verdict
from mpesa_mcp.values import Environment, Kes, Msisdn, Role

router = APIRouter(prefix="/approvals", tags=["approvals"], route_class=PermittedRoute)

ApprovalId = Annotated[str, Path(max_length=80)]
# How a payment differs that waits.
_WAITING: dict[str, JsonValue] = {
    "status": "awaiting_approval",
    "final": False,
    "amount": "15000.00",
    "reference": "INV-1043",
    "receipt": None,
    "result_code": None,
    "reason": None,
    "untrusted_text": None,
    "updated_at": AT,
}


class HeldByAnswer(Answer):
    """Which rule wants a person."""

    model_config = example(
        code="approval_above",
        scope="organization",
        sentence="The organization's rule asks a person to approve what is above KES 10,000.00.",
    )
    code: str
    scope: str
    sentence: str


class AccountAnswer(Answer):
    """Who let this person in, and when: two accounts may be one human being's."""

    model_config = example(made_at=AT, made_by="operator:root", maker="operator:root", in_role_since=AT)
    made_at: Moment
    made_by: str = Field(description="Who invited, where somebody did.")
    maker: str = Field(description="The address of that person, where it is one of the organization.")
    in_role_since: Moment


class DecisionAnswer(Answer):
    model_config = example(user_id=JANE, email=JANES_ADDRESS, verdict="approved", at=SOON)
    user_id: str
    email: str
    verdict: Verdict
    reason: str | None
    at: Moment
    account: AccountAnswer


class ApprovalAnswer(Answer):
    """One approval. `amount` in KES; of a batch the sum of its payments."""

    model_config = example(
        approval_id=APPROVAL,
        status="pending",
        payment_id=PAYMENT,
        environment="simulator",
        payment_count=1,
        amount="15000.00",
        digest=DIGEST,
        approvals=0,
        approvers_needed=1,
        asked_by=f"key:{KEY}",
        asker="my assistant",
        asked_through="claude-desktop 1.4",
        asked_at=AT,
        expires_at=NEXT_DAY,
        decisions=[],
        url=f"https://pay.example/console/approvals/{APPROVAL}",
        payment=example_of(PaymentAnswer) | _WAITING,
    )
    approval_id: str
    status: ApprovalStatus
    payment_id: str | None
    batch_id: str | None
    batch_name: str | None
    environment: Environment
    payment_count: int
    amount: str
    currency: Literal["KES"] = "KES"
    digest: str = Field(description="Of exactly what will be sent. Give it with `approve`, to approve what you saw.")
    approvals: int
    approvers_needed: int
    held_by: list[HeldByAnswer]
    asked_by: str
    asker: str = Field(description="The name of the key, or the person's address.")
    asked_through: str | None = Field(description="What the client calls itself; it may say anything.")
    asked_at: Moment
    expires_at: Moment
    closed_at: Moment | None
    decisions: list[DecisionAnswer]
    url: str
    payment: PaymentAnswer | None


class SendingAnswer(Answer):
    """Exactly what will be sent. The number is in full only for whoever may decide."""

    model_config = example(
        phone="2547*****678",
        amount="15000.00",
        shortcode="174379",
        reference="INV-1043",
        description="",
        remarks="Invoice 1043",
        purpose="business",
        occasion="",
    )
    phone: str
    amount: str
    shortcode: str
    reference: str
    description: str
    remarks: str
    purpose: str
    occasion: str
    reversed_receipt: str | None


class ApprovalToDecide(ApprovalAnswer):
    sending: SendingAnswer | None
    earlier_payments: list[PaymentAnswer] = Field(
        description="The last ones to the same number, within a year; while it waits, later ones, too."
    )


class Approve(Body):
    model_config = example(digest=DIGEST)
    digest: str | None = Field(default=None, min_length=64, max_length=64, description="The one that you saw.")


class Decline(Body):
    model_config = example(reason="The invoice was paid in cash.")
    reason: Annotated[str, Field(min_length=2, max_length=200, description="Shown to whoever asked.")]


_NO_DIGEST = Approve()


@router.get("")
@allow(Role.USER)
async def list_(
    call: Call,
    status: ApprovalStatus | None = None,
    environment: Annotated[Environment | None, Query(description="By default all; a key sees its own.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ApprovalAnswer]:
    """List approvals, newest first."""
    page = await list_approvals(
        call.core,
        call.organization_id,
        environment=_readable(call, environment),
        status=status,
        limit=limit,
        cursor=cursor,
    )
    return Page(items=[_answer(call, each) for each in page.items], next_cursor=page.next_cursor)


@router.get("/{approval_id}")
@allow(Role.USER)
async def read(call: Call, approval_id: ApprovalId) -> ApprovalToDecide:
    """Read one approval: what will be sent, who asked, why it is held, and what went to the same number before."""
    return await _to_decide(call, approval_id)


@router.post("/{approval_id}/approve")
@allow(Role.ORG_ADMIN, person=True, act=Act.PAY_OUT)
async def approve(call: Call, approval_id: ApprovalId, body: Approve = _NO_DIGEST) -> ApprovalToDecide:
    """Approve it. With the last approval that is needed it is sent."""
    await approving.approve(call.core, call.organization_id, approval_id, actor=call.actor, digest=body.digest)
    return await _to_decide(call, approval_id)


@router.post("/{approval_id}/decline")
@allow(Role.ORG_ADMIN, person=True)
async def decline(call: Call, approval_id: ApprovalId, body: Decline) -> ApprovalToDecide:
    """Decline it for good. Nothing is sent, and whoever asked is told the reason."""
    await approving.decline(call.core, call.organization_id, approval_id, actor=call.actor, reason=body.reason)
    return await _to_decide(call, approval_id)


def _readable(call: Calling, asked: Environment | None) -> Environment | None:
    """A key only ever sees its own environment."""
    return asked if call.principal.user_id is not None else call.principal.environment


async def _to_decide(call: Calling, approval_id: str) -> ApprovalToDecide:
    found = await approval_to_decide(
        call.core, call.organization_id, approval_id, environment=_readable(call, asked=None)
    )
    return ApprovalToDecide(
        **_answer(call, found).model_dump(),
        sending=_sending(call, found),
        earlier_payments=[payment_answer(each) for each in found.earlier],
    )


def _answer(call: Calling, found: AskedFor) -> ApprovalAnswer:
    approval = found.approval
    return ApprovalAnswer(
        approval_id=approval.approval_id,
        status=approval.status,
        payment_id=approval.payment_id,
        batch_id=approval.batch_id,
        batch_name=found.batch.name if found.batch is not None else None,
        environment=approval.environment,
        payment_count=approval.payment_count,
        amount=str(approval.amount),
        digest=approval.digest,
        approvals=approval.approvals,
        approvers_needed=approval.approvers_needed,
        held_by=[HeldByAnswer.model_validate(reason) for reason in approval.reasons],
        asked_by=approval.asked_by,
        asker=found.asker,
        asked_through=approval.asked_through,
        asked_at=approval.asked_at,
        expires_at=approval.expires_at,
        closed_at=approval.closed_at,
        decisions=[DecisionAnswer.model_validate(decision) for decision in approval.decisions],
        url=call.core.settings.approval_url(approval.approval_id),
        payment=payment_answer(found.payment) if found.payment is not None else None,
    )


def _sending(call: Calling, found: ToDecide) -> SendingAnswer | None:
    if found.sending is None:
        return None
    sending, phone = found.sending, Msisdn(found.sending.phone)
    decides = call.principal.is_person and call.principal.role is Role.ORG_ADMIN
    return SendingAnswer(
        phone=phone.digits if decides else phone.masked,
        amount=str(Kes(sending.amount_cents)),
        shortcode=sending.shortcode,
        reference=sending.reference,
        description=sending.description,
        remarks=sending.remarks,
        purpose=sending.purpose,
        occasion=sending.occasion,
        reversed_receipt=sending.reversed_receipt,
    )
