"""Who was paid the same a few days ago, or is about to be: the mistake that a second look at one file cannot find."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlmodel import col, select

from mpesa_mcp.payments.batches.models import Batch, BatchLine
from mpesa_mcp.payments.batches.rows import Row, RowProblem
from mpesa_mcp.payments.batches.states import BatchStage, RowState
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment

WITHIN = timedelta(days=7)
# Phones that one statement asks about.
_AT_ONCE = 500
_NOTHING_MOVED = [status for status in PaymentStatus if status.nothing_moved]
_OPEN = [stage for stage in BatchStage if not stage.is_over]
Paid = tuple[str, int]


async def repeats_among(
    session: OrganizationSession, rows: Sequence[Row], environment: Environment, now: datetime
) -> list[RowProblem]:
    """The rows whose phone got this amount within the last 7 days, may have, or waits for it in another batch."""
    paid = await _waiting(session, environment)
    for start in range(0, len(rows), _AT_ONCE):
        phones = {row.phone.digits for row in rows[start : start + _AT_ONCE]}
        paid |= await _paid(session, environment, phones, now - WITHIN)
    return [
        RowProblem(
            row.line,
            "amount",
            "repeated",
            "This phone was paid the same amount in the last 7 days, or is about to be. Leave it out; if it is meant, "
            "pay it by itself.",
        )
        for row in rows
        if (row.phone.digits, row.amount.cents) in paid
    ]


async def _paid(session: OrganizationSession, environment: Environment, phones: set[str], since: datetime) -> set[Paid]:
    statement = select(Payment.phone, Payment.amount_cents).where(
        Payment.kind == PaymentKind.B2C,
        Payment.environment == environment,
        col(Payment.phone).in_(phones),
        col(Payment.created_at) >= since,
        col(Payment.status).not_in(_NOTHING_MOVED),
    )
    return {(phone, cents) for phone, cents in await session.rows(statement)}


async def _waiting(session: OrganizationSession, environment: Environment) -> set[Paid]:
    still_open = select(Batch.id).where(col(Batch.status).in_(_OPEN), Batch.environment == environment)
    statement = select(BatchLine.phone, BatchLine.amount_cents).where(
        col(BatchLine.batch_id).in_(still_open), BatchLine.state == RowState.WAITING
    )
    return {(phone, cents) for phone, cents in await session.rows(statement)}
