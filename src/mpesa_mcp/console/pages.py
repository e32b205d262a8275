"""The page behind an invitation link.

It is the same for everybody: the token stands behind the #, stays in the browser, and goes to the API from there. The
policy lets it load and reach nothing but this server.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

_FILES: Final = Path(__file__).parent / "files"
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'none'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def console_routes() -> list[BaseRoute]:
    """The pages, under `/console`."""
    return [
        Route("/console/invitation", _file("invitation.html")),
        Route("/console/invitation.js", _file("invitation.js")),
        Route("/console/console.css", _file("console.css")),
    ]


def _file(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def file(_request: Request) -> Response:
        return FileResponse(_FILES / name, headers=_HEADERS)

    return file
