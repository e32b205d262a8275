"""Who was paid the same a few days ago, or may be: the mistake that a second look at one file cannot find."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import or_
from sqlmodel import col, select

from mpesa_mcp.payments.batches.models import Batch, BatchLine
from mpesa_mcp.payments.batches.rows import Row, RowProblem
from mpesa_mcp.payments.batches.states import BatchStage, RowState
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.states import NOTHING_MOVED, PaymentKind, PaymentStatus
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment

WITHIN = timedelta(days=7)
# Phones that one statement asks about.
_AT_ONCE = 500
_OPEN = [stage for stage in BatchStage if not stage.is_over]
_MOVED = [status for status in PaymentStatus if status.moved]
# Whether a payment of the kind is to a person, whom a row may pay the same once more.
_PAYS_A_PERSON = {PaymentKind.STK_PUSH: False, PaymentKind.B2C: True, PaymentKind.REVERSAL: False}
Paid = tuple[str, int]


async def repeats_among(
    session: OrganizationSession, rows: Sequence[Row], environment: Environment, now: datetime
) -> list[RowProblem]:
    """The rows whose phone got this amount within the last 7 days, or may still: by a payment or in another batch."""
    phones = {row.phone.digits for row in rows}
    taken = await _waiting(session, environment) | await _paid(session, environment, phones, now - WITHIN)
    return _problems(
        rows,
        taken,
        "This phone was paid the same amount in the last 7 days, or is about to be, or it is not known whether it was. "
        "Ask the user whether it is meant: if not, leave it out; if it is, it is paid by itself.",
    )


async def repeats_of_failed(
    session: OrganizationSession, rows: Sequence[Row], batch: Batch, now: datetime
) -> list[RowProblem]:
    """The same of failed rows of a batch, which another payment may have made good since."""
    phones = {row.phone.digits for row in rows}
    taken = await _waiting(session, Environment(batch.environment)) | await paid_since(session, batch, phones, now)
    return _problems(
        rows,
        taken,
        "This phone has been paid the same amount since, or is about to be. Submit the rows that are still to be paid "
        "as a batch of their own.",
    )


async def paid_since(session: OrganizationSession, batch: Batch, phones: Collection[str], now: datetime) -> set[Paid]:
    """What these phones got since the batch was submitted, and in the last 7 days at least, or may still get."""
    since = min(batch.created_at, now - WITHIN)
    return await _paid(session, Environment(batch.environment), phones, since)


def _problems(rows: Sequence[Row], taken: set[Paid], message: str) -> list[RowProblem]:
    return [
        RowProblem(row.line, "amount", "repeated", message)
        for row in rows
        if (row.phone.digits, row.amount.cents) in taken
    ]


async def _paid(
    session: OrganizationSession, environment: Environment, phones: Collection[str], since: datetime
) -> set[Paid]:
    """What was paid since then, and what is under way or not known, however old it is.

    When it was asked for says nothing about when it was paid: a batch may have been paused for weeks.
    """
    asked, found = sorted(phones), set[Paid]()
    for start in range(0, len(asked), _AT_ONCE):
        statement = select(Payment.phone, Payment.amount_cents).where(
            col(Payment.kind).in_([kind for kind, is_one in _PAYS_A_PERSON.items() if is_one]),
            # What the index of recipients leaves out, in its words: else it is not used.
            col(Payment.kind) != PaymentKind.STK_PUSH,
            Payment.environment == environment,
            col(Payment.phone).in_(asked[start : start + _AT_ONCE]),
            col(Payment.status).not_in(NOTHING_MOVED),
            or_(col(Payment.status).not_in(_MOVED), col(Payment.settled_at) >= since),
        )
        found |= {(phone, cents) for phone, cents in await session.rows(statement)}
    return found


async def _waiting(session: OrganizationSession, environment: Environment) -> set[Paid]:
    still_open = select(Batch.id).where(col(Batch.status).in_(_OPEN), Batch.environment == environment)
    statement = select(BatchLine.phone, BatchLine.amount_cents).where(
        col(BatchLine.batch_id).in_(still_open), BatchLine.state == RowState.WAITING
    )
    return {(phone, cents) for phone, cents in await session.rows(statement)}
