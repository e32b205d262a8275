"""Phones, keys and processes for the tests of this folder."""

import json
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

from mpesa_mcp.app.local import LocalPlatform
from mpesa_mcp.identity.api_keys import NewKey, create_key
from mpesa_mcp.values import Environment, FrozenClock, Role
from tests.clients import TLS
from tests.shortcodes import OPERATOR

PROGRAM = (sys.executable, "-c", "from mpesa_mcp.cli import main; main()")
SECRETS = {
    "consumer_key": "consumer-key-of-the-app",
    "consumer_secret": "consumer-secret-of-the-app",
    "passkey": "bfb279f9aa9bdbcf158e97dd71a467cd2e0c893059b10f78e6b72ada1ed2c919",
    "initiator_name": "testapi",
    "initiator_password": "Safaricom999!*!",
}


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


async def ask(env: Mapping[str, str], *words: str, typed: str = "") -> Any:
    """Runs a command that must succeed, with --json; gives its value."""
    done = await anyio.run_process([*PROGRAM, *words, "--json"], input=typed.encode(), env=dict(env), check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@asynccontextmanager
async def started(env: Mapping[str, str], *words: str, says: str) -> AsyncIterator[anyio.abc.Process]:
    """A process that stays up, once it has said on stderr that it does; stopped when the block ends."""
    process = await anyio.open_process(
        [*PROGRAM, *words], env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
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


async def prepared(
    data_dir: Path, simulator_url: str, *, callback_port: int, tools: str | None = None, **more: str
) -> dict[str, str]:
    """An installation made by the command line: the variables of its desktop processes, key included."""
    env = variables(DATA_DIR=data_dir, SIMULATOR_URL=simulator_url, CALLBACK_PORT=callback_port, **more)
    await ask(env, "org", "create", "Acme Ltd", "--slug", "acme")
    options = ("--environment", "simulator", "--shortcode", "174379", "--type", "paybill", "--file", "-")
    await ask(env, "credentials", "set", "--org", "acme", *options, typed=json.dumps(SECRETS))
    limited = () if tools is None else ("--tools", tools)
    made = await ask(env, "key", "create", "--org", "acme", "--role", "manager", "--name", "desktop", *limited)
    return env | {"MPESA_MCP_API_KEY": made["key"]}
