"""Daraja's access token: one row per app, sealed, shared by every process.

Each new token kills the one before (daraja/api.md §0, Limits), so processes that fetch on their own fight. Here one of
them fetches under a lease while the others wait for its result, and a refused token is forgotten only if it is still
the stored one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import anyio
from sqlalchemy import or_, update
from sqlalchemy.engine import CursorResult
from sqlmodel import Field, col, select

from mpesa_mcp.daraja.oauth import DarajaUnreachable, FetchedToken
from mpesa_mcp.daraja.operations import DarajaApp
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import DARAJA_TOKENS, Keyring
from mpesa_mcp.store.tables import PlatformTable, insert_if_absent, moment
from mpesa_mcp.values import Clock, Secret
from mpesa_mcp.values.sealing import SealBroken, SealingKey

Fetch = Callable[[], Awaitable[FetchedToken]]

# A token is not used in its last minute and a half: it must outlive the call it is sent with.
_MARGIN = timedelta(seconds=90)
# Longer than a token call may take; after that another process may fetch.
_LEASE = timedelta(seconds=50)
_LOOK_EVERY_SECONDS = 0.1


class DarajaToken(PlatformTable, table=True):
    """The current access token of an app. `app_id` is a keyed hash of its environment, key and secret."""

    __tablename__ = "daraja_tokens"

    app_id: str = Field(primary_key=True, max_length=64)
    sealed: bytes | None = None
    expires_at: datetime | None = moment(nullable=True)
    lease_until: datetime | None = moment(nullable=True)
    fence: int = 0


def app_id_of(key: SealingKey, app: DarajaApp) -> str:
    """What an app is called in our tables: a hash keyed with the platform key DARAJA_TOKENS."""
    # The secret belongs to the identity: who knows only a consumer key does not get at the app's token.
    return key.digest("\n".join((app.base_url, app.consumer_key, app.consumer_secret.reveal())))


@dataclass(frozen=True, slots=True)
class _Held:
    token: Secret
    expires_at: datetime


class AccessTokens:
    """Gives the current token of an app, fetching it when needed; one fetch at a time across all processes."""

    def __init__(self, store: Store, keyring: Keyring, clock: Clock) -> None:
        self._store = store
        self._keyring = keyring
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    async def current(self, app: DarajaApp, fetch: Fetch) -> Secret:
        """The token in use. Raises what `fetch` raises, and DarajaUnreachable when another process never finishes."""
        app_id, key = await self._identify(app)
        if held := self._fresh(self._held.get(app_id)):
            return held.token
        return await self._obtain(app_id, key, fetch)

    async def forget(self, app: DarajaApp, refused: Secret) -> None:
        """Nobody is given this token any more, which Daraja refused. What somebody has put in its place stays."""
        app_id, key = await self._identify(app)
        if (held := self._held.get(app_id)) is not None and held.token == refused:
            del self._held[app_id]
        row = await self._row(app_id)
        if row is None or (stored := _opened(row, key)) is None or stored.token != refused:
            return
        async with self._store.platform() as session:
            await session.execute(
                update(DarajaToken)
                .where(col(DarajaToken.app_id) == app_id, col(DarajaToken.sealed) == row.sealed)
                .values(sealed=None, expires_at=None),
                execution_options={"synchronize_session": False},
            )

    async def _obtain(self, app_id: str, key: SealingKey, fetch: Fetch) -> Secret:
        async with self._turns.setdefault(app_id, asyncio.Lock()):
            with anyio.move_on_after(_LEASE.total_seconds() + 5):
                while True:
                    if good := await self._usable(app_id, key):
                        return good
                    fence = await self._take_lease(app_id)
                    if fence is not None:
                        # Another process may have finished since the look; fetching again would kill its token.
                        if good := await self._usable(app_id, key):
                            await self._change(app_id, fence, lease_until=None)
                            return good
                        return await self._fetch(app_id, key, fence, fetch)
                    await anyio.sleep(_LOOK_EVERY_SECONDS)
        raise DarajaUnreachable("token_not_shared")

    async def _usable(self, app_id: str, key: SealingKey) -> Secret | None:
        """The stored token, unless it is about to end."""
        row = await self._row(app_id)
        stored = self._fresh(_opened(row, key)) if row is not None else None
        if stored is None:
            return None
        self._held[app_id] = stored
        return stored.token

    async def _fetch(self, app_id: str, key: SealingKey, fence: int, fetch: Fetch) -> Secret:
        try:
            fetched = await fetch()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._change(app_id, fence, lease_until=None)
            raise
        expires_at = self._clock.now() + timedelta(seconds=fetched.expires_in_seconds)
        sealed = key.seal(fetched.access_token.reveal().encode(), "daraja_token", app_id)
        await self._change(app_id, fence, sealed=sealed, expires_at=expires_at, lease_until=None)
        self._held[app_id] = _Held(fetched.access_token, expires_at)
        return fetched.access_token

    async def _row(self, app_id: str) -> DarajaToken | None:
        async with self._store.platform_reading() as session:
            return (await session.execute(select(DarajaToken).where(DarajaToken.app_id == app_id))).scalars().first()

    async def _take_lease(self, app_id: str) -> int | None:
        now = self._clock.now()
        async with self._store.platform() as session:
            await session.execute(
                insert_if_absent(session.get_bind().dialect.name, DarajaToken, app_id=app_id, fence=0)
            )
            taken = await session.execute(
                update(DarajaToken)
                .where(
                    col(DarajaToken.app_id) == app_id,
                    or_(col(DarajaToken.lease_until).is_(None), col(DarajaToken.lease_until) <= now),
                )
                .values(lease_until=now + _LEASE, fence=col(DarajaToken.fence) + 1),
                execution_options={"synchronize_session": False},
            )
            assert isinstance(taken, CursorResult)
            if not taken.rowcount:
                return None
            row = (await session.execute(select(DarajaToken).where(DarajaToken.app_id == app_id))).scalars().one()
            return row.fence

    async def _change(self, app_id: str, fence: int, **values: object) -> None:
        async with self._store.platform() as session:
            await session.execute(
                update(DarajaToken)
                .where(col(DarajaToken.app_id) == app_id, col(DarajaToken.fence) == fence)
                .values(**values),
                execution_options={"synchronize_session": False},
            )

    async def _identify(self, app: DarajaApp) -> tuple[str, SealingKey]:
        key = await self._keyring.platform_key(DARAJA_TOKENS)
        return app_id_of(key, app), key

    def _fresh(self, held: _Held | None) -> _Held | None:
        return held if held is not None and held.expires_at - _MARGIN > self._clock.now() else None


def _opened(row: DarajaToken, key: SealingKey) -> _Held | None:
    if row.sealed is None or row.expires_at is None:
        return None
    try:
        return _Held(Secret(key.open(row.sealed, "daraja_token", row.app_id).decode()), row.expires_at)
    except SealBroken:
        return None  # sealed under a key that is gone: a new token costs one call
