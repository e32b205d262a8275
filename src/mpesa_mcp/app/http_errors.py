"""Errors of ours that reach the server's outside: answered in the one shape of `api.errors`."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mpesa_mcp.api.errors import answer_of
from mpesa_mcp.errors import MpesaMcpError


class HttpErrors:
    """Answers with the error's own status; what had begun to be answered before is left to the server."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def note(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, note)
        except MpesaMcpError as error:
            if begun or scope["type"] != "http":
                raise
            await answer_of(error)(scope, receive, send)
