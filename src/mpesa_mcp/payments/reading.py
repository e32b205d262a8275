"""Reading payments and inquiries: one, many, and waiting for one to settle. A caller sees its own environment."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

import anyio
from sqlalchemy import ColumnElement, or_
from sqlmodel import col, select

from mpesa_mcp.errors import InputError, NotFoundError
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.models import Attempt, BalanceSnapshot, Inquiry, Payment, PaymentHistory
from mpesa_mcp.payments.records import (
    AccountBalance,
    AskedApproval,
    HistoryLine,
    InquiryRecord,
    InquiryStatus,
    PaymentRecord,
)
from mpesa_mcp.payments.requests import InquiryKind, PageAsked, PaymentFilter
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.policy.approvals import APPROVAL_LIFE
from mpesa_mcp.values import Environment, Kes, Msisdn, eat_day_bounds

Progress = Callable[[float], Awaitable[None]]
Found = TypeVar("Found")
_PROGRESS_EVERY_SECONDS = 2.0
_LONGEST_SLEEP_SECONDS = 0.5
_CONTRADICTED = (
    "Safaricom contradicts itself about this, so the money may have moved; a person must find out which is true."
)
NOBODY_KNOWS = "Nobody could say what became of this, and no further question is scheduled."
# Calls of one organization that wait at the same time.
MOST_WAITING = 64


@dataclass(frozen=True, slots=True)
class PaymentPage:
    payments: Sequence[PaymentRecord]
    next_cursor: str | None


async def find_payment(core: Core, principal: Principal, any_id: str) -> PaymentRecord:
    """The payment with this id, receipt, Daraja id or idempotency key, tried in this order. Raises NotFoundError."""
    async with core.store.looking(principal.organization_id) as session:
        for condition in _ways_to_name(any_id):
            found = await session.first(
                select(Payment).where(condition, col(Payment.environment) == principal.environment)
            )
            if found is not None:
                return payment_record(found)
    raise NotFoundError("payment")


async def list_payments(
    core: Core,
    principal: Principal,
    *,
    from_date: date | None,
    to_date: date | None,
    narrowed: PaymentFilter,
    page: PageAsked,
) -> PaymentPage:
    """Newest first. The cursor is the id of the last payment of the page before."""
    statement = (
        select(Payment)
        .where(*conditions(principal.environment, from_date, to_date, narrowed))
        .order_by(col(Payment.created_at).desc(), col(Payment.id).desc())
    )
    async with core.store.looking(principal.organization_id) as session:
        if page.cursor is not None:
            last = await session.get(Payment, page.cursor)
            if last is None or last.environment != principal.environment:
                raise InputError("cursor must be the next_cursor of an earlier page.", field="cursor")
            # Two conditions: the first is a range of the index, the second takes out what was seen at that moment.
            statement = statement.where(
                col(Payment.created_at) <= last.created_at,
                or_(col(Payment.created_at) < last.created_at, col(Payment.id) < last.id),
            )
        rows = await session.all(statement.limit(page.limit + 1))
    shown = [payment_record(row) for row in rows[: page.limit]]
    return PaymentPage(shown, shown[-1].payment_id if len(rows) > page.limit else None)


async def payments_of(core: Core, organization_id: str, *, status: str | None, limit: int) -> Sequence[PaymentRecord]:
    """The newest payments of an organization in all environments, for its operator. Raises InputError."""
    if status is not None and status not in set(PaymentStatus):
        raise InputError(f"status must be one of: {', '.join(PaymentStatus)}.", field="status")
    statement = select(Payment).order_by(col(Payment.created_at).desc(), col(Payment.id).desc()).limit(limit)
    if status is not None:
        statement = statement.where(Payment.status == status)
    async with core.store.reading(organization_id) as session:
        return [payment_record(row) for row in await session.all(statement)]


async def payment_of(core: Core, organization_id: str, any_id: str) -> PaymentRecord:
    """As `find_payment`, in any environment, for the organization's operator. Raises NotFoundError."""
    async with core.store.reading(organization_id) as session:
        for condition in _ways_to_name(any_id):
            row = await session.first(select(Payment).where(condition))
            if row is not None:
                return payment_record(row)
    raise NotFoundError("payment")


async def history_of(core: Core, organization_id: str, payment_id: str) -> Sequence[HistoryLine]:
    """Everything that happened to a payment, oldest first."""
    async with core.store.reading(organization_id) as session:
        lines = await session.all(
            select(PaymentHistory).where(PaymentHistory.payment_id == payment_id).order_by(col(PaymentHistory.id))
        )
    return [
        HistoryLine(line.at, line.event, line.from_status, line.to_status, line.source, line.code, line.note)
        for line in lines
    ]


async def balances_of(core: Core, organization_id: str, inquiry_id: str) -> Sequence[AccountBalance]:
    """The accounts that one balance answer told of."""
    told = select(BalanceSnapshot).where(BalanceSnapshot.inquiry_id == inquiry_id).order_by(col(BalanceSnapshot.id))
    async with core.store.reading(organization_id) as session:
        return [
            AccountBalance(
                account=row.account,
                currency=row.currency,
                current=Kes(row.current_cents),
                available=Kes(row.available_cents),
                reserved=Kes(row.reserved_cents),
                uncleared=Kes(row.uncleared_cents),
            )
            for row in await session.all(told)
        ]


async def wait_until_settled(
    core: Core, payment: PaymentRecord, *, seconds: float, progress: Progress
) -> PaymentRecord:
    """The payment once it is settled or needs a person, or as it stands when the time is up."""

    async def look() -> tuple[PaymentRecord, bool]:
        async with core.store.reading(payment.organization_id) as session:
            row = await session.get(Payment, payment.payment_id)
        assert row is not None
        record = payment_record(row)
        return record, record.status.is_settled or record.status is PaymentStatus.AWAITING_APPROVAL

    return await _wait(core, payment.organization_id, payment.payment_id, look, seconds=seconds, progress=progress)


