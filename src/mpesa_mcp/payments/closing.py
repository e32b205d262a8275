"""Closing an organization for good: when nothing of it is under way any more, and so that nothing begins meanwhile."""

from sqlalchemy import func
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.credentials.shortcodes import destroy_credentials
from mpesa_mcp.errors import Advice, ConflictError
from mpesa_mcp.identity.closing import end_access
from mpesa_mcp.identity.models import OrganizationStatus
from mpesa_mcp.identity.organizations import OrganizationRecord, record_of
from mpesa_mcp.identity.principal import Actor, NotAllowed
from mpesa_mcp.identity.standing import changeable_alone
from mpesa_mcp.payments.batches.models import BatchLine
from mpesa_mcp.payments.batches.states import RowState
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.states import PaymentStatus
from mpesa_mcp.values import Role

_UNSETTLED = [status for status in PaymentStatus if not status.is_settled]


class PaymentsUnsettled(ConflictError):
    """Money may still move, and without keys and credentials nobody could find out."""

    code = "payments_unsettled"
    advice = Advice.WAIT

    def __init__(self, count: int) -> None:
        what = "1 payment is" if count == 1 else f"{count} payments are"
        super().__init__(
            f"Nothing was changed: {what} not settled yet. Suspend the organization, cancel its batches, withdraw what "
            "is queued, wait for the rest, and resolve what nobody can tell (mpesa-mcp payment review); then close it."
        )
        self.count = count


async def close_organization(core: Core, *, organization_id: str, actor: Actor) -> OrganizationRecord:
    """Revokes its keys, sessions and invitations, destroys its credentials; its records are kept. Not undone.

    Nobody opens a payment while this looks whether one is unsettled. Raises NotAllowed, NotFoundError,
    OrganizationClosed, PaymentsUnsettled.
    """
    if not actor.is_any_of(Role.SUPER_ADMIN):
        raise NotAllowed
    async with core.store.session(organization_id) as session:
        row = await changeable_alone(session)
        unsettled = select(func.count(col(Payment.id))).where(col(Payment.status).in_(_UNSETTLED))
        waiting = select(func.count(col(BatchLine.line))).where(BatchLine.state == RowState.WAITING)
        if count := (await session.first(unsettled) or 0) + (await session.first(waiting) or 0):
            raise PaymentsUnsettled(count)
        before = row.standing
        ended = await end_access(session, core.clock)
        await destroy_credentials(session, core.clock, actor=actor.name)
        row.status, row.closed_at = OrganizationStatus.CLOSED, core.clock.now()
        audit.record(
            session,
            core.clock,
            actor=actor.name,
            action="organization.closed",
            subject=organization_id,
            before={"status": before},
            after={"status": row.standing},
            detail=ended,
        )
        return record_of(row)
