"""The history of a payment: append-only, one line for every event; of those that change nothing, so many of a kind."""

from datetime import datetime

from sqlalchemy import func
from sqlmodel import col, select

from mpesa_mcp.payments.models import PaymentHistory
from mpesa_mcp.payments.states import PaymentEvent, PaymentStatus
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import new_id

# Whoever knows a path can make the same thing happen without end; history is never deleted.
MAX_ALIKE = 50


def record_history(
    session: OrganizationSession,
    payment_id: str,
    at: datetime,
    *,
    event: PaymentEvent | str,
    source: str,
    before: PaymentStatus | None = None,
    after: PaymentStatus | None = None,
    code: str | None = None,
    note: str | None = None,
) -> None:
    """Adds a line in the caller's transaction. `note` is our own text; `after` None means nothing changed."""
    session.append(
        PaymentHistory,
        id=new_id("evt"),
        payment_id=payment_id,
        at=at,
        event=str(event),
        from_status=before,
        to_status=after,
        source=source,
        code=code,
        note=note,
    )


async def record_no_change(
    session: OrganizationSession,
    payment_id: str,
    at: datetime,
    *,
    event: PaymentEvent | str,
    source: str,
    before: PaymentStatus | None = None,
    code: str | None = None,
    note: str | None = None,
) -> None:
    """A line for what changed nothing, unless the locked payment has MAX_ALIKE of this event; one more says so.

    Counted by event, so that many of one kind cannot hide another: a late success must reach a person.
    """
    alike = select(func.count(col(PaymentHistory.id))).where(
        PaymentHistory.payment_id == payment_id,
        PaymentHistory.event == str(event),
        col(PaymentHistory.to_status).is_(None),
    )
    written = await session.first(alike) or 0
    if written > MAX_ALIKE:
        return
    if written == MAX_ALIKE:
        note = "this happened too often; no more of it is written down"
    record_history(session, payment_id, at, event=event, source=source, before=before, code=code, note=note)
