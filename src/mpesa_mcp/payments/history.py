"""The history of a payment: append-only, one line for every event."""

from datetime import datetime

from mpesa_mcp.payments.models import PaymentHistory
from mpesa_mcp.payments.states import PaymentEvent, PaymentStatus
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import new_id


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
    session.add(
        PaymentHistory(
            organization_id=session.organization_id,
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
    )
