"""Whom an API key, a person's access token or the console's cookie stands for, remembered for a few seconds.

A miss costs the look-up of the key and one read of its row (a token names its rows itself); a remembered caller costs
none. What is remembered is forgotten at the commit that changes anybody's right to act in the organization: at once in
the process that commits it, within the time of a wake-up in others, after REMEMBERED in any case.
"""

from asyncio import Event, Lock
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from weakref import WeakValueDictionary

from sqlalchemy import and_, update
from sqlmodel import col, select

from mpesa_mcp.identity import access_tokens, api_keys, console_cookies
from mpesa_mcp.identity.key_text import environment_of
from mpesa_mcp.identity.models import PLATFORM, ApiKey, LoginSession, Organization, OrganizationStatus, User
from mpesa_mcp.identity.principal import Principal, Unauthenticated
from mpesa_mcp.identity.users import access_topic
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.crossings import find_key
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.values import Clock, Environment, Role, sha256_hex

REMEMBERED: Final = timedelta(seconds=5)
# Callers remembered at once; the one not seen for longest goes first.
_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Remembered:
    principal: Principal
    until: datetime
    changed: Event


class Authentication:
    """Turns credentials into principals. One a process."""

    def __init__(self, store: Store, keyring: Keyring, settings: Settings, clock: Clock) -> None:
        self._store = store
        self._keyring = keyring
        self._settings = settings
        self._clock = clock
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()
        # Lives as long as somebody holds it or waits for it.
        self._looking_up: WeakValueDictionary[str, Lock] = WeakValueDictionary()

    async def principal(self, presented: str) -> Principal:
        """Whom a bearer token stands for. Raises Unauthenticated, the same for every cause."""
        read = self._token if access_tokens.looks_like_one(presented) else self._key
        # Only a hash is kept: memory that is dumped holds no key of anybody.
        return await self._known(sha256_hex(presented), lambda: read(presented))

    async def principal_of_cookie(self, presented: str) -> Principal:
        """Whom a cookie of the console stands for. Raises Unauthenticated, the same for every cause."""
        return await self._known(sha256_hex(f"cookie {presented}"), lambda: self._cookie(presented))

    async def _known(self, place: str, read: Callable[[], Awaitable[_Remembered]]) -> Principal:
        if (known := self._still_known(place)) is not None:
            return known
        # Of many calls at once the first reads, and the others find what it has read.
        async with self._looking_up.setdefault(place, Lock()):
            if (known := self._still_known(place)) is not None:
                return known
            self._remembered.pop(place, None)
            found = await read()
            self._remembered[place] = found
            if len(self._remembered) > _MOST:
                _, gone = self._remembered.popitem(last=False)
                self._store.wakeups.forget(access_topic(gone.principal.organization_id))
            return found.principal

    def _still_known(self, place: str) -> Principal | None:
        known = self._remembered.get(place)
        if known is None or self._clock.now() >= known.until or known.changed.is_set():
            return None
        self._remembered.move_to_end(place)
        return known.principal

    async def principal_on_mcp(self, presented: str) -> Principal:
        """As `principal`; a login session that comes here is an assistant's from now on, and no person's any more."""
        principal = await self.principal(presented)
        if not principal.is_person:
            return principal
        async with self._store.session(principal.organization_id) as session:
            await session.change(
                update(LoginSession)
                .where(col(LoginSession.id) == principal.session_id, col(LoginSession.used_on_mcp_at).is_(None))
                .values(used_on_mcp_at=self._clock.now())
            )
            session.wake(access_topic(principal.organization_id))
        return replace(principal, is_person=False)

    async def _key(self, presented: str) -> _Remembered:
        if environment_of(presented) is None:
            raise Unauthenticated
        found = await find_key(self._store, await api_keys.hash_of(self._keyring, presented))
        if found is None:
            raise Unauthenticated
        organization_id, key_id = found
        changed = self._watch(organization_id)
        mine = select(ApiKey).add_columns(Organization).where(col(ApiKey.id) == key_id)
        joined = mine.join(Organization, col(Organization.organization_id) == col(ApiKey.organization_id))
        async with self._store.reading(organization_id) as session:
            rows = await session.rows(joined)
        if not rows:
            raise Unauthenticated
        [(key, organization)] = rows
        now = self._clock.now()
        principal = api_keys.principal_of(key, organization, presented, now)
        await api_keys.note_use(self._store, self._clock, key)
        until = now + REMEMBERED
        return _Remembered(principal, min(until, key.expires_at) if key.expires_at else until, changed)

    async def _token(self, presented: str) -> _Remembered:
        return await self._person(await access_tokens.verify(self._keyring, self._settings, self._clock, presented))

    async def _cookie(self, presented: str) -> _Remembered:
        return await self._person(await console_cookies.read_cookie(self._keyring, self._clock, presented))

    async def _person(self, token: access_tokens.AccessToken) -> _Remembered:
        changed = self._watch(token.organization_id)
        of_user = and_(
            col(LoginSession.organization_id) == col(User.organization_id), col(LoginSession.user_id) == col(User.id)
        )
        statement = (
            select(User)
            .add_columns(LoginSession, Organization)
            .join(LoginSession, of_user)
            .outerjoin(Organization, col(Organization.organization_id) == col(User.organization_id))
            .where(col(User.id) == token.user_id, col(LoginSession.id) == token.session_id)
        )
        async with self._store.reading(token.organization_id) as session:
            rows = await session.rows(statement)
        if not rows:
            raise Unauthenticated
        [(user, login, organization)] = rows
        if user.deactivated_at is not None or user.generation != token.generation or login.ended_at is not None:
            raise Unauthenticated
        principal = Principal(
            organization_id=token.organization_id,
            actor=f"user:{user.id}",
            role=Role(user.role),
            environment=_environment(token.organization_id, organization),
            tools=None,
            name=user.email,
            user_id=user.id,
            session_id=login.id,
            is_person=login.used_on_mcp_at is None,
        )
        return _Remembered(principal, min(self._clock.now() + REMEMBERED, token.expires_at), changed)

    def _watch(self, organization_id: str) -> Event:
        # Taken before the rows are read: a change that commits in between is not missed.
        return self._store.wakeups.token(access_topic(organization_id))


def _environment(organization_id: str, organization: Organization | None) -> Environment:
    """Where what a person starts happens. Raises Unauthenticated when the organization may not act."""
    if organization_id == PLATFORM:
        return Environment.SIMULATOR  # nothing: the platform has no payments
    if organization is None or not OrganizationStatus(organization.status).may_act:
        raise Unauthenticated
    return Environment(organization.default_environment)
