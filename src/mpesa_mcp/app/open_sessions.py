"""How many MCP sessions one caller has open: the SDK's are one pool, and nobody may take it from all others.

Who opens more than he may loses the one he has used least lately; a client whose session has ended opens a new one. The
older generation of the protocol has sessions, the newer has none.
"""

from collections import OrderedDict
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mpesa_mcp.app.bearer import principal_of
from mpesa_mcp.identity.principal import Principal

# Of the 10,000 that the SDK keeps.
MOST: Final = 200
_MOST_CALLERS: Final = 10_000
_SESSION: Final = "mcp-session-id"
# What belongs to the body of the request in whose place a session is ended.
_OF_THE_BODY: Final = frozenset({b"content-length", b"content-type", b"transfer-encoding"})


class OpenSessions:
    """Stands behind the authentication, before the SDK's own endpoint."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: OrderedDict[Principal, OrderedDict[str, None]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["user"].is_authenticated:
            await self._app(scope, receive, send)
            return
        mine = self._of(principal_of(scope["user"].access_token))
        used = Headers(scope=scope).get(_SESSION)
        if used is not None and used in mine:
            mine.move_to_end(used)
            if scope["method"] == "DELETE":
                del mine[used]

        async def noting(message: Message) -> None:
            opened = Headers(raw=message["headers"]).get(_SESSION) if message["type"] == "http.response.start" else None
            if used is None and opened is not None:
                mine[opened] = None
                # Before he hears of the new one, or he could go on with one that is about to end.
                while len(mine) > MOST:
                    await self._end(scope, mine.popitem(last=False)[0])
            await send(message)

        await self._app(scope, receive, noting)

    def _of(self, principal: Principal) -> OrderedDict[str, None]:
        mine = self._open.setdefault(principal, OrderedDict())
        self._open.move_to_end(principal)
        if len(self._open) > _MOST_CALLERS:
            self._open.popitem(last=False)
        return mine

    async def _end(self, scope: Scope, session_id: str) -> None:
        """As its owner would: whoever asks is the same."""
        headers = [each for each in scope["headers"] if each[0] not in _OF_THE_BODY]
        ending = {**scope, "method": "DELETE", "headers": [*headers, (_SESSION.encode(), session_id.encode())]}

        async def nothing() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def unheard(_message: Message) -> None:
            """Nobody waits for the answer."""

        await self._app(ending, nothing, unheard)
