"""Organizations: making one, finding one by its slug, listing them, what it has chosen.

Only the slug and the list cross organizations, through `store.crossings`; everything else reads inside one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import IntegrityError

from mpesa_mcp import audit
from mpesa_mcp.errors import Advice, ConflictError, NotFoundError
from mpesa_mcp.identity.models import Organization, OrganizationStatus
from mpesa_mcp.identity.names import checked_name, checked_slug
from mpesa_mcp.store.crossings import find_organization, list_organizations
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock, Kes, new_id, random_hex

_CALLBACK_ID_BITS = 128


class SlugTaken(ConflictError):
    """Another organization has this slug."""

    code = "slug_taken"
    advice = Advice.FIX_INPUT

    def __init__(self) -> None:
        super().__init__("This slug is taken. Choose another one.")


@dataclass(frozen=True, slots=True)
class OrganizationRecord:
    """An organization as read."""

    organization_id: str
    slug: str
    name: str
    status: OrganizationStatus
    callback_id: str
    created_at: datetime
    confirm_payouts_from: Kes


async def create_organization(store: Store, clock: Clock, *, name: str, slug: str, actor: str) -> OrganizationRecord:
    """Makes an active organization. Raises InputError, SlugTaken."""
    row = Organization(
        organization_id=new_id("org"),
        slug=checked_slug(slug),
        name=checked_name(name),
        status=OrganizationStatus.ACTIVE,
        callback_id=random_hex(_CALLBACK_ID_BITS),
        created_at=clock.now(),
    )
    async with store.session(row.organization_id) as session:
        session.add(row)
        try:
            # The constraint decides, not a look beforehand: two people may ask for one slug at once.
            await session.flush()
        except IntegrityError as taken:
            raise SlugTaken from taken
        audit.record(
            session,
            clock,
            actor=actor,
            action="organization.created",
            subject=row.organization_id,
            detail={"slug": row.slug, "name": row.name},
        )
        return _record(row)


async def organization_by_slug(store: Store, slug: str) -> OrganizationRecord:
    """Raises NotFoundError."""
    organization_id = await find_organization(store, slug)
    if organization_id is None:
        raise NotFoundError("organization")
    async with store.reading(organization_id) as session:
        return await get_organization(session)


async def list_all(store: Store) -> Sequence[OrganizationRecord]:
    """Every organization of the installation, oldest first: for its operator."""
    found = []
    for organization_id in await list_organizations(store):
        async with store.reading(organization_id) as session:
            found.append(await get_organization(session))
    return found


async def get_organization(session: OrganizationSession) -> OrganizationRecord:
    """The organization this session is bound to. Raises NotFoundError."""
    row = await session.get(Organization, session.organization_id)
    if row is None:
        raise NotFoundError("organization")
    return _record(row)


async def confirm_payouts_from(
    store: Store, clock: Clock, *, organization_id: str, amount: Kes, actor: str
) -> OrganizationRecord:
    """Sets the amount from which a payout's success must be confirmed by our own question; 0 is every payout.

    Raises NotFoundError.
    """
    async with store.session(organization_id) as session:
        row = await session.lock(Organization, organization_id)
        if row is None:
            raise NotFoundError("organization")
        audit.record(
            session,
            clock,
            actor=actor,
            action="organization.changed",
            subject=organization_id,
            detail={"confirm_payouts_from": str(amount), "before": str(Kes(row.confirm_payouts_from_cents))},
        )
        row.confirm_payouts_from_cents = amount.cents
        return _record(row)


def _record(row: Organization) -> OrganizationRecord:
    return OrganizationRecord(
        organization_id=row.organization_id,
        slug=row.slug,
        name=row.name,
        status=OrganizationStatus(row.status),
        callback_id=row.callback_id,
        created_at=row.created_at,
        confirm_payouts_from=Kes(row.confirm_payouts_from_cents),
    )
