"""The platform's page: which organizations there are. A super_admin sees nothing of their payments here."""

from typing import Final

from starlette.responses import Response
from starlette.routing import Route

from mpesa_mcp.console.rendering import rendered
from mpesa_mcp.console.visits import Visit, page
from mpesa_mcp.identity.organizations import page_of_organizations

_ON_A_PAGE: Final = 50


@page(None, platform=True)
async def organizations(visit: Visit) -> Response:
    """All of them, oldest first."""
    read = await page_of_organizations(visit.core.store, limit=_ON_A_PAGE, cursor=visit.query.get("cursor"))
    return rendered("organizations.html", visit=visit, organizations=read.items, more=read.next_cursor)


ROUTES: Final = (Route("/organizations", organizations),)
