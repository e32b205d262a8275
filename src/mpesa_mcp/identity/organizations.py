"""Organizations: making one, finding one by its slug, listing them, its name and what it has chosen.

Only the slug and the list cross organizations, through `store.crossings`; everything else reads inside one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import IntegrityError

from mpesa_mcp import audit
from mpesa_mcp.errors import Advice, ConflictError, InputError, NotFoundError
from mpesa_mcp.identity.models import Organization, OrganizationStatus
from mpesa_mcp.identity.names import checked_name, checked_slug
from mpesa_mcp.identity.principal import Actor, NotAllowed
from mpesa_mcp.store.crossings import find_organization, list_organizations
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.paging import Page
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock, Environment, Kes, Role, new_id, random_hex

_CALLBACK_ID_BITS = 128
# Above the most that one payout can be: then none needs to be confirmed.
MOST_TO_CONFIRM_FROM = Kes.from_shillings(1_000_000)


class SlugTaken(ConflictError):
    """Another organization has this slug."""

    code = "slug_taken"
    advice = Advice.FIX_INPUT

    def __init__(self) -> None:
        super().__init__("This slug is taken. Choose another one.")


class OrganizationClosed(ConflictError):
    """Its records are kept; nothing happens in it any more."""

    code = "organization_closed"

    def __init__(self) -> None:
        super().__init__("The organization is closed. Its records can be read; nothing else can be done.")


@dataclass(frozen=True, slots=True)
class OrganizationRecord:
    """An organization as read. `status` is the one word of its standing; times in UTC."""

    organization_id: str
    slug: str
    name: str
    status: OrganizationStatus
    callback_id: str
    created_at: datetime
    confirm_payouts_from: Kes
    default_environment: Environment
    frozen_at: datetime | None
    frozen_by: str | None
    unfreeze_asked_by: str | None
    closed_at: datetime | None


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
        return record_of(row)


async def organization_by_slug(store: Store, slug: str) -> OrganizationRecord:
    """Raises NotFoundError."""
    organization_id = await find_organization(store, slug)
    if organization_id is None:
        raise NotFoundError("organization", known_by="slug", listing="mpesa-mcp org list names those there are")
    return await organization_of(store, organization_id)


async def list_all(store: Store) -> Sequence[OrganizationRecord]:
    """Every organization of the installation, oldest first: for its operator."""
    found = []
    for organization_id in await list_organizations(store):
        async with store.reading(organization_id) as session:
            found.append(await get_organization(session))
    return found


async def page_of_organizations(store: Store, *, limit: int, cursor: str | None) -> Page[OrganizationRecord]:
    """A part of all organizations, oldest first; the cursor is the id of the last one of the part before."""
    ids = await list_organizations(store, after=cursor or "", limit=limit + 1)
    shown = ids[:limit]
    found = []
    for organization_id in shown:
        async with store.reading(organization_id) as session:
            found.append(await get_organization(session))
    return Page(found, shown[-1] if len(ids) > limit else None)


async def organization_of(store: Store, organization_id: str) -> OrganizationRecord:
    """Raises NotFoundError."""
    async with store.reading(organization_id) as session:
        return await get_organization(session)


async def get_organization(session: OrganizationSession) -> OrganizationRecord:
    """The organization this session is bound to. Raises NotFoundError."""
    row = await session.get(Organization, session.organization_id)
    if row is None:
        raise NotFoundError("organization")
    return record_of(row)


async def change_organization(
    store: Store,
    clock: Clock,
    *,
    organization_id: str,
    actor: Actor,
    name: str | None = None,
    confirm_payouts_from: Kes | None = None,
    default_environment: Environment | None = None,
) -> OrganizationRecord:
    """Changes the name, and what the organization has chosen; None leaves a thing as it is.

    `confirm_payouts_from`: from this amount on a payout's success must be confirmed by our own question; 0 is every
    payout. `default_environment`: where payments happen that a person starts. Raises InputError, NotAllowed,
    NotFoundError, OrganizationClosed.
    """
    if not actor.is_any_of(Role.ORG_ADMIN):
        raise NotAllowed
    if confirm_payouts_from is not None and not Kes(0) <= confirm_payouts_from <= MOST_TO_CONFIRM_FROM:
        raise InputError(f"confirm_payouts_from must be 0 to {MOST_TO_CONFIRM_FROM}.", field="confirm_payouts_from")
    chosen = {
        "name": None if name is None else checked_name(name),
        "confirm_payouts_from_cents": None if confirm_payouts_from is None else confirm_payouts_from.cents,
        "default_environment": default_environment,
    }
    async with store.session(organization_id) as session:
        row = await changeable(session)
        changes = {column: new for column, new in chosen.items() if new is not None and new != getattr(row, column)}
        before = _shown(row, changes)
        for column, new in changes.items():
            setattr(row, column, new)
        if changes:
            after, subject = _shown(row, changes), organization_id
            audit.record(
                session,
                clock,
                actor=actor.name,
                action="organization.changed",
                subject=subject,
                before=before,
                after=after,
            )
        return record_of(row)


async def changeable(session: OrganizationSession) -> Organization:
    """The organization's row, locked: it is not closed, and is not before this transaction ends.

    Raises NotFoundError, OrganizationClosed.
    """
    row = await session.lock(Organization, session.organization_id)
    if row is None:
        raise NotFoundError("organization")
    if row.standing is OrganizationStatus.CLOSED:
        raise OrganizationClosed
    return row


def record_of(row: Organization) -> OrganizationRecord:
    return OrganizationRecord(
        organization_id=row.organization_id,
        slug=row.slug,
        name=row.name,
        status=row.standing,
        callback_id=row.callback_id,
        created_at=row.created_at,
        confirm_payouts_from=Kes(row.confirm_payouts_from_cents),
        default_environment=Environment(row.default_environment),
        frozen_at=row.frozen_at,
        frozen_by=row.frozen_by,
        unfreeze_asked_by=row.unfreeze_asked_by,
        closed_at=row.closed_at,
    )


def _shown(row: Organization, columns: Iterable[str]) -> dict[str, str]:
    """These columns as the audit shows them: money in shillings."""
    record = record_of(row)
    return {name: str(getattr(record, name)) for name in (column.removesuffix("_cents") for column in columns)}
