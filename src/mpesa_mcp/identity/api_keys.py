"""API keys: made, listed, rotated, revoked; and whom one stands for.

Only a keyed hash (HMAC) is stored: a copy of the database holds nothing that opens a door. Nobody makes a key that may
do more than they may themselves; a super_admin makes none.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import or_, update
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.errors import ConflictError, InputError, NotFoundError
from mpesa_mcp.identity.key_text import environment_of, new_text, shown_part
from mpesa_mcp.identity.models import ApiKey, Organization, OrganizationStatus
from mpesa_mcp.identity.names import checked_name
from mpesa_mcp.identity.organizations import changeable
from mpesa_mcp.identity.principal import Actor, NotAllowed, Principal, Unauthenticated
from mpesa_mcp.identity.tool_names import checked_tools
from mpesa_mcp.identity.users import access_topic, check_role
from mpesa_mcp.store.engine import Store, StoreUnavailable
from mpesa_mcp.store.keyring import API_KEY_HASHING, Keyring
from mpesa_mcp.store.paging import Page, page_by_id
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock, Environment, Role, Secret, new_id

# What a new key takes over besides, in the transaction that makes it: given the ids of the old one and of the new one.
# The rule for it, which is a matter of a room above.
TakeOver = Callable[[OrganizationSession, str, str], Awaitable[None]]
# Where a key belongs that names no environment: where the organization has credentials, a matter of a room above, too.
DefaultEnvironment = Callable[[OrganizationSession], Awaitable[Environment]]
LONGEST_OVERLAP: Final = timedelta(days=30)
_USE_IS_NOTED_EVERY = timedelta(minutes=1)
# A locked database would hold up the call for as long as what the call itself writes.
_NOTING_SECONDS = 0.25
_noting: set[asyncio.Task[None]] = set()

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as read: everything but the key. `prefix` is its first characters, for people to tell keys apart."""

    key_id: str
    name: str
    prefix: str
    role: Role
    environment: Environment
    tools: frozenset[str] | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    replaced_by: str | None
    exposed_at: datetime | None

    def is_usable(self, now: datetime) -> bool:
        """Whether the key is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def should_be_rotated(self, now: datetime) -> bool:
        """Whether others may have read it, and it still opens doors."""
        return self.exposed_at is not None and self.replaced_by is None and self.is_usable(now)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made: the only moment its text exists on our side."""

    key: Secret
    record: KeyRecord


class KeyNotUsable(ConflictError):
    """A key that opens nothing any more is not rotated."""

    code = "key_not_usable"

    def __init__(self) -> None:
        super().__init__("This key is revoked or expired. Make a new one instead. Nothing was changed.")


class KeyReplaced(ConflictError):
    """The key was rotated before; a second successor would be one too many."""

    code = "key_replaced"

    def __init__(self, replaced_by: str) -> None:
        super().__init__(f"This key was rotated already: {replaced_by} is its successor. Nothing was changed.")
        self.replaced_by = replaced_by


async def create_key(
    store: Store,
    keyring: Keyring,
    clock: Clock,
    *,
    organization_id: str,
    name: str,
    role: Role,
    environment: Environment | DefaultEnvironment,
    expires_at: datetime | None,
    tools: Collection[str] | None,
    actor: Actor,
) -> NewKey:
    """Makes a key of an organization. `tools` None opens every tool of the role.

    Raises InputError, NotAllowed, NotFoundError, OrganizationClosed.
    """
    check_role(role, organization_id)
    if not actor.may_grant(role):
        raise NotAllowed
    if expires_at is not None and expires_at <= clock.now():
        raise InputError("The expiry must be in the future.", field="expires_at")
    if not isinstance(environment, Environment):
        async with store.reading(organization_id) as session:
            environment = await environment(session)
    text = new_text(environment)
    row = ApiKey(
        organization_id=organization_id,
        id=new_id("key"),
        name=checked_name(name),
        prefix=shown_part(text),
        # Before the session below: the first use of a platform key writes it, and writers take turns.
        key_hash=await hash_of(keyring, text),
        role=role,
        environment=environment,
        tools=None if tools is None else sorted(checked_tools(tools)),
        created_at=clock.now(),
        created_by=actor.name,
        expires_at=expires_at,
    )
    async with store.session(organization_id) as session:
        await changeable(session)
        _add(session, clock, row)
    return NewKey(Secret(text), _record(row))


async def rotate_key(
    store: Store,
    keyring: Keyring,
    clock: Clock,
    *,
    organization_id: str,
    key_id: str,
    overlap: timedelta,
    actor: Actor,
    take_over: TakeOver | None = None,
) -> NewKey:
    """Makes a key like this one, which is found by id or shown prefix and expires after the overlap.

    The new one lives as long as the old one was to, and takes over what `take_over` gives it. Raises InputError,
    NotAllowed, NotFoundError, KeyNotUsable, KeyReplaced.
    """
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        raise InputError(f"The overlap may be up to {LONGEST_OVERLAP.days} days.", field="overlap_hours")
    await keyring.platform_key(API_KEY_HASHING)  # made, if need be, before the session below
    async with store.session(organization_id) as session:
        old = await session.lock(ApiKey, (await _find(session, key_id)).id)
        assert old is not None  # rows of keys are never deleted
        now = clock.now()
        if not actor.may_grant(Role(old.role)):
            raise NotAllowed
        if old.replaced_by is not None:
            raise KeyReplaced(old.replaced_by)
        if not _record(old).is_usable(now):
            raise KeyNotUsable
        text = new_text(Environment(old.environment))
        row = ApiKey(
            organization_id=organization_id,
            id=new_id("key"),
            name=old.name,
            prefix=shown_part(text),
            key_hash=await hash_of(keyring, text),
            role=old.role,
            environment=old.environment,
            tools=old.tools,
            created_at=now,
            created_by=actor.name,
            expires_at=now + (old.expires_at - old.created_at) if old.expires_at else None,
        )
        old.replaced_by = row.id
        old.expires_at = min(now + overlap, old.expires_at or now + overlap)
        session.wake(access_topic(organization_id))
        _add(session, clock, row)
        if take_over is not None:
            await take_over(session, old.id, row.id)
        detail = {"prefix": old.prefix, "replaced_by": row.id, "expires_at": old.expires_at.isoformat()}
        audit.record(session, clock, actor=actor.name, action="key.rotated", subject=old.id, detail=detail)
        return NewKey(Secret(text), _record(row))


