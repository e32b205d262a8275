"""A new organization, and the invitation of its first org_admin, who manages it from then on."""

from collections.abc import Awaitable, Callable, Sequence

from mpesa_mcp.identity.invitations import HasAnAdmin, NewInvitation, invite
from mpesa_mcp.identity.organizations import OrganizationRecord, create_organization
from mpesa_mcp.identity.principal import Actor, NotAllowed
from mpesa_mcp.identity.seats import SeatLimit
from mpesa_mcp.identity.users import checked_email
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock, Role


async def found_organization(
    store: Store,
    clock: Clock,
    *,
    name: str,
    slug: str,
    admin_email: str | None,
    actor: Actor,
    seats: SeatLimit,
) -> tuple[OrganizationRecord, NewInvitation | None]:
    """Makes an active organization, and invites its first org_admin where an address is given.

    Raises InputError, NotAllowed, SlugTaken; then nothing was made.
    """
    if not actor.is_any_of(Role.SUPER_ADMIN):
        raise NotAllowed
    if admin_email is not None:
        checked_email(admin_email)
    made = await create_organization(store, clock, name=name, slug=slug, actor=actor.name)
    if admin_email is None:
        return made, None
    invited = await invite(
        store,
        clock,
        organization_id=made.organization_id,
        email=admin_email,
        role=Role.ORG_ADMIN,
        actor=actor,
        seats=seats,
    )
    return made, invited


async def invite_first_admin(
    store: Store,
    clock: Clock,
    *,
    organization_id: str,
    email: str,
    actor: Actor,
    seats: SeatLimit,
    credentials: Callable[[OrganizationSession], Awaitable[Sequence[object]]],
) -> NewInvitation:
    """Invites the first org_admin (again), while nobody uses the organization and it has no `credentials`.

    What they reach is no business of whoever the platform lets in. Raises as `invite` does.
    """
    async with store.reading(organization_id) as session:
        if await credentials(session):
            raise HasAnAdmin
    return await invite(
        store,
        clock,
        organization_id=organization_id,
        email=email,
        role=Role.ORG_ADMIN,
        actor=actor,
        seats=seats,
    )
