"""Adopts receipts that a comparison found: only onto payments that succeeded without one, only where a person asked.

A compare-and-set: the receipt must still be missing, and be nobody else's. The status is never touched.
"""

from collections.abc import Mapping, Set

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.history import record_history
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.requests import RECEIPT
from mpesa_mcp.payments.states import PaymentStatus
from mpesa_mcp.values import Environment

_SOURCE = "statement"


async def adopt_receipts(
    core: Core,
    organization_id: str,
    environment: Environment,
    receipts: Mapping[str, str],
    *,
    source: str = "the statement",
    actor: str,
) -> Set[str]:
    """Takes `receipts` (payment id → receipt), each in a commit of its own; returns the payments that took theirs.

    `source` is what a person calls the list they are from.
    """
    adopted: set[str] = set()
    for payment_id, receipt in receipts.items():
        try:
            if await _adopt(core, organization_id, environment, payment_id, receipt, source, actor):
                adopted.add(payment_id)
        except IntegrityError:
            continue  # another payment got this receipt at the same moment
    return adopted


async def _adopt(
    core: Core, organization_id: str, environment: Environment, payment_id: str, receipt: str, source: str, actor: str
) -> bool:
    now = core.clock.now()
    async with core.store.session(organization_id) as session:
        payment = await session.lock(Payment, payment_id)
        if (
            not RECEIPT.fullmatch(receipt)
            or payment is None
            or payment.environment != environment
            or payment.receipt is not None
        ):
            return False
        status = PaymentStatus(payment.status)
        if not status.moved or await session.first(select(Payment.id).where(Payment.receipt == receipt)) is not None:
            return False
        changed = await session.change(
            update(Payment)
            .where(
                col(Payment.id) == payment_id,
                col(Payment.receipt).is_(None),
                col(Payment.status) == payment.status,
            )
            .values(receipt=receipt, updated_at=now)
        )
        if not changed:
            return False
        session.wake(payment_id)
        record_history(
            session,
            payment_id,
            now,
            event="receipt_adopted",
            before=status,
            source=_SOURCE,
            note=f"a person took the receipt from {source}",
        )
        audit.record(
            session,
            core.clock,
            actor=actor,
            action="payment.receipt_adopted",
            subject=payment_id,
            detail={"receipt": receipt, "source": _SOURCE},
        )
        return True
