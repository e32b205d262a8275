"""MCP over stdio, for desktop clients: the handshake first, everything heavy after it.

The database, the HTTP client, the worker and the sidecar are opened beside the protocol, at the first call at the
latest. With `demo` there is a simulator and a throw-away organization too.
"""

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from mpesa_mcp.errors import DeniedError, InternalFault, MpesaMcpError
from mpesa_mcp.identity.principal import Unauthenticated
from mpesa_mcp.settings import Settings
from mpesa_mcp.tools.caller import Caller
from mpesa_mcp.tools.catalogue import all_tools
from mpesa_mcp.tools.server import ToolServer
from mpesa_mcp.values import Environment, Secret

if TYPE_CHECKING:
    from mpesa_mcp.payments.core import Core

log = logging.getLogger(__name__)


class ProductionNotLocal(DeniedError):
    """A desktop holds a production key, but was not started for that."""

    code = "production_not_local"

    def __init__(self) -> None:
        super().__init__(
            "This desktop server was not started for production. A person starts it with --local-production, or better "
            "connects to a server with: mpesa-mcp stdio --url."
        )


class Desktop:
    """What a desktop process runs behind the protocol, opened once and closed by the task that opened it."""

    def __init__(self, settings: Settings, *, demo: bool, local_production: bool) -> None:
        self._settings = settings
        self._demo = demo
        self._local_production = local_production
        self._opened: asyncio.Future[tuple[Core, Secret]] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def caller(self) -> Caller:
        """The caller of every call: whoever the key of this process stands for, checked anew each time."""
        core, key = await self._open()
        principal = await core.authentication.principal_on_mcp(key.reveal())
        if principal.environment is Environment.PRODUCTION and not self._local_production:
            raise ProductionNotLocal
        return Caller(core, principal)

    async def close(self) -> None:
        self._closing.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _open(self) -> tuple["Core", Secret]:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._live())
        return await asyncio.shield(self._opened)

    async def _live(self) -> None:
        from mpesa_mcp.logs import configure_logs

        configure_logs(self._settings.log_level)
        try:
            async with AsyncExitStack() as stack:
                self._opened.set_result(await (self._start_demo(stack) if self._demo else self._start(stack)))
                await self._closing.wait()
        except Exception as problem:
            if self._opened.done():
                raise
            log.exception("desktop_not_opened")
            known = problem if isinstance(problem, MpesaMcpError) else InternalFault("The server could not be started.")
            self._opened.set_exception(known)

    async def _start_demo(self, stack: AsyncExitStack) -> tuple["Core", Secret]:
        from mpesa_mcp.app.local import local_platform

        platform = await stack.enter_async_context(local_platform())
        return platform.core, platform.key

    async def _start(self, stack: AsyncExitStack) -> tuple["Core", Secret]:
        from mpesa_mcp.app.alive import leaving_traces
        from mpesa_mcp.app.core import open_core
        from mpesa_mcp.app.http import PortTaken, listen, serving
        from mpesa_mcp.app.worker import working
        from mpesa_mcp.callbacks.sidecar import create_sidecar

        if self._settings.api_key is None:
            raise Unauthenticated
        port = self._settings.callback_port
        core = await stack.enter_async_context(open_core(self._settings, local_callback_port=port))
        try:
            opened = listen(self._settings.host, port)
        except PortTaken:
            # Another process on the same data receives the callbacks; they come through the database.
            log.info("callback_port_taken", extra={"port": port})
        else:
            sidecar = create_sidecar(core.store, self._settings, core.clock)
            await stack.enter_async_context(serving(sidecar, opened))
        await stack.enter_async_context(leaving_traces(core, "stdio", works=True))
        await stack.enter_async_context(working(core))
        return core, Secret(self._settings.api_key.get_secret_value())


async def run_stdio(settings: Settings, *, demo: bool, local_production: bool) -> None:
    """Serves one desktop client until it closes stdin."""
    desktop = Desktop(settings, demo=demo, local_production=local_production)
    try:
        await ToolServer(desktop.caller, all_tools()).run_stdio_async()
    finally:
        await desktop.close()
