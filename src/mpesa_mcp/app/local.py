"""Everything on this machine, made for the moment: a simulator, an organization, a key, in a directory that goes away.

This is what `demo` and `stdio --demo` run, and what the tests stand on.
"""

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpesa_mcp.app.core import open_core
from mpesa_mcp.app.http import SIMULATOR_KEEP_ALIVE_SECONDS, listen, port_of, serving
from mpesa_mcp.app.web import create_web
from mpesa_mcp.app.worker import working
from mpesa_mcp.credentials.shortcodes import GivenShortcode, set_shortcode
from mpesa_mcp.credentials.vault import SecretField
from mpesa_mcp.identity.api_keys import create_key
from mpesa_mcp.identity.organizations import OrganizationRecord, create_organization
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.payments.core import Core
from mpesa_mcp.settings import Settings
from mpesa_mcp.simulator.app import create_simulator
from mpesa_mcp.values import Environment, Role, Secret, ShortcodeType

# Public constants of Safaricom's sandbox, which the simulator accepts too (daraja/api.md §0).
SANDBOX_SHORTCODE = "174379"
SANDBOX_SECRETS = {
    SecretField.CONSUMER_KEY: Secret("simulator-key"),
    SecretField.CONSUMER_SECRET: Secret("simulator-secret"),
    SecretField.PASSKEY: Secret("bfb279f9aa9bdbcf158e97dd71a467cd2e0c893059b10f78e6b72ada1ed2c919"),
    SecretField.INITIATOR_NAME: Secret("testapi"),
    SecretField.INITIATOR_PASSWORD: Secret("Safaricom999!*!"),
}
_ACTOR = "operator:demo"


@dataclass(frozen=True, slots=True)
class LocalPlatform:
    """A running server with one organization, its key, and the simulator it pays through."""

    core: Core
    url: str
    simulator_url: str
    organization: OrganizationRecord
    key: Secret


@asynccontextmanager
async def local_platform(
    *,
    delay_ms: int = 300,
    seed: int = 1,
    role: Role = Role.MANAGER,
    worker: bool = True,
    **more: Any,
) -> AsyncIterator[LocalPlatform]:
    """Starts it all on free ports of this machine; everything is gone when the block ends. `more` are settings."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mpesa-mcp-")))
        simulator = create_simulator(seed=seed, delay_ms=delay_ms)
        gateway = serving(simulator, listen("127.0.0.1", 0), keep_alive_seconds=SIMULATOR_KEEP_ALIVE_SECONDS)
        simulator_port = await stack.enter_async_context(gateway)
        opened = listen("127.0.0.1", 0)
        simulator_url = f"http://127.0.0.1:{simulator_port}"
        values = {"data_dir": directory, "port": port_of(opened), "simulator_url": simulator_url}
        settings = Settings(**values | more)
        core = await stack.enter_async_context(open_core(settings))
        await stack.enter_async_context(serving(create_web(core), opened))
        if worker:
            await stack.enter_async_context(working(core))
        organization = await create_organization(core.store, core.clock, name="Demo Traders", slug="demo", actor=_ACTOR)
        key = await add_simulator_access(core, organization.organization_id, role=role)
        yield LocalPlatform(core, settings.reached_at, settings.simulator_url, organization, key)


async def add_simulator_access(core: Core, organization_id: str, *, role: Role) -> Secret:
    """Gives an organization the simulator's shortcode and one key; returns the key."""
    given = GivenShortcode(
        environment=Environment.SIMULATOR,
        shortcode=SANDBOX_SHORTCODE,
        type=ShortcodeType.PAYBILL,
        secrets=SANDBOX_SECRETS,
    )
    await set_shortcode(
        core.store,
        core.keyring,
        core.clock,
        core.settings,
        given,
        organization_id=organization_id,
        actor=Actor(_ACTOR, None),
    )
    made = await create_key(
        core.store,
        core.keyring,
        core.clock,
        organization_id=organization_id,
        name="demo assistant",
        role=role,
        environment=Environment.SIMULATOR,
        expires_at=None,
        tools=None,
        actor=Actor(_ACTOR, None),
    )
    return made.key
