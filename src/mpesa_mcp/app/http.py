"""Listening: sockets bound before anything is started, and servers that run beside other work."""

import asyncio
import errno
import gc
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio
import uvicorn
from starlette.types import ASGIApp

from mpesa_mcp.app.http_guard import GuardedProtocol
from mpesa_mcp.errors import InputError

# How long open requests may finish when a server stops; a stream of an MCP client would otherwise hold it for ever.
_GRACE_SECONDS = 5
# How long a connection may rest between two requests.
_KEEP_ALIVE_SECONDS = 5
# The simulator's. As at Daraja's gateway, the client (`daraja.transport`) is the first to let go: what it sends into a
# connection that is being closed may have arrived.
SIMULATOR_KEEP_ALIVE_SECONDS = 20


class PortTaken(InputError):
    """Somebody else listens there."""

    code = "port_taken"

    def __init__(self, port: int) -> None:
        super().__init__(f"Port {port} is in use. Stop the other program or choose another port.")
        self.port = port


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises PortTaken, or InputError for an address that is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Naming the protocol matters: asyncio then switches off Nagle's delay on accepted connections.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
    except OSError as refused:
        opened.close()
        if refused.errno == errno.EADDRINUSE:
            raise PortTaken(port) from refused
        raise InputError(f"Cannot listen on port {port} of the address in MPESA_MCP_HOST.", field="host") from refused
    return opened


def port_of(opened: socket.socket) -> int:
    return int(opened.getsockname()[1])


class _ServerWithinProgram(uvicorn.Server):
    """A server beside other work: signals belong to the program, not to one of its servers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        """As uvicorn's own, but a stop is heard at once and not at the next tick."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            with anyio.move_on_after(0.1):
                await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's own, which waits a tenth of a second also for what has ended."""
        for server in self.servers:
            server.close()
        for each in sockets or ():
            each.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with anyio.move_on_after(self.config.timeout_graceful_shutdown):
            while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110 # they tell nobody
                await asyncio.sleep(0.005)
        for task in self.server_state.tasks:
            task.cancel()
        await self.lifespan.shutdown()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(app: ASGIApp, trusted_proxies: str, keep_alive_seconds: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        timeout_keep_alive=keep_alive_seconds,
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=trusted_proxies or "127.0.0.1",
    )


@asynccontextmanager
async def serving(
    app: ASGIApp, opened: socket.socket, *, trusted_proxies: str = "", keep_alive_seconds: int = _KEEP_ALIVE_SECONDS
) -> AsyncIterator[int]:
    """Serves the application beside the block, on a socket from `listen`; gives the port.

    Nothing about single requests is logged here: paths of callbacks are secrets. `trusted_proxies` are the addresses
    whose X-Forwarded-For is believed.
    """
    server = _ServerWithinProgram(_config(app, trusted_proxies, keep_alive_seconds))
    task = asyncio.get_running_loop().create_task(server.serve(sockets=[opened]))
    try:
        while not server.started:
            if task.done():
                await task
                raise InputError(f"The server on port {port_of(opened)} did not start.")
            await asyncio.sleep(0.005)
        yield port_of(opened)
    finally:
        server.stop()
        with anyio.CancelScope(shield=True):
            await asyncio.gather(task, return_exceptions=True)
        opened.close()


def collect_seldom() -> None:
    """From now on garbage is looked for seldom: what a server has made by then lives as long as the program does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


async def until_stopped() -> None:
    """Returns when the program, which is up now, is asked to stop, by Ctrl-C or SIGTERM."""
    collect_seldom()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, stopped.set)
    await stopped.wait()
