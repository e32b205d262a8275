"""Phones, keys and processes for the tests of this folder."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import httpx2

from mpesa_mcp.app.core import open_core
from mpesa_mcp.app.local import LocalPlatform, add_simulator_access
from mpesa_mcp.identity.api_keys import NewKey, create_key
from mpesa_mcp.identity.organizations import create_organization
from mpesa_mcp.settings import Settings
from mpesa_mcp.values import Environment, FrozenClock, Role
from tests.clients import TLS
from tests.shortcodes import OPERATOR
from tests.warm import program

# With all its imports, as a person starts it.
PROGRAM = (sys.executable, "-c", "from mpesa_mcp.cli import main; main()")


def phone(last_two: str, *, group: int = 0) -> str:
    """A number whose last two digits choose what happens to its payments."""
    return f"2547000{group:03d}{last_two}"


async def movements(simulator_url: str) -> list[dict[str, Any]]:
    """Everything that really moved, as the simulator keeps it."""
    async with httpx2.AsyncClient(verify=TLS, base_url=simulator_url) as http:
        ledger: list[dict[str, Any]] = (await http.get("/_sim/ledger")).json()
    return ledger


async def key_for(
    platform: LocalPlatform,
    organization_id: str,
    *,
    role: Role = Role.MANAGER,
    tools: list[str] | None = None,
    expired: bool = False,
) -> NewKey:
    """A new key; an expired one was made two days ago, for a day."""
    made_at = datetime.now(UTC) - timedelta(days=2)
    return await create_key(
        platform.core.store,
        platform.core.keyring,
        FrozenClock(made_at) if expired else platform.core.clock,
        organization_id=organization_id,
        name="test",
        role=role,
        environment=Environment.SIMULATOR,
        expires_at=made_at + timedelta(days=1) if expired else None,
        tools=tools,
        actor=OPERATOR,
    )


def variables(**settings: object) -> dict[str, str]:
    """The environment of a process: ours without settings, and these settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MPESA_MCP_")}
    return inherited | {f"MPESA_MCP_{name}": str(value) for name, value in settings.items()}


@asynccontextmanager
async def started(
    env: Mapping[str, str], *words: str, says: str, cold: bool = False
) -> AsyncIterator[anyio.abc.Process]:
    """A process that stays up, once it has said on stderr that it does; stopped when the block ends.

    `cold` is one that imports what it needs.
    """
    process = await anyio.open_process(
        [*(PROGRAM if cold else program()), *words], env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        assert process.stderr is not None
        said = b""
        with anyio.fail_after(20):
            while says.encode() not in said:
                said += await process.stderr.receive()
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
            await process.aclose()


async def answers(url: str) -> None:
    """Waits until a server that was told to start takes connections."""
    async with httpx2.AsyncClient(verify=TLS) as http:
        with anyio.fail_after(20):
            while True:
                try:
                    await http.get(url)
                    return
                except httpx2.TransportError:
                    await anyio.sleep(0.05)


async def prepared(data_dir: Path, simulator_url: str, *, callback_port: int, **more: str) -> dict[str, str]:
    """An installation with an organization: the variables of its processes, key included."""
    given = {"DATA_DIR": data_dir, "SIMULATOR_URL": simulator_url, "CALLBACK_PORT": callback_port, **more}
    settings = Settings(**{name.lower(): value for name, value in given.items()})
    async with open_core(settings) as core:
        made = await create_organization(core.store, core.clock, name="Acme Ltd", slug="acme", actor="operator:tester")
        key = await add_simulator_access(core, made.organization_id, role=Role.MANAGER)
    return variables(**given) | {"MPESA_MCP_API_KEY": key.reveal()}
