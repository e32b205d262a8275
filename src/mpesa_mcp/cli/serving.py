"""The commands that stay up: serve, stdio, callbacks, worker, simulator."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated

import typer

from mpesa_mcp.cli.output import JsonOption, emit, refusals, say

if TYPE_CHECKING:
    from mpesa_mcp.settings import Settings

# Requests and the database's thread hand the interpreter to each other several times a commit; with Python's own five
# milliseconds a busy one would let the other wait as long each time.
_CALLBACKS_SWITCH_SECONDS = 0.0002

PortOption = Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Where to listen.")]


def serve(
    port: PortOption = None,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Another process runs the worker.")] = False,
    no_callbacks: Annotated[bool, typer.Option("--no-callbacks", help="Another process receives callbacks.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Serve MCP over HTTP at /mcp, Safaricom's callbacks at /cb, and the worker."""

    async def act(settings: "Settings") -> None:
        from contextlib import AsyncExitStack

        from mpesa_mcp.app.alive import leaving_traces
        from mpesa_mcp.app.bearer import mcp_url
        from mpesa_mcp.app.core import open_core
        from mpesa_mcp.app.http import listen, serving, until_stopped
        from mpesa_mcp.app.web import create_web
        from mpesa_mcp.app.worker import working

        # What other commands print (invitations, approvals) follows the setting, whatever this process listens on.
        linked = settings.reached_at
        if port is not None:
            settings = settings.model_copy(update={"port": port})
        async with AsyncExitStack() as stack:
            opened = listen(settings.host, settings.port)
            callback_port = settings.callback_port if no_callbacks else settings.port
            core = await stack.enter_async_context(open_core(settings, local_callback_port=callback_port))
            await stack.enter_async_context(leaving_traces(core, "serve", works=not no_worker))
            if not no_worker:
                await stack.enter_async_context(working(core))
            web = create_web(core, with_callbacks=not no_callbacks)
            await stack.enter_async_context(serving(web, opened, trusted_proxies=settings.trusted_proxies))
            _announce(f"Serving MCP at {mcp_url(settings)} (stop with Ctrl-C).", as_json, url=mcp_url(settings))
            if settings.reached_at != linked:
                say(
                    f"Links that other commands print lead to {linked}; MPESA_MCP_PORT={settings.port} leads them here."
                )
            if settings.public_url is None:
                where = f", on port {callback_port}, where `mpesa-mcp callbacks` is to run" if no_callbacks else ""
                say(f"MPESA_MCP_PUBLIC_URL is not set: only the simulator can call back{where}.")
            await until_stopped()

    _run(act)


def stdio(
    demo: Annotated[bool, typer.Option("--demo", help="A simulator and a throw-away organization; no set-up.")] = False,
    url: Annotated[str | None, typer.Option("--url", help="Bridge to this server instead of a local database.")] = None,
    local_production: Annotated[
        bool, typer.Option("--local-production", help="Allow production shortcodes from this desktop.")
    ] = False,
) -> None:
    """Serve MCP over stdio for a desktop client; the key comes from MPESA_MCP_API_KEY."""
    if demo and url:
        raise typer.BadParameter("--demo and --url exclude each other.")

    async def act(settings: "Settings") -> None:
        if url:
            from mpesa_mcp.app.bridge import run_bridge

            await run_bridge(settings, url)
            return
        from mpesa_mcp.app.desktop import run_stdio
        from mpesa_mcp.errors import InputError

        if settings.api_key is None and not demo:
            raise InputError(
                "Set MPESA_MCP_API_KEY to a key made with: mpesa-mcp key create. To try without one: "
                "mpesa-mcp stdio --demo.",
                field="api_key",
            )
        await run_stdio(settings, demo=demo, local_production=local_production)

    # The handshake first: the SDK logs its own warnings to stderr until then.
    _run(act, logs_later=True)


