"""Inquiries: questions to Safaricom whose answer comes by callback (a balance, a transaction's status).

They travel the way payments do (row, attempt with token, callback, outcome) but move nothing: one that is not answered
in five minutes expires and may be asked again, and a question is only repeated by asking it anew.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import update
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.credentials.shortcodes import ShortcodeUse, choose_shortcode
from mpesa_mcp.identity.principal import NotAllowed, Principal
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.models import BalanceSnapshot, Inquiry, Payment
from mpesa_mcp.payments.outcomes import lock_payment, stop_asking
from mpesa_mcp.payments.reading import inquiry_record
from mpesa_mcp.payments.records import InquiryRecord, InquiryStatus
from mpesa_mcp.payments.requests import InquiryKind, check_receipt
from mpesa_mcp.store.crossings import DueTable
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment, Role, new_id

# How long a question under way answers the next caller too; after that its answer may be lost.
_SAME_QUESTION = timedelta(seconds=60)
RECONCILIATION = "reconciliation"
_NOT_ANSWERABLE = (
    "Safaricom does not let this organization's initiator or app ask what became of it; a person must find out."
)
OPEN = [InquiryStatus.QUEUED, InquiryStatus.SENDING, InquiryStatus.PENDING]


async def ask_balance(core: Core, principal: Principal, *, max_age: timedelta) -> InquiryRecord:
    """The newest balance not older than `max_age`, or the question already under way, or a new one.

    Raises NotAllowed, ShortcodeUnavailable, CallbacksUnreachable.
    """
    if not principal.may_use("check_balance", Role.MANAGER):
        raise NotAllowed
    now = core.clock.now()
    async with core.store.session(principal.organization_id) as session:
        shortcode = await choose_shortcode(session, environment=principal.environment, use=ShortcodeUse.INQUIRY)
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
        shortcode = await choose_shortcode(session, environment=principal.environment, use=ShortcodeUse.INQUIRY)
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
            created_by=RECONCILIATION,
            payment_id=payment.id,
            original_conversation_id=conversation_id,
        )
    )


async def nobody_may_ask(core: Core, session: OrganizationSession, inquiry: Inquiry, code: str) -> None:
    """Safaricom refused to be asked by us: leaves the payment that reconciliation asked about to a person."""
    if inquiry.created_by == RECONCILIATION and inquiry.payment_id is not None:
        payment = await lock_payment(session, inquiry.payment_id)
        await stop_asking(core, session, payment, code=code, reason=_NOT_ANSWERABLE)


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
