"""Rotating the master key: each key that it wraps is wrapped anew with the newest one, and everybody goes on working.

First the marker changes: from then on every process wraps new keys with the newest master key. Then each row is
unwrapped with the key it was wrapped with and wrapped with the newest, one small transaction each, only if nobody
changed it meanwhile. So a rotation may be killed anywhere and run again; until it is through, both keys open.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy import CursorResult, update
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.credentials.data_keys import context_of
from mpesa_mcp.credentials.models import DataKey
from mpesa_mcp.errors import Advice, ConflictError
from mpesa_mcp.identity.models import PLATFORM
from mpesa_mcp.store.crossings import list_organizations
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import MARKER, Keyring, PlatformKey
from mpesa_mcp.store.traces import living
from mpesa_mcp.values import Clock


class KeyNotEverywhere(ConflictError):
    """A running process could not open what would be wrapped with the newest master key."""

    code = "master_key_not_everywhere"
    advice = Advice.WAIT

    def __init__(self, places: list[str]) -> None:
        super().__init__(
            f"These processes do not have the newest master key yet: {', '.join(places)}. Restart each with both keys "
            "(one that has them in a key file takes them up by itself within 15 seconds; one that was killed is "
            "forgotten within 45), then run this again. Nothing was changed."
        )


@dataclass(frozen=True, slots=True)
class WrappedKeys:
    """How many keys the newest master key wraps, how many the previous one, and how many neither opens."""

    newest: int
    previous: int
    unopened: int


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a run did, and what is so after it."""

    platform_keys: int
    data_keys: int
    after: WrappedKeys


async def count_wrapped(store: Store, keyring: Keyring) -> WrappedKeys:
    """Looks at every key that a master key wraps, and opens it."""
    newest = previous = unopened = 0
    async for _, wrapped, context in _all_wrapped(store):
        match keyring.keys.that_opens(wrapped, *context):
            case None:
                unopened += 1
            case key if key is keyring.keys.newest:
                newest += 1
            case _:
                previous += 1
    return WrappedKeys(newest, previous, unopened)


async def rotate_master_key(store: Store, keyring: Keyring, clock: Clock, *, actor: str) -> Rotation:
    """Wraps everything with the newest master key. Doing it again changes nothing.

    What no key opens is left as it is, and counted. Raises KeyNotEverywhere, or SealBroken when neither key is the one
    of this database.
    """
    keyring.read_again()
    newest = keyring.keys.ids[0]
    if behind := [each.place for each in await living(store, clock.now()) if newest not in each.master_keys]:
        raise KeyNotEverywhere(behind)
    await keyring.wrapping_key()
    platform_keys = data_keys = 0
    # The marker first: what is made from now on is wrapped with the newest key.
    for name in [MARKER, *await _names(store)]:
        platform_keys += await _rewrap_platform_key(store, keyring, name)
    for organization_id in await list_organizations(store):
        data_keys += await _rewrap_data_keys(store, keyring, organization_id)
    after = await count_wrapped(store, keyring)
    if platform_keys or data_keys:
        async with store.session(PLATFORM) as session:
            detail = {"platform_keys": platform_keys, "data_keys": data_keys, "left": after.previous}
            audit.record(session, clock, actor=actor, action="master_key.rotated", subject=newest, detail=detail)
    return Rotation(platform_keys, data_keys, after)


async def _rewrap_platform_key(store: Store, keyring: Keyring, name: str) -> int:
    mine = select(PlatformKey).where(col(PlatformKey.name) == name)
    async with store.platform() as session:
        row = (await session.execute(mine.with_for_update())).scalars().one()
        wrapped = _rewrapped(keyring, row.wrapped, "platform", name)
        if wrapped is None:
            return 0
        changed = await session.execute(
            update(PlatformKey).where(col(PlatformKey.name) == name).values(wrapped=wrapped),
            execution_options={"synchronize_session": False},
        )
        assert isinstance(changed, CursorResult)
        return changed.rowcount


async def _rewrap_data_keys(store: Store, keyring: Keyring, organization_id: str) -> int:
    async with store.reading(organization_id) as session:
        rows = await session.all(select(DataKey).order_by(col(DataKey.version)))
    if all(_rewrapped(keyring, row.wrapped, *context_of(organization_id, row.version)) is None for row in rows):
        return 0
    changed = 0
    async with store.session(organization_id) as session:
        for row in rows:
            wrapped = _rewrapped(keyring, row.wrapped, *context_of(organization_id, row.version))
            if wrapped is not None:
                same = update(DataKey).where(col(DataKey.version) == row.version, col(DataKey.wrapped) == row.wrapped)
                changed += await session.change(same.values(wrapped=wrapped))
    return changed


def _rewrapped(keyring: Keyring, wrapped: bytes, *context: str) -> bytes | None:
    """The same key wrapped with the newest master key; None when it is already, or cannot be."""
    key = keyring.keys.that_opens(wrapped, *context)
    if key is None or key is keyring.keys.newest:
        return None
    return keyring.keys.newest.wrap(key.unwrap(wrapped, *context), *context)


async def _all_wrapped(store: Store) -> AsyncIterator[tuple[str, bytes, tuple[str, ...]]]:
    """(whose, the wrapped key, what it is bound to) of every key that a master key wraps."""
    async with store.platform_reading() as session:
        platform_keys = (await session.execute(select(PlatformKey))).scalars().all()
    for key in platform_keys:
        yield key.name, key.wrapped, ("platform", key.name)
    for organization_id in await list_organizations(store):
        async with store.reading(organization_id) as session:
            data_keys = await session.all(select(DataKey))
        for row in data_keys:
            yield organization_id, row.wrapped, context_of(organization_id, row.version)


async def _names(store: Store) -> list[str]:
    async with store.platform_reading() as session:
        found = await session.execute(select(PlatformKey.name).where(col(PlatformKey.name) != MARKER))
        return list(found.scalars())
