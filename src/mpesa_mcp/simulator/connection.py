"""Closing a connection without an answer, which ASGI has no message for.

Under uvicorn the raw `send` of a request is a method of the object that owns the connection's transport. Closing that
transport makes a real client see the server hang up; waiting for `http.disconnect` afterwards lets uvicorn see it too,
so that it neither answers 500 nor logs an error. Where there is no such transport (in-process test transports), a
ConnectionResetError leaves the application instead.
"""

from typing import Protocol, cast

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_SCOPE_KEY = "mpesa_mcp.simulator.transport"


class _Transport(Protocol):
    def close(self) -> None: ...


def remember_transport(scope: Scope, send: Send) -> None:
    """To be called with the server's own `send`, before any middleware wraps it."""
    owner = getattr(send, "__self__", None)
    scope[_SCOPE_KEY] = getattr(owner, "transport", None)


class Hangup(Response):
    """Answers nothing and closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = cast("_Transport | None", scope.get(_SCOPE_KEY))
        if transport is None:
            raise ConnectionResetError("the simulator closes this connection on purpose")
        transport.close()
        while (await receive())["type"] != "http.disconnect":
            pass
