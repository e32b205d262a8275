"""How a payment's end is counted as usage: each settled payment once, under the status it has now."""

from mpesa_mcp.billing.usage import count_payments
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.states import PaymentStatus
from mpesa_mcp.store.tenancy import OrganizationSession


def count_change(session: OrganizationSession, payment: Payment, before: PaymentStatus, after: PaymentStatus) -> None:
    """Counts the change of a status, in its transaction: no more as `before`, from now on as `after`."""
    if before.is_settled:
        count_end(session, payment, before, payments=-1)
    if after.is_settled:
        count_end(session, payment, after)


def count_end(session: OrganizationSession, payment: Payment, status: PaymentStatus, *, payments: int = 1) -> None:
    """Counts a payment that stands settled so."""
    count_payments(
        session,
        payment.created_at,
        actor=payment.created_by,
        environment=payment.environment,
        kind=payment.kind,
        outcome=status,
        payments=payments,
        moved_cents=payments * payment.amount_cents if status.moved else 0,
    )
