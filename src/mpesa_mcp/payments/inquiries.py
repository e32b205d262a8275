"""Inquiries: questions to Safaricom whose answer comes by callback (a balance, a transaction's status).

They travel the way payments do (row, attempt with token, callback, outcome) but move nothing: one that is not answered
in five minutes expires and may be asked again, and a question is only repeated by asking it anew.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import update
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.credentials.shortcodes import ShortcodeNeed, choose_shortcode, open_shortcode
from mpesa_mcp.daraja.conclusions import Accepted, Conclusion, NotSent, Operation, Refused, Unknown
from mpesa_mcp.daraja.operations import BalanceInquiry, StatusInquiry
from mpesa_mcp.errors import MpesaMcpError
from mpesa_mcp.identity.principal import NotAllowed, Principal
from mpesa_mcp.payments.attempts import NewAttempt, add_attempt, not_prepared, within_deadline
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.models import BalanceSnapshot, Inquiry, Payment
from mpesa_mcp.payments.outcomes import record_reply
from mpesa_mcp.payments.reading import inquiry_record
from mpesa_mcp.payments.records import InquiryRecord, InquiryStatus
from mpesa_mcp.payments.requests import InquiryKind, check_receipt
from mpesa_mcp.payments.schedule import INQUIRY_LIFE, NOT_SENT_TRIES, SEND_LEASE, resend_after
from mpesa_mcp.store.crossings import Claim, DueTable, claim_due
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment, Role, new_id

# How long a question under way answers the next caller too; after that its answer may be lost.
_SAME_QUESTION = timedelta(seconds=60)
OPEN = [InquiryStatus.QUEUED, InquiryStatus.SENDING, InquiryStatus.PENDING]
_OPERATIONS = {InquiryKind.BALANCE: Operation.BALANCE, InquiryKind.STATUS: Operation.TRANSACTION_STATUS}


async def ask_balance(core: Core, principal: Principal, *, max_age: timedelta) -> InquiryRecord:
    """The newest balance not older than `max_age`, or the question already under way, or a new one.

    Raises NotAllowed, ShortcodeUnavailable, CallbacksUnreachable.
    """
    if not principal.may_use("check_balance", Role.MANAGER):
        raise NotAllowed
    now = core.clock.now()
    async with core.store.session(principal.organization_id) as session:
        shortcode = await choose_shortcode(session, environment=principal.environment, need=ShortcodeNeed.INITIATOR)
        asked = select(Inquiry).where(
            Inquiry.kind == InquiryKind.BALANCE, Inquiry.shortcode_id == shortcode.shortcode_id
        )
        known = await session.first(
            asked.where(
                (col(Inquiry.status).in_(OPEN) & (col(Inquiry.created_at) >= now - _SAME_QUESTION))
                | ((col(Inquiry.status) == InquiryStatus.ANSWERED) & (col(Inquiry.updated_at) >= now - max_age))
            ).order_by(col(Inquiry.created_at).desc())
        )
        if known is not None and not await _moved_since(session, known):
            return inquiry_record(known)
        core.require_callbacks(principal.environment)
        inquiry = _new(
            principal.organization_id,
            InquiryKind.BALANCE,
            now,
            environment=principal.environment,
            shortcode_id=shortcode.shortcode_id,
            shortcode=shortcode.shortcode,
            created_by=principal.actor,
        )
        session.add(inquiry)
        session.wake(DueTable.INQUIRIES)
        audit.record(session, core.clock, actor=principal.actor, action="balance.asked", subject=inquiry.id)
        return inquiry_record(inquiry)


async def _moved_since(session: OrganizationSession, balance: Inquiry) -> bool:
    """Whether a payment of this shortcode was settled after Safaricom was asked: then the balance is another."""
    settled = select(Payment.id).where(
        Payment.shortcode_id == balance.shortcode_id, col(Payment.settled_at) >= balance.created_at
    )
    return await session.first(settled) is not None


async def ask_status(core: Core, principal: Principal, receipt: str) -> InquiryRecord:
    """Asks Safaricom about any receipt. Raises InputError, NotAllowed, ShortcodeUnavailable, CallbacksUnreachable."""
    if not principal.may_use("transaction_status", Role.MANAGER):
        raise NotAllowed
    check_receipt(receipt)
    core.require_callbacks(principal.environment)
    async with core.store.session(principal.organization_id) as session:
        shortcode = await choose_shortcode(session, environment=principal.environment, need=ShortcodeNeed.INITIATOR)
        ours = await session.first(
            select(Payment).where(Payment.receipt == receipt, Payment.environment == principal.environment)
        )
        inquiry = _new(
            principal.organization_id,
            InquiryKind.STATUS,
            core.clock.now(),
            environment=principal.environment,
            shortcode_id=ours.shortcode_id if ours else shortcode.shortcode_id,
            shortcode=ours.shortcode if ours else shortcode.shortcode,
            created_by=principal.actor,
            receipt=receipt,
            payment_id=ours.id if ours else None,
        )
        session.add(inquiry)
        session.wake(DueTable.INQUIRIES)
        audit.record(session, core.clock, actor=principal.actor, action="status.asked", subject=inquiry.id)
        return inquiry_record(inquiry)


def add_status_inquiry(session: OrganizationSession, payment: Payment, now: datetime, *, conversation_id: str) -> None:
    """Reconciliation's question about a payment, by the id Daraja knows it under; in the caller's transaction."""
    session.wake(DueTable.INQUIRIES)
    session.add(
        _new(
            session.organization_id,
            InquiryKind.STATUS,
            now,
            environment=Environment(payment.environment),
            shortcode_id=payment.shortcode_id,
            shortcode=payment.shortcode,
            created_by="reconciliation",
            payment_id=payment.id,
            original_conversation_id=conversation_id,
        )
    )


async def claim_queued_inquiries(core: Core, limit: int) -> Sequence[Claim]:
    """Takes inquiries that are due to be sent, for `send_inquiry`."""
    return await _claim(core, [InquiryStatus.QUEUED], limit)


async def claim_stale_inquiries(core: Core, limit: int) -> Sequence[Claim]:
    """Takes inquiries that nobody answered in time, for `expire_inquiry`."""
    return await _claim(core, [InquiryStatus.SENDING, InquiryStatus.PENDING], limit)


async def send_inquiry(core: Core, claim: Claim) -> None:
    """Sends one claimed question and records how it left."""
    now = core.clock.now()
    async with core.store.session(claim.organization_id) as session:
        inquiry = await session.get(Inquiry, claim.id)
        assert inquiry is not None
        if not await _change(
            session, claim, [InquiryStatus.QUEUED], status=InquiryStatus.SENDING, next_action_at=now + SEND_LEASE
        ):
            return
        attempt = await add_attempt(
            core,
            session,
            operation=_OPERATIONS[InquiryKind(inquiry.kind)],
            environment=Environment(inquiry.environment),
            inquiry_id=claim.id,
        )
    conclusion = await _call(core, inquiry, attempt)
    now = core.clock.now()
    async with core.store.session(claim.organization_id) as session:
        await record_reply(session, attempt.attempt_id, conclusion, now)
        session.wake(claim.id, DueTable.CALLBACKS)
        await _change(
            session,
            claim,
            [InquiryStatus.SENDING],
            updated_at=now,
            lease_until=None,
            **_after(inquiry, conclusion, now),
        )


async def expire_inquiry(core: Core, claim: Claim) -> None:
    async with core.store.session(claim.organization_id) as session:
        await _change(
            session,
            claim,
            [InquiryStatus.SENDING, InquiryStatus.PENDING],
            status=InquiryStatus.EXPIRED,
            reason="Safaricom did not answer this question in time. It moved nothing; ask again.",
            updated_at=core.clock.now(),
            next_action_at=None,
        )


async def answer_inquiry(
    session: OrganizationSession,
    inquiry_id: str,
    now: datetime,
    *,
    status: InquiryStatus,
    code: str,
    reason: str,
    answer: Mapping[str, Any] | None,
) -> bool:
    """Closes an open inquiry with what a callback said; False when it was closed before."""
    session.wake(inquiry_id)
    changed = await session.change(
        update(Inquiry)
        .where(col(Inquiry.id) == inquiry_id, col(Inquiry.status).in_(OPEN))
        .values(
            status=status,
            result_code=code,
            reason=reason,
            answer=dict(answer) if answer is not None else None,
            updated_at=now,
            next_action_at=None,
            lease_until=None,
        )
    )
    return changed == 1


def add_balance(session: OrganizationSession, inquiry: Inquiry, now: datetime, account: Mapping[str, Any]) -> None:
    """Keeps one account of a balance answer as a snapshot. `account` holds the columns' names and cents."""
    session.add(
        BalanceSnapshot(
            organization_id=session.organization_id,
            id=new_id("bal"),
            inquiry_id=inquiry.id,
            shortcode_id=inquiry.shortcode_id,
            at=now,
            **account,
        )
    )


