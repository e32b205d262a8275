"""Where an organization stands: frozen (it pays nothing out), suspended (its callers are refused), or neither.

The two are independent: lifting the one leaves the other. Whoever changes the standing has the organization alone, so
that a payment is opened or sent either before the change or under it, never beside it.

A freeze is lifted by two different people. Its org_admins are such people if they were that before the freeze: whoever
has stolen one account must not lift it with a second one made for the purpose. The operator of the machine only
proposes, and counts as one of the two; for whom he proposes it is enough to be an org_admin now, so that an
organization with a single org_admin, or a new one, is not locked out. The platform's super_admins may freeze, which
moves no money, and have no part in lifting.
"""

from datetime import datetime

from mpesa_mcp import audit
from mpesa_mcp.errors import Advice, ConflictError
from mpesa_mcp.identity.models import Organization, OrganizationStatus, User
from mpesa_mcp.identity.names import checked_reason
from mpesa_mcp.identity.organizations import OrganizationRecord, changeable, record_of
from mpesa_mcp.identity.principal import Actor, NotAllowed
from mpesa_mcp.identity.users import access_topic
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock, Role


class NotFrozen(ConflictError):
    """There is nothing to lift."""

    code = "not_frozen"

    def __init__(self) -> None:
        super().__init__("The organization is not frozen. Nothing was changed.")


class AnotherMustLift(ConflictError):
    """Who asked is one of the two people already."""

    code = "another_person_needed"
    advice = Advice.ASK_A_PERSON

    def __init__(self) -> None:
        super().__init__(
            "You have asked for this already, and lifting a freeze needs two people. Another org_admin does the same; "
            "where there is none, the operator asks first (mpesa-mcp org unfreeze), and then you."
        )


class NewerThanFreeze(NotAllowed):
    """A person who could be made for the purpose of lifting it."""

    code = "newer_than_freeze"

    def __init__(self) -> None:
        super().__init__(
            "You became org_admin after the organization was frozen. Two who were that before may lift it; for you the "
            "operator must ask first (mpesa-mcp org unfreeze)."
        )


async def freeze(
    store: Store, clock: Clock, *, organization_id: str, actor: Actor, reason: str | None = None
) -> OrganizationRecord:
    """Stops payouts and reversals at once. Again: whoever asked for the lifting must ask again.

    When this returns no further attempt to pay out is committed. The reason is for the audit.
    Raises InputError, NotAllowed, NotFoundError, OrganizationClosed.
    """
    if not actor.is_any_of(Role.SUPER_ADMIN, Role.ORG_ADMIN):
        raise NotAllowed
    why = None if reason is None else checked_reason(reason)
    async with store.session(organization_id) as session:
        row = await changeable_alone(session)
        before: dict[str, str | None] = {"status": row.standing}
        if row.frozen_at is None:
            row.frozen_at, row.frozen_by = clock.now(), actor.name
            _audit(session, clock, row, actor, "organization.frozen", before=before, reason=why)
        elif row.unfreeze_asked_by is not None and (actor.is_operator or actor.is_person):
            # A program could keep it frozen for ever.
            before["unfreeze_asked_by"], row.unfreeze_asked_by = row.unfreeze_asked_by, None
            _audit(session, clock, row, actor, "organization.frozen_again", before=before, reason=why)
        return record_of(row)


async def unfreeze(session: OrganizationSession, clock: Clock, actor: Actor) -> OrganizationRecord:
    """Asks for the lifting of a freeze; or lifts it, if another person has asked. The record says which.

    Raises NotAllowed, NewerThanFreeze, AnotherMustLift, NotFrozen, NotFoundError, OrganizationClosed.
    """
    row = await changeable_alone(session)
    if row.frozen_at is None:
        raise NotFrozen
    asked_by, before = row.unfreeze_asked_by, {"status": row.standing, "frozen_by": row.frozen_by}
    if asked_by is not None and not await _still_counts(session, asked_by, row.frozen_at):
        asked_by = None
    if not actor.is_operator:
        await _require_lifter(session, actor, row.frozen_at, is_proposed=_is_operator(asked_by))
        if asked_by == actor.name:
            raise AnotherMustLift
    if asked_by is None or actor.is_operator:
        if asked_by != actor.name:
            row.unfreeze_asked_by = actor.name
            _audit(session, clock, row, actor, "organization.unfreeze_asked", before=before)
    else:
        row.frozen_at = row.frozen_by = row.unfreeze_asked_by = None
        _audit(session, clock, row, actor, "organization.unfrozen", before=before | {"unfreeze_asked_by": asked_by})
    return record_of(row)


