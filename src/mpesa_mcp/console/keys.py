"""The organization's API keys: which there are, and taking one out of use. Keys are made where they are used, by REST
or command, and never shown here.
"""

from typing import Final

from starlette.responses import Response
from starlette.routing import Route

from mpesa_mcp.console.callers import callers
from mpesa_mcp.console.rendering import going_to, rendered
from mpesa_mcp.console.visits import Visit, page
from mpesa_mcp.identity.api_keys import page_keys, revoke_key
from mpesa_mcp.values import Role

_ON_A_PAGE: Final = 50


@page(Role.ORG_ADMIN)
async def keys(visit: Visit) -> Response:
    """All of them, newest first."""
    core = visit.core
    read = await page_keys(core.store, visit.organization_id, limit=_ON_A_PAGE, cursor=visit.query.get("cursor"))
    makers = await callers(visit, {key.created_by for key in read.items})
    return rendered(
        "keys.html",
        visit=visit,
        keys=read.items,
        by_id={key.key_id: key for key in read.items},
        older=read.next_cursor,
        makers=makers,
        now=core.clock.now(),
    )


@page(Role.ORG_ADMIN)
async def revoke(visit: Visit) -> Response:
    """Takes a key out of use from its next call on."""
    await revoke_key(
        visit.core.store,
        visit.core.clock,
        organization_id=visit.organization_id,
        key_id=visit.request.path_params["key_id"],
        actor=visit.actor,
    )
    return going_to("/console/keys")


ROUTES: Final = (
    Route("/keys", keys),
    Route("/keys/{key_id}/revoke", revoke, methods=["POST"]),
)
