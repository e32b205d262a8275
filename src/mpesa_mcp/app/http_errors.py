"""The one place where errors become HTTP answers."""

import structlog
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mpesa_mcp.errors import MpesaMcpError

log = structlog.get_logger(__name__)


class HttpErrors:
    """Answers with the error's own status and one shape; what had begun to be answered before is left to the server."""

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
            log.warning("http_refused", code=error.code, exc_info=error if error.http_status >= 500 else None)
            described = {"code": error.code, "message": error.message, "advice": error.advice.value}
            await JSONResponse({"error": described}, error.http_status)(scope, receive, send)
