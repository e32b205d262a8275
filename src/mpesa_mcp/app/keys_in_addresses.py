"""API keys in the addresses of requests: refused before anything else, and flagged."""

from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from mpesa_mcp.api.errors import answer_of
from mpesa_mcp.api.request_ids import RequestIds
from mpesa_mcp.app.exposed_keys import MOST_AT_ONCE, flag
from mpesa_mcp.errors import InputError
from mpesa_mcp.identity.exposed_keys import Place
from mpesa_mcp.identity.key_text import keys_in
from mpesa_mcp.payments.core import Core


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
        for key in _keys_of(scope)[:MOST_AT_ONCE]:
            await flag(self._core, key, Place.ADDRESS)
        await answer_of(KeyInAddress())(scope, receive, send)


def _keys_of(scope: Scope) -> list[str]:
    address = (scope.get("raw_path") or scope["path"].encode()) + b"?" + scope.get("query_string", b"")
    if b"%" not in address and b"mpk_" not in address:
        return []
    # Twice: what was encoded twice is read by somebody, too.
    return keys_in(unquote_to_bytes(unquote_to_bytes(address)).decode("latin-1"))
