"""The files beside the pages: one style sheet, htmx, a few lines of script; and the page behind an invitation link.

That page is the same for everybody: the token stands behind the #, stays in the browser, and goes to the API from
there.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from mpesa_mcp.console.rendering import ASSETS, FILES, HEADERS, rendered

# A page names a file by what is in it.
_KEPT: Final = HEADERS | {"Cache-Control": "public, max-age=31536000, immutable"}


async def invitation(_request: Request) -> Response:
    """Choosing a password."""
    return rendered("invitation.html")


def _file(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def file(_request: Request) -> Response:
        return FileResponse(FILES / name, headers=_KEPT)

    return file


ROUTES: Final = (
    Route("/invitation", invitation),
    *(Route(f"/{name}", _file(name)) for name in ASSETS),
)
