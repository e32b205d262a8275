"""Flagging a key that stood where others can read it. It is not revoked by that: a person rotates it."""

from datetime import timedelta
from enum import StrEnum
from typing import Final

import structlog
from sqlalchemy import or_, update
from sqlmodel import col

from mpesa_mcp import audit
from mpesa_mcp.identity.api_keys import hash_of
from mpesa_mcp.identity.models import ApiKey
from mpesa_mcp.store.crossings import find_key
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.values import Clock

# One that is exposed again and again is told of once in this time.
_TOLD_EVERY: Final = timedelta(hours=1)

_log = structlog.get_logger(__name__)


class Place(StrEnum):
    """Where a key was seen."""

    ADDRESS = "address"
    LOG = "log"


async def flag_exposed_key(store: Store, keyring: Keyring, clock: Clock, presented: str, *, place: Place) -> None:
    """Notes it with the key, in its organization's audit and in the log. A key of nobody is no news.

    Costs an indexed read; only a key that nothing was told of lately writes.
    """
    found = await find_key(store, await hash_of(keyring, presented))
    if found is None:
        return
    organization_id, key_id = found
    now = clock.now()
    async with store.reading(organization_id) as session:
        row = await session.get(ApiKey, key_id)
    if row is None or (row.exposed_at is not None and row.exposed_at > now - _TOLD_EVERY):
        return
    untold = or_(col(ApiKey.exposed_at).is_(None), col(ApiKey.exposed_at) <= now - _TOLD_EVERY)
    async with store.session(organization_id) as session:
        if not await session.change(update(ApiKey).where(col(ApiKey.id) == key_id, untold).values(exposed_at=now)):
            return
        audit.record(
            session, clock, actor="system", action="key.exposed", subject=key_id, detail={"place": place.value}
        )
    _log.warning("key_exposed", organization_id=organization_id, key_id=key_id, place=place.value)
