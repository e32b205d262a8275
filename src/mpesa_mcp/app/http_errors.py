"""Errors of ours that reach the server's outside: answered in the one shape of `api.errors`.

So is what the SDK refuses by itself, a credential that is not good; its challenge, which tells clients where to look,
stays.
"""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mpesa_mcp.api.errors import answer_of
from mpesa_mcp.errors import MpesaMcpError
from mpesa_mcp.identity.principal import Unauthenticated


class HttpErrors:
    """Answers with the error's own status; what had begun to be answered before is left to the server."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = replaced = False

        async def note(message: Message) -> None:
            nonlocal begun, replaced
            begun = True
            if message["type"] == "http.response.start" and message["status"] == Unauthenticated.http_status:
                replaced = True
                answer = answer_of(Unauthenticated())
                answer.headers["WWW-Authenticate"] = Headers(scope=message).get("www-authenticate", "Bearer")
                await answer(scope, receive, send)
            elif not replaced:
                await send(message)

        try:
            await self._app(scope, receive, note)
        except MpesaMcpError as error:
            if begun or scope["type"] != "http":
                raise
            await answer_of(error)(scope, receive, send)