async def list_keys(store: Store, organization_id: str) -> Sequence[KeyRecord]:
    """All keys of an organization, revoked ones too, oldest first."""
    async with store.reading(organization_id) as session:
        return [_record(row) for row in await session.all(select(ApiKey).order_by(col(ApiKey.id)))]


async def page_keys(store: Store, organization_id: str, *, limit: int, cursor: str | None) -> Page[KeyRecord]:
    """The keys of an organization, newest first, revoked ones too. Raises InputError."""
    async with store.reading(organization_id) as session:
        page = await page_by_id(session, ApiKey, limit=limit, cursor=cursor)
    return Page([_record(row) for row in page.items], page.next_cursor)


async def ended_keys(session: OrganizationSession, now: datetime) -> frozenset[str]:
    """The ids of the keys that are revoked or expired: nothing is asked for with them any more."""
    is_over = or_(col(ApiKey.revoked_at).is_not(None), col(ApiKey.expires_at) <= now)
    return frozenset(await session.all(select(ApiKey.id).where(is_over)))


async def revoke_key(store: Store, clock: Clock, *, organization_id: str, key_id: str, actor: Actor) -> KeyRecord:
    """Revokes the key with this id, or with this shown prefix. Doing it again changes nothing.

    Raises NotAllowed, NotFoundError, or InputError when a prefix fits several keys.
    """
    async with store.session(organization_id) as session:
        row = await _find(session, key_id)
        if not actor.may_grant(Role(row.role)):
            raise NotAllowed
        unrevoked = update(ApiKey).where(col(ApiKey.id) == row.id, col(ApiKey.revoked_at).is_(None))
        if await session.change(unrevoked.values(revoked_at=clock.now())):
            session.wake(access_topic(organization_id))
            audit.record(
                session, clock, actor=actor.name, action="key.revoked", subject=row.id, detail={"prefix": row.prefix}
            )
        return _record(await _find(session, row.id))


async def hash_of(keyring: Keyring, presented: str) -> str:
    """The keyed hash by which a key is found."""
    return (await keyring.platform_key(API_KEY_HASHING)).digest(presented)


def principal_of(row: ApiKey, organization: Organization, presented: str, now: datetime) -> Principal:
    """Whom a key stands for. Raises Unauthenticated, the same for every cause."""
    key = _record(row)
    if not OrganizationStatus(organization.status).may_act:
        raise Unauthenticated
    if key.environment is not environment_of(presented) or not key.is_usable(now):
        raise Unauthenticated
    return Principal(
        organization_id=row.organization_id,
        actor=f"key:{key.key_id}",
        role=key.role,
        environment=key.environment,
        tools=key.tools,
        name=key.name,
    )


async def note_use(store: Store, clock: Clock, row: ApiKey) -> None:
    """Keeps `last_used_at` fresh to the minute. No call is refused, nor held up, because this cannot be written."""
    now = clock.now()
    if row.last_used_at is not None and row.last_used_at > now - _USE_IS_NOTED_EVERY:
        return
    noting = asyncio.get_running_loop().create_task(_write_use(store, row.organization_id, row.id, now))
    _noting.add(noting)
    noting.add_done_callback(_noting.discard)
    await asyncio.wait({noting}, timeout=_NOTING_SECONDS)


async def _write_use(store: Store, organization_id: str, key_id: str, now: datetime) -> None:
    stale = now - _USE_IS_NOTED_EVERY
    unnoted = or_(col(ApiKey.last_used_at).is_(None), col(ApiKey.last_used_at) <= stale)
    try:
        async with store.session(organization_id) as session:
            await session.change(update(ApiKey).where(col(ApiKey.id) == key_id, unnoted).values(last_used_at=now))
    except (StoreUnavailable, SQLAlchemyError):
        _log.warning("key_use_not_noted", organization_id=organization_id, key_id=key_id)


def _add(session: OrganizationSession, clock: Clock, row: ApiKey) -> None:
    session.add(row)
    detail = {"prefix": row.prefix, "role": row.role, "environment": row.environment, "tools": row.tools}
    audit.record(session, clock, actor=row.created_by, action="key.created", subject=row.id, detail=detail)


async def _find(session: OrganizationSession, id_or_prefix: str) -> ApiKey:
    named = or_(col(ApiKey.id) == id_or_prefix, col(ApiKey.prefix) == id_or_prefix)
    rows = await session.all(select(ApiKey).where(named))
    if not rows:
        raise NotFoundError("key")
    if len(rows) > 1:
        raise InputError("Several keys begin like this. Give the key id.", field="key_id")
    return rows[0]


def _record(row: ApiKey) -> KeyRecord:
    return KeyRecord(
        key_id=row.id,
        name=row.name,
        prefix=row.prefix,
        role=Role(row.role),
        environment=Environment(row.environment),
        tools=None if row.tools is None else frozenset(row.tools),
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        replaced_by=row.replaced_by,
        exposed_at=row.exposed_at,
    )
