"""May this organization move money now? The one place that says so, for intake and for dispatch.

Both ask inside the transaction in which they act on the answer, and hold the organization until it ends: whoever
freezes, suspends or closes it waits for them, and whatever comes later finds the new standing. What is queued when the
answer becomes no stays queued, until the answer is yes again or it is too old.
"""

from collections.abc import Awaitable, Callable

from sqlalchemy import or_, update
from sqlmodel import col

from mpesa_mcp.errors import DeniedError
from mpesa_mcp.identity import standing
from mpesa_mcp.identity.models import OrganizationStatus
from mpesa_mcp.identity.organizations import OrganizationClosed, OrganizationRecord, get_organization
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.store.crossings import DueTable
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock


class OrganizationFrozen(DeniedError):
    """Nothing is paid out; everything else goes on."""

    code = "organization_frozen"

    def __init__(self) -> None:
        super().__init__(
            "The organization is frozen: payouts and reversals are stopped, and nothing was stored or sent. Collecting "
            "and reading go on. Two people must lift it: an org_admin and another one, or the operator and one."
        )


class OrganizationSuspended(DeniedError):
    """The platform has suspended it."""

    code = "organization_suspended"

    def __init__(self) -> None:
        super().__init__(
            "The organization is suspended; nothing was stored or sent. Ask whoever runs this platform to activate it."
        )


async def require_may_open(session: OrganizationSession, kind: PaymentKind) -> None:
    """Raises OrganizationFrozen, OrganizationSuspended, OrganizationClosed; else a new payment may be stored."""
    match await held_standing(session):
        case OrganizationStatus.ACTIVE:
            return
        case OrganizationStatus.FROZEN:
            if kind.pays_out:
                raise OrganizationFrozen
        case OrganizationStatus.SUSPENDED:
            raise OrganizationSuspended
        case OrganizationStatus.CLOSED:
            raise OrganizationClosed


def lets_leave(standing: OrganizationStatus, kind: PaymentKind) -> bool:
    """Whether a queued payment of this kind may leave, if the attempt is committed where the standing is held."""
    return standing.may_pay_out if kind.pays_out else standing.may_act


async def unfreeze(core: Core, *, organization_id: str, actor: Actor) -> OrganizationRecord:
    """As `identity.standing.unfreeze`; what waited in the queue goes on."""
    return await _lifted(core, organization_id, actor, standing.unfreeze)


async def activate(core: Core, *, organization_id: str, actor: Actor) -> OrganizationRecord:
    """As `identity.standing.activate`; what waited in the queue goes on."""
    return await _lifted(core, organization_id, actor, standing.activate)


async def _lifted(
    core: Core,
    organization_id: str,
    actor: Actor,
    lift: Callable[[OrganizationSession, Clock, Actor], Awaitable[OrganizationRecord]],
) -> OrganizationRecord:
    async with core.store.session(organization_id) as session:
        lifted = await lift(session, core.clock, actor)
        now = core.clock.now()
        # Dispatch looks again whether each may leave.
        waiting = update(Payment).where(
            col(Payment.status) == PaymentStatus.QUEUED,
            col(Payment.next_action_at) > now,
            or_(col(Payment.lease_until).is_(None), col(Payment.lease_until) <= now),
        )
        await session.change(waiting.values(next_action_at=now))
        session.wake(DueTable.PAYMENTS)
        return lifted


async def held_standing(session: OrganizationSession) -> OrganizationStatus:
    """What the organization may do, which stays so until this transaction ends."""
    await session.hold_organization()
    return (await get_organization(session)).status