def callbacks(as_json: JsonOption = False) -> None:
    """Receive Safaricom's callbacks, and nothing else: the only part that must face the internet."""

    async def act(settings: "Settings") -> None:
        from mpesa_mcp.app.core import DatabaseNotReady
        from mpesa_mcp.app.http import listen, serving, until_stopped
        from mpesa_mcp.callbacks.sidecar import can_store, create_sidecar
        from mpesa_mcp.store.engine import open_store
        from mpesa_mcp.store.migrate import upgrade
        from mpesa_mcp.values import SystemClock

        sys.setswitchinterval(_CALLBACKS_SWITCH_SECONDS)
        if settings.database_url is None:
            await upgrade(settings.owner_database_url)
        opened = listen(settings.host, settings.callback_port)
        store = open_store(settings.effective_database_url)
        clock = SystemClock()
        sidecar = create_sidecar(store, settings, clock)
        try:
            # It may not read the migrations' table; what it may do shows whether it can do its work.
            if not await can_store(store, clock):
                raise DatabaseNotReady(
                    "Callbacks could not be stored: the database is away, lacks its tables, or this role its grants. "
                    "Check MPESA_MCP_DATABASE_URL and run: mpesa-mcp db upgrade --callbacks-role ROLE."
                )
            async with serving(sidecar, opened, trusted_proxies=settings.trusted_proxies):
                port = settings.callback_port
                _announce(f"Receiving callbacks on port {port} (stop with Ctrl-C).", as_json, port=port)
                await until_stopped()
        finally:
            await store.close()

    _run(act)


def worker(as_json: JsonOption = False) -> None:
    """Send, apply callbacks and reconcile, without listening to anybody."""

    async def act(settings: "Settings") -> None:
        from mpesa_mcp.app.alive import leaving_traces
        from mpesa_mcp.app.core import open_core
        from mpesa_mcp.app.http import until_stopped
        from mpesa_mcp.app.worker import working

        async with open_core(settings) as core, leaving_traces(core, "worker", works=True), working(core):
            _announce("Working (stop with Ctrl-C).", as_json, working=True)
            await until_stopped()

    _run(act)


def simulator(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where to listen.")] = 8766,
    delay_ms: Annotated[int, typer.Option("--delay-ms", min=0, max=600_000, help="Base delay of callbacks.")] = 300,
    seed: Annotated[int | None, typer.Option("--seed", help="Same seed, same run; by default a new one.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a Daraja on this machine, for trying things without Safaricom."""

    async def act() -> None:
        from mpesa_mcp.app.http import SIMULATOR_KEEP_ALIVE_SECONDS, listen, port_of, serving, until_stopped
        from mpesa_mcp.simulator.app import create_simulator
        from mpesa_mcp.values.ids import random_bytes

        chosen = int.from_bytes(random_bytes(4)) if seed is None else seed
        opened = listen("127.0.0.1", port)
        app = create_simulator(seed=chosen, delay_ms=delay_ms)
        async with serving(app, opened, keep_alive_seconds=SIMULATOR_KEEP_ALIVE_SECONDS):
            url = f"http://127.0.0.1:{port_of(opened)}"
            _announce(
                f"Daraja simulator at {url}, phones at {url}/phone, seed {chosen}.", as_json, url=url, seed=chosen
            )
            await until_stopped()

    with refusals():
        _log_to_stderr("WARNING")
        _run_server(act())


def _run(act: Callable[["Settings"], Coroutine[None, None, None]], *, logs_later: bool = False) -> None:
    """Loads the settings, sends logs to stderr, and runs until stopped; refusals are one line and exit code 1."""
    from mpesa_mcp.settings import load_settings

    with refusals():
        settings = load_settings()
        if logs_later:
            asyncio.run(act(settings))
            return
        _log_to_stderr(settings.log_level)
        _run_server(act(settings))


def _run_server(serving: Coroutine[None, None, None]) -> None:
    """On uvloop, where it is installed: a server has thousands of small steps, and it takes less for each."""
    from uvicorn.loops.auto import auto_loop_factory

    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(serving)


def _announce(message: str, as_json: bool, **document: object) -> None:
    """Says that the process is up: to a person on stderr, to a program as one JSON value on stdout."""
    if as_json:
        emit(document, as_json=True)
    else:
        say(message)


def _log_to_stderr(level: str) -> None:
    from mpesa_mcp.logs import configure_logs

    configure_logs(level)
