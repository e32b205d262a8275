"""Sending inquiries: one claimed question, one call to Daraja; and closing those that nobody answers.

A question somebody waits for expires in the queue, too, if it cannot be sent in time; reconciliation's waits there.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import update
from sqlmodel import col

from mpesa_mcp.daraja.circuits import Turn
from mpesa_mcp.daraja.conclusions import (
    TOKEN_REFUSALS,
    Accepted,
    Conclusion,
    Held,
    NotSent,
    Operation,
    Refused,
    Unknown,
)
from mpesa_mcp.daraja.operations import BalanceInquiry, StatusInquiry
from mpesa_mcp.errors import MpesaMcpError
from mpesa_mcp.payments.attempts import NewAttempt, add_attempt, not_prepared, within_deadline, written_down
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.inquiries import RECONCILIATION, nobody_may_ask
from mpesa_mcp.payments.models import Inquiry
from mpesa_mcp.payments.records import InquiryStatus
from mpesa_mcp.payments.replies import record_replies
from mpesa_mcp.payments.requests import InquiryKind
from mpesa_mcp.payments.schedule import INQUIRY_LIFE, NOT_SENT_TRIES, SEND_LEASE, inquiry_life, resend_after
from mpesa_mcp.store.crossings import Claim, DueTable, claim_due
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment

_OPERATIONS = {InquiryKind.BALANCE: Operation.BALANCE, InquiryKind.STATUS: Operation.TRANSACTION_STATUS}


async def claim_queued_inquiries(core: Core, limit: int, passing_over: Collection[str] = ()) -> Sequence[Claim]:
    """Takes inquiries that are due to be sent, for `send_inquiry`."""
    return await _claim(core, [InquiryStatus.QUEUED], limit, passing_over)


async def claim_stale_inquiries(core: Core, limit: int, passing_over: Collection[str] = ()) -> Sequence[Claim]:
    """Takes inquiries that nobody answered in time, for `expire_inquiry`."""
    return await _claim(core, [InquiryStatus.SENDING, InquiryStatus.PENDING], limit, passing_over)


async def send_inquiry(core: Core, claim: Claim) -> None:
    """Sends one claimed question and records how it left; or puts it back while its app is paused."""
    async with core.store.reading(claim.organization_id) as session:
        inquiry = await session.get(Inquiry, claim.id)
    assert inquiry is not None
    if core.clock.now() >= _given_up_at(inquiry):
        await _expire(core, claim, [InquiryStatus.QUEUED])
        return
    try:
        shortcode = await core.shortcodes.open(inquiry.organization_id, inquiry.shortcode_id)
        shortcode.require_initiator()
    except MpesaMcpError as problem:
        await _conclude(core, claim, inquiry, None, not_prepared(problem))
        return
    async with core.daraja.turn(shortcode.app) as turn:
        if isinstance(turn, Held):
            await _put_back(core, claim, inquiry, turn.until)
            return
        attempt = await _commit_attempt(core, claim, inquiry)
        if attempt is None:
            return
        conclusion = await _call(core, inquiry, attempt, turn)
    await written_down(lambda: _conclude(core, claim, inquiry, attempt, conclusion))


async def expire_inquiry(core: Core, claim: Claim) -> None:
    """Closes one claimed question that was sent and not answered in time."""
    await _expire(core, claim, [InquiryStatus.SENDING, InquiryStatus.PENDING])


async def _commit_attempt(core: Core, claim: Claim, inquiry: Inquiry) -> NewAttempt | None:
    async with core.store.session(claim.organization_id) as session:
        due = core.clock.now() + SEND_LEASE
        if not await _change(session, claim, [InquiryStatus.QUEUED], status=InquiryStatus.SENDING, next_action_at=due):
            return None
        return await add_attempt(
            core,
            session,
            operation=_OPERATIONS[InquiryKind(inquiry.kind)],
            environment=Environment(inquiry.environment),
            inquiry_id=claim.id,
        )


async def _put_back(core: Core, claim: Claim, inquiry: Inquiry, until: datetime) -> None:
    """Not tried, so no try is used up; looked at again when it is too old, should that come first."""
    due = min(until, _given_up_at(inquiry))
    async with core.store.session(claim.organization_id) as session:
        await _change(session, claim, [InquiryStatus.QUEUED], next_action_at=due, lease_until=None)


async def _conclude(
    core: Core, claim: Claim, inquiry: Inquiry, attempt: NewAttempt | None, conclusion: Conclusion
) -> None:
    now = core.clock.now()
    async with core.store.session(claim.organization_id) as session:
        if isinstance(conclusion, Refused) and conclusion.code in TOKEN_REFUSALS:
            # A token that was refused twice: the app lacks the product for questions (daraja/codes.md §6).
            await nobody_may_ask(core, session, inquiry, conclusion.code)
        if attempt is not None:
            await record_replies(session, {attempt.attempt_id: conclusion}, now)
        session.wake(claim.id)
        expected = [InquiryStatus.QUEUED] if attempt is None else [InquiryStatus.SENDING]
        after = _after(core, inquiry, conclusion, now)
        await _change(session, claim, expected, updated_at=now, lease_until=None, **after)


async def _expire(core: Core, claim: Claim, expected: list[InquiryStatus]) -> None:
    async with core.store.session(claim.organization_id) as session:
        session.wake(claim.id)
        await _change(
            session,
            claim,
            expected,
            status=InquiryStatus.EXPIRED,
            reason="Safaricom did not answer this question in time. It moved nothing; ask again.",
            updated_at=core.clock.now(),
            next_action_at=None,
            lease_until=None,
        )


async def _claim(
    core: Core, statuses: Sequence[InquiryStatus], limit: int, passing_over: Collection[str]
) -> Sequence[Claim]:
    return await claim_due(
        core.store,
        DueTable.INQUIRIES,
        statuses=statuses,
        now=core.clock.now(),
        lease=SEND_LEASE,
        limit=limit,
        passing_over=passing_over,
    )


async def _change(session: OrganizationSession, claim: Claim, expected: list[InquiryStatus], **values: Any) -> bool:
    changed = await session.change(
        update(Inquiry)
        .where(col(Inquiry.id) == claim.id, col(Inquiry.status).in_(expected), col(Inquiry.fence) == claim.fence)
        .values(**values)
    )
    return changed == 1


def _after(core: Core, inquiry: Inquiry, conclusion: Conclusion, now: datetime) -> dict[str, Any]:
    match conclusion:
        case Accepted() | Unknown():
            # Unclear or not, the answer may come; asking twice would harm nobody but the rate limit.
            return {"status": InquiryStatus.PENDING, "next_action_at": now + _life(core, inquiry)}
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


def _given_up_at(inquiry: Inquiry) -> datetime:
    """Until when it is worth sending."""
    if inquiry.created_by == RECONCILIATION:
        return datetime.max.replace(tzinfo=UTC)
    return inquiry.created_at + INQUIRY_LIFE


def _life(core: Core, inquiry: Inquiry) -> timedelta:
    """What reconciliation asks keeps reconciliation's time; somebody waits for the answer to anything else."""
    speed = core.reconcile_speed(Environment(inquiry.environment))
    return inquiry_life(speed) if inquiry.created_by == RECONCILIATION else INQUIRY_LIFE


async def _call(core: Core, inquiry: Inquiry, attempt: NewAttempt, turn: Turn) -> Conclusion:
    try:
        # Opened again: its secrets may have been changed while the turn was waited for.
        shortcode = await core.shortcodes.open(inquiry.organization_id, inquiry.shortcode_id)
        initiator = shortcode.require_initiator()
    except MpesaMcpError as problem:
        return not_prepared(problem)
    if InquiryKind(inquiry.kind) is InquiryKind.BALANCE:
        question = BalanceInquiry(
            shortcode=shortcode.shortcode,
            shortcode_type=shortcode.type,
            initiator=initiator,
            remarks="Balance",
            result_url=attempt.result_url,
            timeout_url=attempt.timeout_url,
        )
        return await within_deadline(core.daraja.balance(shortcode.app, question, turn=turn), turn)
    about = StatusInquiry(
        shortcode=shortcode.shortcode,
        shortcode_type=shortcode.type,
        initiator=initiator,
        receipt=inquiry.receipt,
        original_conversation_id=inquiry.original_conversation_id,
        remarks="Status",
        result_url=attempt.result_url,
        timeout_url=attempt.timeout_url,
    )
    return await within_deadline(core.daraja.transaction_status(shortcode.app, about, turn=turn), turn)
