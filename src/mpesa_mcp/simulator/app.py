"""The simulator as an ASGI application, for a server of its own or inside another process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from mpesa_mcp.simulator.connection import Hangup, remember_transport
from mpesa_mcp.simulator.control import Control
from mpesa_mcp.simulator.gateway import OPERATIONS, Gateway
from mpesa_mcp.simulator.perimeter import LocalOnly
from mpesa_mcp.simulator.phone_page import PhonePage
from mpesa_mcp.simulator.simulation import Simulation
from mpesa_mcp.values import Clock, SystemClock

ALL_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Simulator(Starlette):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Before any middleware wraps `send`: dropping a connection needs the server's own.
        remember_transport(scope, send)
        await super().__call__(scope, receive, send)


def create_simulator(*, seed: int = 1, delay_ms: int = 300, clock: Clock | None = None) -> Starlette:
    """A new simulator with nothing in common with any other.

    `delay_ms` is the base delay of decisions, callbacks and results; `clock` dates what it writes, but never makes it
    wait. The application's lifespan must run: it owns the callbacks under way and cancels them at the end.
    """
    if delay_ms < 0:
        raise ValueError("delay_ms is not negative")
    simulation = Simulation(seed=seed, delay_ms=delay_ms, clock=clock or SystemClock())
    gateway = Gateway(simulation)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with simulation.deliveries.open(), simulation.schedule.running():
            yield

    routes = [
        Route("/oauth/v1/generate", gateway.token, methods=ALL_METHODS),
        *(Route(operation.path, gateway.endpoint(operation), methods=ALL_METHODS) for operation in OPERATIONS),
        *Control(simulation).routes(),
        *PhonePage(simulation).routes(),
        Route("/{path:path}", gateway.unknown, methods=ALL_METHODS),
    ]
    return Simulator(
        routes=routes,
        middleware=[Middleware(LocalOnly)],
        lifespan=lifespan,
        exception_handlers={ClientDisconnect: _nobody_is_listening},
    )


async def _nobody_is_listening(_: Request, __: Exception) -> Response:
    """The client left in the middle of its request; there is nothing to answer and nothing to report."""
    return Hangup()
