"""Who may look at the phones and turn the controls: this machine only, and no web page from elsewhere.

The peer must be on loopback; the Host must name loopback, so that a web site whose name is pointed at 127.0.0.1 gets
nothing; and what changes something must not come from another site's page. Daraja's own paths are open to whoever can
reach the port.
"""

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mpesa_mcp.simulator.deliveries import is_loopback

GUARDED = ("/phone", "/_sim")
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


class LocalOnly:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_guarded(scope["path"]):
            refusal = _refusal(HTTPConnection(scope), scope["method"])
            if refusal is not None:
                await JSONResponse({"error": refusal}, 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_guarded(path: str) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in GUARDED)


def _refusal(connection: HTTPConnection, method: str) -> str | None:
    if connection.client is None or not is_loopback(connection.client.host):
        return "Only this machine may ask for this."
    if not is_loopback(_host_name(connection)):
        return "Ask for this by a loopback name: 127.0.0.1 or localhost."
    if method not in _SAFE_METHODS and _comes_from_another_site(connection):
        return "Another site's page may not ask for this."
    return None


def _host_name(connection: HTTPConnection) -> str | None:
    return urlsplit(f"//{connection.headers.get('host', '')}").hostname


def _comes_from_another_site(connection: HTTPConnection) -> bool:
    """By what browsers add; programs that are no browsers send neither header."""
    if connection.headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}:
        return True
    origin = connection.headers.get("origin")
    return origin is not None and origin != f"{connection.url.scheme}://{connection.headers.get('host', '')}"
