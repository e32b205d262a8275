"""API keys in log lines, where they must not be: the line is redacted, and the key flagged."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
import structlog
from sqlalchemy.exc import SQLAlchemyError

from mpesa_mcp.errors import MpesaMcpError
from mpesa_mcp.identity.exposed_keys import Place, flag_exposed_key
from mpesa_mcp.identity.key_text import keys_in
from mpesa_mcp.logs import watching_for_keys
from mpesa_mcp.payments.core import Core
from mpesa_mcp.values import sha256_hex

# Of one address or log line; more are a joke.
MOST_AT_ONCE: Final = 3
# A line that is logged again and again is looked at once in a while.
_SEEN_AGAIN_AFTER_SECONDS: Final = 60.0
_MOST_REMEMBERED: Final = 1_000
# How long a process that ends waits for what it is flagging.
_LAST_SECONDS: Final = 2.0

log = structlog.get_logger(__name__)


@asynccontextmanager
async def flagging_keys_in_logs(core: Core) -> AsyncIterator[None]:
    """While the block runs, a key that was about to be written to the log (and is redacted there) is flagged."""
    loop = asyncio.get_running_loop()
    flagging: set[asyncio.Task[None]] = set()
    lately: dict[str, float] = {}

    def begin(key: str) -> None:
        now, place = loop.time(), sha256_hex(key)
        if now < lately.get(place, 0.0):
            return
        if len(lately) > _MOST_REMEMBERED:
            lately.clear()
        lately[place] = now + _SEEN_AGAIN_AFTER_SECONDS
        task = loop.create_task(flag(core, key, Place.LOG))
        flagging.add(task)
        task.add_done_callback(flagging.discard)

    def seen(text: str) -> None:
        for key in keys_in(text)[:MOST_AT_ONCE]:
            # Log lines are written by any thread.
            loop.call_soon_threadsafe(begin, key)

    with watching_for_keys(seen):
        try:
            yield
        finally:
            with anyio.move_on_after(_LAST_SECONDS, shield=True):
                await asyncio.sleep(0)  # what was said last has begun
                await asyncio.gather(*flagging, return_exceptions=True)


async def flag(core: Core, key: str, place: Place) -> None:
    """Notes that others may have read this key, if it is one of ours."""
    try:
        await flag_exposed_key(core.store, core.keyring, core.clock, key, place=place)
    except (MpesaMcpError, SQLAlchemyError) as failed:
        # The request is refused, and the line redacted, all the same.
        log.warning("exposed_key_not_flagged", place=place.value, error=type(failed).__name__)
