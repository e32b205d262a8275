"""May this organization move money now? The one place that says so, for intake and for dispatch.

Both ask inside the transaction in which they act on the answer, and hold the organization until it ends: whoever
freezes, suspends or closes it waits for them, and whatever comes later finds the new standing. What is queued when the
answer becomes no stays queued, until the answer is yes again or it is too old.
"""

from collections.abc import Awaitable, Callable

from sqlalchemy import or_, update
from sqlmodel import col

from mpesa_mcp.errors import DeniedError, MpesaMcpError
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

_NOTHING_DONE = "Nothing was stored or sent."


class OrganizationFrozen(DeniedError):
    """Nothing is paid out; everything else goes on."""

    code = "organization_frozen"

    def __init__(self, so: str = _NOTHING_DONE) -> None:
        super().__init__(
            f"The organization is frozen: payouts and reversals are stopped; collecting and reading go on. {so} "
            "Two people must lift the freeze: an org_admin and another one, or the operator and one."
        )


class OrganizationSuspended(DeniedError):
    """The platform has suspended it."""

    code = "organization_suspended"

    def __init__(self, so: str = _NOTHING_DONE) -> None:
        super().__init__(f"The organization is suspended. {so} Ask whoever runs this platform to activate it.")


async def require_may_open(session: OrganizationSession, kind: PaymentKind, *, so: str = _NOTHING_DONE) -> None:
    """Raises OrganizationFrozen, OrganizationSuspended, OrganizationClosed; else a new payment may be stored.

    `so`, where it is given, says what the refusal means for whoever asked.
    """
    if (refused := refusal((await held_organization(session)).status, kind, so=so)) is not None:
        raise refused


def refusal(standing: OrganizationStatus, kind: PaymentKind, *, so: str = _NOTHING_DONE) -> MpesaMcpError | None:
    """Why no payment of this kind may be opened, or approved, in this standing; None when it may."""
    match standing:
        case OrganizationStatus.ACTIVE:
            return None
        case OrganizationStatus.FROZEN:
            return OrganizationFrozen(so) if kind.pays_out else None
        case OrganizationStatus.SUSPENDED:
            return OrganizationSuspended(so)
        case OrganizationStatus.CLOSED:
            return OrganizationClosed()


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


async def held_organization(session: OrganizationSession) -> OrganizationRecord:
    """The organization, whose standing stays as it is until this transaction ends."""
    await session.hold_organization()
    return await get_organization(session)
