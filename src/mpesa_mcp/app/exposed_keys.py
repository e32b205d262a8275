"""API keys where they must not be: in the address of a request, which is refused, or in a log line; both flag them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import unquote_to_bytes

import anyio
import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Receive, Scope, Send

from mpesa_mcp.api.errors import answer_of
from mpesa_mcp.api.request_ids import RequestIds
from mpesa_mcp.errors import InputError, MpesaMcpError
from mpesa_mcp.identity.exposed_keys import Place, flag_exposed_key
from mpesa_mcp.identity.key_text import keys_in
from mpesa_mcp.logs import watching_for_keys
from mpesa_mcp.payments.core import Core
from mpesa_mcp.values import sha256_hex

# Of one address or log line; more are a joke.
_MOST_AT_ONCE: Final = 3
# A line that is logged again and again is looked at once in a while.
_SEEN_AGAIN_AFTER_SECONDS: Final = 60.0
_MOST_REMEMBERED: Final = 1_000
# How long a process that ends waits for what it is flagging.
_LAST_SECONDS: Final = 2.0

log = structlog.get_logger(__name__)


class KeyInAddress(InputError):
    """A key stands in the path or query of a request, where proxies, histories and logs keep it."""

    code = "key_in_address"
    http_status = 400

    def __init__(self) -> None:
        super().__init__(
            "An API key stands in the address of this request, where others can read it. Nothing was done. Send it in "
            "the Authorization header, and have a person rotate it: mpesa-mcp key rotate."
        )


class KeysInAddresses:
    """Refuses requests with a well-formed key in their address, whatever they ask for."""

    def __init__(self, app: ASGIApp, core: Core) -> None:
        self._app = app
        self._core = core
        self._refuse = RequestIds(self._answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _keys_of(scope):
            await self._refuse(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        for key in _keys_of(scope)[:_MOST_AT_ONCE]:
            await _flag(self._core, key, Place.ADDRESS)
        await answer_of(KeyInAddress())(scope, receive, send)


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
        task = loop.create_task(_flag(core, key, Place.LOG))
        flagging.add(task)
        task.add_done_callback(flagging.discard)

    def seen(text: str) -> None:
        for key in keys_in(text)[:_MOST_AT_ONCE]:
            # Log lines are written by any thread.
            loop.call_soon_threadsafe(begin, key)

    with watching_for_keys(seen):
        try:
            yield
        finally:
            with anyio.move_on_after(_LAST_SECONDS, shield=True):
                await asyncio.sleep(0)  # what was said last has begun
                await asyncio.gather(*flagging, return_exceptions=True)


async def _flag(core: Core, key: str, place: Place) -> None:
    try:
        await flag_exposed_key(core.store, core.keyring, core.clock, key, place=place)
    except (MpesaMcpError, SQLAlchemyError) as failed:
        # The request is refused, and the line redacted, all the same.
        log.warning("exposed_key_not_flagged", place=place.value, error=type(failed).__name__)


def _keys_of(scope: Scope) -> list[str]:
    address = (scope.get("raw_path") or scope["path"].encode()) + b"?" + scope.get("query_string", b"")
    if b"%" not in address and b"mpk_" not in address:
        return []
    # Twice: what was encoded twice is read by somebody, too.
    return keys_in(unquote_to_bytes(unquote_to_bytes(address)).decode("latin-1"))