async def suspend(
    store: Store, clock: Clock, *, organization_id: str, actor: Actor, reason: str | None = None
) -> OrganizationRecord:
    """Refuses the organization's callers from the next request on, and sends nothing of what is queued.

    What has left is settled all the same. The reason is for the audit. Again: changes nothing.
    Raises InputError, NotAllowed, NotFoundError, OrganizationClosed.
    """
    if not actor.is_any_of(Role.SUPER_ADMIN):
        raise NotAllowed
    why = None if reason is None else checked_reason(reason)
    async with store.session(organization_id) as session:
        return await _change_status(session, clock, OrganizationStatus.SUSPENDED, actor, reason=why)


async def activate(session: OrganizationSession, clock: Clock, actor: Actor) -> OrganizationRecord:
    """Lifts a suspension. Again: changes nothing. Raises NotAllowed, NotFoundError, OrganizationClosed."""
    if not actor.is_any_of(Role.SUPER_ADMIN):
        raise NotAllowed
    return await _change_status(session, clock, OrganizationStatus.ACTIVE, actor)


async def changeable_alone(session: OrganizationSession) -> Organization:
    """The organization's row, locked, with nobody opening or sending a payment of it until this transaction ends.

    Raises NotFoundError, OrganizationClosed.
    """
    await session.hold_organization(alone=True)
    return await changeable(session)


async def _change_status(
    session: OrganizationSession, clock: Clock, status: OrganizationStatus, actor: Actor, *, reason: str | None = None
) -> OrganizationRecord:
    row = await changeable_alone(session)
    before = row.standing
    if row.status != status:
        row.status = status
        session.wake(access_topic(session.organization_id))
        action = "organization.suspended" if status is OrganizationStatus.SUSPENDED else "organization.activated"
        _audit(session, clock, row, actor, action, before={"status": before}, reason=reason)
    return record_of(row)


async def _require_lifter(
    session: OrganizationSession, actor: Actor, frozen_at: datetime, *, is_proposed: bool
) -> None:
    """Raises NotAllowed for whoever is no org_admin in person, and NewerThanFreeze."""
    if actor.role is not Role.ORG_ADMIN or actor.user_id is None:
        raise NotAllowed
    user = await session.get(User, actor.user_id)
    if user is None or not user.is_org_admin:
        raise NotAllowed
    if not is_proposed and not user.had_role_before(frozen_at):
        raise NewerThanFreeze


async def _still_counts(session: OrganizationSession, asked_by: str, frozen_at: datetime) -> bool:
    """Whether who asked may still be one of the two: an org_admin who was removed since is not."""
    if _is_operator(asked_by):
        return True
    user = await session.get(User, asked_by.removeprefix("user:"))
    return user is not None and user.is_org_admin and user.had_role_before(frozen_at)


def _is_operator(asked_by: str | None) -> bool:
    return asked_by is not None and asked_by.startswith("operator:")


def _audit(
    session: OrganizationSession,
    clock: Clock,
    row: Organization,
    actor: Actor,
    action: str,
    *,
    before: dict[str, str | None],
    reason: str | None = None,
) -> None:
    after = {name: getattr(row, name if name != "status" else "standing") for name in before}
    if row.unfreeze_asked_by is not None:
        after["unfreeze_asked_by"] = row.unfreeze_asked_by
    audit.record(
        session,
        clock,
        actor=actor.name,
        action=action,
        subject=row.organization_id,
        detail=None if reason is None else {"reason": reason},
        before=before,
        after=after,
    )
