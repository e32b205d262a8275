"""The application behind `/console`: its pages, and what it answers when a page cannot be shown."""

from collections.abc import Sequence
from typing import Final

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from mpesa_mcp.console import approvals, batches, files, keys, organizations, payments, rules, sign_in
from mpesa_mcp.console.rendering import going_to, rendered
from mpesa_mcp.console.visits import (
    CONSOLE_PATH,
    SIGN_IN_PATH,
    SIGN_OUT_PATH,
    FormUnreadable,
    NotOurForm,
    Visit,
    asked_for,
    page,
    stands_on,
)
from mpesa_mcp.errors import InternalFault, MpesaMcpError, NotFoundError
from mpesa_mcp.identity.principal import Unauthenticated
from mpesa_mcp.payments.core import Core
from mpesa_mcp.values import Role

log = structlog.get_logger(__name__)


@page(Role.USER, platform=True)
async def home(visit: Visit) -> Response:
    """Where somebody begins."""
    if visit.principal.role is Role.SUPER_ADMIN:
        return going_to("/console/organizations")
    return going_to("/console/approvals")


ROUTES: Final[Sequence[Route]] = (
    Route("/", home),
    *sign_in.ROUTES,
    *approvals.ROUTES,
    *payments.ROUTES,
    *batches.ROUTES,
    *rules.ROUTES,
    *keys.ROUTES,
    *organizations.ROUTES,
    *files.ROUTES,
)


def console_routes(core: Core, middleware: Sequence[Middleware] = ()) -> list[BaseRoute]:
    """Everything under `/console`."""
    console = Starlette(
        routes=[*ROUTES],
        middleware=middleware,
        exception_handlers={MpesaMcpError: _refused, HTTPException: _not_routed, Exception: _failed},
    )
    console.router.redirect_slashes = False
    console.state.core = core
    return [Route(CONSOLE_PATH, _bare), Mount(CONSOLE_PATH, app=console)]


async def _bare(_request: Request) -> Response:
    return going_to(f"{CONSOLE_PATH}/")


async def _refused(request: Request, error: Exception) -> Response:
    """The one place where an error becomes a page; its sentence is ours."""
    assert isinstance(error, MpesaMcpError)
    if isinstance(error, Unauthenticated):
        return _sign_in_first(request)
    if isinstance(error, InternalFault):
        log.error("page_failed", code=error.code, exc_info=error)
    return _page_of(request, error)


def _page_of(request: Request, error: MpesaMcpError) -> Response:
    # What is shown of an address stays the same whether there is something or not: only our own form leads back.
    form = stands_on(request) if isinstance(error, NotOurForm | FormUnreadable) else None
    answer = rendered("refused.html", visit=_visit_of(request), error=error, form=form, status=error.http_status)
    if seconds := getattr(error, "retry_after_seconds", None):
        answer.headers["Retry-After"] = str(seconds)
    return answer


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405 and request.method in {"GET", "HEAD"}:
        # The address of an action, which a browser keeps where it was refused, and opens again.
        return going_to(stands_on(request))
    answer = _page_of(request, NotFoundError("page"))
    answer.status_code = error.status_code
    return answer


async def _failed(request: Request, fault: Exception) -> Response:
    """Whatever nobody thought of; the log has it under the request id."""
    log.error("page_failed", code=InternalFault.code, exc_info=fault)
    return _page_of(request, InternalFault("Something went wrong on our side. Try again later."))


def _sign_in_first(request: Request) -> Response:
    address = f"{SIGN_IN_PATH}?next={asked_for(request)}"
    if request.method == "POST" and request.url.path != SIGN_OUT_PATH:
        address += "&undone=1"
    if "HX-Request" in request.headers:
        return Response(status_code=401, headers={"HX-Redirect": address})
    return going_to(address)


def _visit_of(request: Request) -> Visit | None:
    visit: Visit | None = getattr(request.state, "visit", None)
    return visit