async def wait_until_answered(
    core: Core, organization_id: str, inquiry_id: str, *, seconds: float, progress: Progress
) -> InquiryRecord:
    """The inquiry once it is closed, or as it stands when the time is up."""

    async def look() -> tuple[InquiryRecord, bool]:
        async with core.store.reading(organization_id) as session:
            row = await session.get(Inquiry, inquiry_id)
        assert row is not None
        record = inquiry_record(row)
        return record, record.status.is_final

    return await _wait(core, organization_id, inquiry_id, look, seconds=seconds, progress=progress)


async def _wait(
    core: Core,
    organization_id: str,
    row_id: str,
    look: Callable[[], Awaitable[tuple[Found, bool]]],
    *,
    seconds: float,
    progress: Progress,
) -> Found:
    """Looks after every commit about this row, tells the caller now and then that it still waits, gives up in time.

    An organization for which many calls wait already is told at once how the row stands: each of them looks again and
    again, and all organizations share the database.
    """
    if core.waiting[organization_id] >= MOST_WAITING:
        return (await look())[0]
    start = anyio.current_time()
    told = 0.0
    core.waiting.update((organization_id, row_id))
    try:
        while True:
            token = core.store.wakeups.token(row_id)
            found, done = await look()
            waited = anyio.current_time() - start
            if done or waited >= seconds:
                return found
            if waited - told >= _PROGRESS_EVERY_SECONDS:
                told = waited
                await progress(waited)
            await core.store.wakeups.wait(token, min(_LONGEST_SLEEP_SECONDS, seconds - waited))
    finally:
        core.waiting.subtract((organization_id, row_id))
        if not core.waiting[row_id]:
            core.store.wakeups.forget(row_id)
        for nobody in [each for each in (organization_id, row_id) if not core.waiting[each]]:
            del core.waiting[nobody]


def conditions(
    environment: Environment, from_date: date | None, to_date: date | None, narrowed: PaymentFilter
) -> list[ColumnElement[bool]]:
    """The WHERE of a list or a report; days are Nairobi days by when the payment was asked for."""
    wanted = [col(Payment.environment) == environment]
    if from_date is not None:
        wanted.append(col(Payment.created_at) >= eat_day_bounds(from_date, from_date)[0])
    if to_date is not None:
        wanted.append(col(Payment.created_at) < eat_day_bounds(to_date, to_date)[1])
    if narrowed.kind is not None:
        wanted.append(col(Payment.kind) == narrowed.kind)
    if narrowed.status is not None:
        wanted.append(col(Payment.status) == narrowed.status)
    if narrowed.reference is not None:
        wanted.append(col(Payment.reference) == narrowed.reference)
    if narrowed.phone is not None:
        wanted.append(col(Payment.phone) == narrowed.phone.digits)
    return wanted


def payment_record(row: Payment) -> PaymentRecord:
    return PaymentRecord(
        organization_id=row.organization_id,
        payment_id=row.id,
        kind=PaymentKind(row.kind),
        status=PaymentStatus(row.status),
        environment=Environment(row.environment),
        shortcode=row.shortcode,
        amount=Kes(row.amount_cents),
        phone=Msisdn(row.phone),
        reference=row.reference,
        description=row.description,
        remarks=row.remarks,
        purpose=row.purpose,
        occasion=row.occasion,
        idempotency_key=row.idempotency_key,
        receipt=row.receipt,
        result_code=row.result_code,
        reason=reason_of(row),
        reversed_payment_id=row.reverses_payment_id,
        batch_id=row.batch_id,
        approval=_asked_approval(row),
        untrusted_text=row.untrusted_text,
        times_asked=row.ask_count,
        next_look_at=row.next_action_at,
        created_by=row.created_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def reason_of(row: Payment) -> str | None:
    """Why it stands as it does; of an end that nobody knows, also that the money may have moved."""
    match PaymentStatus(row.status):
        case PaymentStatus.DISPUTED:
            return f"{_CONTRADICTED} Said last: {row.reason}" if row.reason else _CONTRADICTED
        case PaymentStatus.UNKNOWN if row.next_action_at is None:
            return f"{row.reason or NOBODY_KNOWS} The money may have moved."
        case _:
            return row.reason


def _asked_approval(row: Payment) -> AskedApproval | None:
    if row.approval_id is None or PaymentStatus(row.status) is not PaymentStatus.AWAITING_APPROVAL:
        return None
    return AskedApproval(row.approval_id, row.created_at + APPROVAL_LIFE)


def inquiry_record(row: Inquiry) -> InquiryRecord:
    return InquiryRecord(
        inquiry_id=row.id,
        kind=InquiryKind(row.kind),
        status=InquiryStatus(row.status),
        environment=Environment(row.environment),
        shortcode=row.shortcode,
        receipt=row.receipt,
        result_code=row.result_code,
        reason=row.reason,
        answer=row.answer,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _ways_to_name(any_id: str) -> list[ColumnElement[bool]]:
    by_daraja = select(Attempt.payment_id).where(
        or_(
            col(Attempt.checkout_request_id) == any_id,
            col(Attempt.conversation_id) == any_id,
            col(Attempt.originator_conversation_id) == any_id,
        )
    )
    return [
        col(Payment.id) == any_id.lower(),
        col(Payment.receipt) == any_id.upper(),
        or_(col(Payment.originator_conversation_id) == any_id, col(Payment.id).in_(by_daraja)),
        col(Payment.idempotency_key) == any_id,
    ]
