"""Gives each HTTP request an id, and says where it came from: in the log, in the audit, and to the caller.

The address is the one uvicorn tells: behind TRUSTED_PROXIES, the client's. A trace id is taken from `traceparent`
(W3C Trace Context); a request id never comes from outside.
"""

import re
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mpesa_mcp.audit import Circumstances, under
from mpesa_mcp.values import new_id

_TRACE_ID: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class RequestIds:
    """Answers carry `X-Request-ID`; whoever reports a problem names it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        traced = _TRACE_ID.fullmatch(Headers(scope=scope).get("traceparent", ""))
        client = scope.get("client")
        came = Circumstances(
            request_id=new_id("req"),
            address=client[0] if client else None,
            trace_id=traced.group(1) if traced else None,
        )

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start" and came.request_id:
                MutableHeaders(scope=message)["X-Request-ID"] = came.request_id
            await send(message)

        scope["circumstances"] = came  # for tools: their sessions may have begun with another request
        with under(came), structlog.contextvars.bound_contextvars(request_id=came.request_id):
            await self._app(scope, receive, named)
