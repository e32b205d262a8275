"""The HTTP server: `/mcp` for AI clients, `/api/v1` and `/console` for people, `/cb` for Safaricom, health."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from mcp.server.auth.settings import AuthSettings
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from mpesa_mcp import __version__
from mpesa_mcp.api.app import API_PATH, create_api
from mpesa_mcp.api.request_ids import RequestIds
from mpesa_mcp.app.bearer import SCOPE, BearerVerifier, callers_by_token, mcp_url
from mpesa_mcp.app.http_errors import HttpErrors
from mpesa_mcp.app.keys_in_addresses import KeysInAddresses
from mpesa_mcp.app.limited_calls import LimitedCalls
from mpesa_mcp.app.open_sessions import OpenSessions
from mpesa_mcp.app.request_states import SealedStates
from mpesa_mcp.callbacks.sidecar import callback_routes
from mpesa_mcp.console.app import console_routes
from mpesa_mcp.daraja.circuits import Outage, outages
from mpesa_mcp.payments.core import Core
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import StoreUnavailable
from mpesa_mcp.store.migrate import RevisionState, state_of
from mpesa_mcp.tools.catalogue import all_tools
from mpesa_mcp.tools.server import ToolServer

_MAX_BODY_BYTES = 256 * 1024


def create_web(core: Core, *, with_callbacks: bool = True) -> Starlette:
    """The application behind `serve`."""
    settings, states = core.settings, SealedStates()
    server = ToolServer(
        callers_by_token(core),
        all_tools(),
        token_verifier=BearerVerifier(core),
        auth=AuthSettings.model_validate(
            {
                "issuer_url": settings.reached_at,
                "resource_server_url": mcp_url(settings),
                "required_scopes": [SCOPE],
                "validate_token_resource": True,
            }
        ),
        request_states=states.security,
    )
    inner = server.streamable_http_app(
        stateless_http=settings.mcp_stateless,
        max_request_body_size=_MAX_BODY_BYTES,
        transport_security=_transport_security(settings),
    )

    # Outermost but for the SDK's own last resort: what the key's verification raises is answered in our shape, too.
    inner.user_middleware[:0] = [Middleware(RequestIds), Middleware(HttpErrors)]
    # Innermost, behind the authentication.
    inner.user_middleware += [Middleware(LimitedCalls, core=core), Middleware(OpenSessions)]

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await states.open(core.keyring)
        async with server.session_manager.run():  # a mounted application's own lifespan never runs
            yield

    routes: list[BaseRoute] = [
        Route("/", _welcome(settings)),
        Route("/healthz", _healthz),
        Route("/readyz", _readyz(core)),
        Mount(API_PATH, app=create_api(core)),
        *console_routes(core, [Middleware(RequestIds)]),
    ]
    if with_callbacks:
        routes += callback_routes(core.store, settings, core.clock)
    return Starlette(
        lifespan=lifespan,
        # Nowhere else: a person's token that comes to a mistyped address was not used on /mcp.
        routes=[*routes, *(Route(route.path, inner) for route in inner.routes if isinstance(route, Route))],
        # Before anything is looked for at such an address.
        middleware=[Middleware(KeysInAddresses, core=core)],
    )


def _transport_security(settings: Settings) -> TransportSecuritySettings:
    named = [host.strip() for host in settings.allowed_hosts.split(",") if host.strip()]
    own = urlsplit(settings.reached_at).netloc
    return TransportSecuritySettings(
        allowed_hosts=[*named, own, "127.0.0.1:*", "localhost:*", "[::1]:*"],
        # No browser page has business here but our own.
        allowed_origins=[settings.reached_at],
    )


def _welcome(settings: Settings) -> Callable[[Request], Awaitable[Response]]:
    """For whoever opens the bare address: what this is, and where its parts are."""
    at = settings.reached_at
    told = {"name": "mpesa-mcp", "version": __version__, "mcp": mcp_url(settings)}
    told |= {
        "api": f"{at}{API_PATH}",
        "console": f"{at}/console",
        "documentation": f"{at}{API_PATH}/docs",
        "health": f"{at}/healthz",
    }

    async def welcome(_request: Request) -> Response:
        return JSONResponse(told)

    return welcome


async def _healthz(_request: Request) -> Response:
    return JSONResponse({"ok": True})


def _readyz(core: Core) -> Callable[[Request], Awaitable[Response]]:
    async def readyz(_request: Request) -> Response:
        paused: Sequence[Outage] = []
        try:
            state = state_of(await core.store.revision())
            if state is RevisionState.CURRENT:
                paused = await outages(core.store, core.clock.now())
        except StoreUnavailable:
            state = RevisionState.UNREACHABLE
        ready = state is RevisionState.CURRENT
        # A Daraja that is away makes nobody unready: requests are accepted, and callbacks must be received.
        daraja = [
            {
                "environment": outage.environment.value,
                "state": outage.state.value,
                "reason": outage.reason.value,
                "retry_at": outage.retry_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
            }
            for outage in paused
        ]
        return JSONResponse({"ready": ready, "database": state.value, "daraja": daraja}, 200 if ready else 503)

    return readyz
