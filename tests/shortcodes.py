"""Shortcodes for the tests of every folder, with the secrets that the simulator takes."""

from collections.abc import Mapping

from mpesa_mcp.app.local import SANDBOX_SECRETS, SANDBOX_SHORTCODE
from mpesa_mcp.credentials.shortcodes import GivenShortcode, ShortcodeRecord, set_shortcode
from mpesa_mcp.credentials.vault import SecretField
from mpesa_mcp.daraja.client import DarajaClient
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.payments.core import Core
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.values import Clock, Environment, Secret, ShortcodeType

OPERATOR = Actor("operator:tester", None)


async def make_shortcode(
    store: Store,
    keyring: Keyring,
    clock: Clock,
    settings: Settings,
    organization_id: str,
    *,
    environment: Environment = Environment.SIMULATOR,
    shortcode: str = SANDBOX_SHORTCODE,
    type: ShortcodeType = ShortcodeType.PAYBILL,  # noqa: A002 - the contract's word
    till: str | None = None,
    secrets: Mapping[SecretField, Secret] = SANDBOX_SECRETS,
    actor: Actor = OPERATOR,
    daraja: DarajaClient | None = None,
) -> ShortcodeRecord:
    given = GivenShortcode(environment=environment, shortcode=shortcode, type=type, secrets=secrets, till=till)
    return await set_shortcode(
        store, keyring, clock, settings, given, organization_id=organization_id, actor=actor, daraja=daraja
    )


async def give_shortcode(
    core: Core,
    organization_id: str,
    *,
    environment: Environment = Environment.SIMULATOR,
    shortcode: str = SANDBOX_SHORTCODE,
    secrets: Mapping[SecretField, Secret] = SANDBOX_SECRETS,
) -> ShortcodeRecord:
    """A paybill for an organization of this installation."""
    return await make_shortcode(
        core.store,
        core.keyring,
        core.clock,
        core.settings,
        organization_id,
        environment=environment,
        shortcode=shortcode,
        secrets=secrets,
    )