def _new(organization_id: str, kind: InquiryKind, now: datetime, **values: Any) -> Inquiry:
    return Inquiry(
        organization_id=organization_id,
        id=new_id("inq"),
        kind=kind,
        status=InquiryStatus.QUEUED,
        created_at=now,
        updated_at=now,
        next_action_at=now,
        **values,
    )


async def _claim(core: Core, statuses: Sequence[InquiryStatus], limit: int) -> Sequence[Claim]:
    return await claim_due(
        core.store, DueTable.INQUIRIES, statuses=statuses, now=core.clock.now(), lease=SEND_LEASE, limit=limit
    )


async def _change(session: OrganizationSession, claim: Claim, expected: list[InquiryStatus], **values: Any) -> bool:
    changed = await session.change(
        update(Inquiry)
        .where(col(Inquiry.id) == claim.id, col(Inquiry.status).in_(expected), col(Inquiry.fence) == claim.fence)
        .values(**values)
    )
    return changed == 1


def _after(inquiry: Inquiry, conclusion: Conclusion, now: datetime) -> dict[str, Any]:
    match conclusion:
        case Accepted() | Unknown():
            # Unclear or not, the answer may come; asking twice would harm nobody but the rate limit.
            return {"status": InquiryStatus.PENDING, "next_action_at": now + INQUIRY_LIFE}
        case NotSent() if inquiry.not_sent_count + 1 < NOT_SENT_TRIES:
            tried = inquiry.not_sent_count + 1
            again = now + resend_after(tried, conclusion.retry_after_seconds)
            return {
                "status": InquiryStatus.QUEUED,
                "next_action_at": again,
                "not_sent_count": tried,
                "reason": conclusion.reason,
            }
        case NotSent() | Refused():
            return {
                "status": InquiryStatus.FAILED,
                "result_code": conclusion.code,
                "reason": conclusion.reason,
                "next_action_at": None,
            }


async def _call(core: Core, inquiry: Inquiry, attempt: NewAttempt) -> Conclusion:
    try:
        shortcode = await open_shortcode(
            core.store, core.keyring, core.settings, inquiry.organization_id, inquiry.shortcode_id
        )
        initiator = shortcode.require_initiator()
        if InquiryKind(inquiry.kind) is InquiryKind.BALANCE:
            call = core.daraja.balance(
                shortcode.app,
                BalanceInquiry(
                    shortcode=shortcode.shortcode,
                    shortcode_type=shortcode.type,
                    initiator=initiator,
                    remarks="Balance",
                    result_url=attempt.result_url,
                    timeout_url=attempt.timeout_url,
                ),
            )
        else:
            call = core.daraja.transaction_status(
                shortcode.app,
                StatusInquiry(
                    shortcode=shortcode.shortcode,
                    shortcode_type=shortcode.type,
                    initiator=initiator,
                    receipt=inquiry.receipt,
                    original_conversation_id=inquiry.original_conversation_id,
                    remarks="Status",
                    result_url=attempt.result_url,
                    timeout_url=attempt.timeout_url,
                ),
            )
    except MpesaMcpError as problem:
        return not_prepared(problem)
    return await within_deadline(call)
