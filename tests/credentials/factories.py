"""Shortcodes for the tests of this folder."""

from collections.abc import Mapping
from typing import Any

import tests.shortcodes
from mpesa_mcp.credentials.shortcodes import ShortcodeRecord
from mpesa_mcp.credentials.vault import SecretField
from mpesa_mcp.identity.organizations import create_organization
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.values import Clock, Environment, Secret
from tests.shortcodes import OPERATOR

KEYS = {
    SecretField.CONSUMER_KEY: "consumer-key-of-the-app",
    SecretField.CONSUMER_SECRET: "consumer-secret-of-the-app",
}
PASSKEY = {SecretField.PASSKEY: "passkey-of-the-shortcode"}
INITIATOR = {SecretField.INITIATOR_NAME: "testapi", SecretField.INITIATOR_PASSWORD: "Safaricom999!*!"}


def sealed(values: Mapping[SecretField, str]) -> dict[SecretField, Secret]:
    return {field: Secret(value) for field, value in values.items()}


async def make_organization(store: Store, clock: Clock, slug: str = "acme") -> str:
    return (await create_organization(store, clock, name=slug.title(), slug=slug, actor=OPERATOR.name)).organization_id


async def make_shortcode(
    store: Store,
    keyring: Keyring,
    clock: Clock,
    settings: Settings,
    organization_id: str,
    *,
    environment: Environment = Environment.SANDBOX,
    secrets: Mapping[SecretField, str] | None = None,
    **more: Any,
) -> ShortcodeRecord:
    """One at the sandbox, with every secret unless told otherwise."""
    given = sealed({**KEYS, **PASSKEY, **INITIATOR} if secrets is None else secrets)
    return await tests.shortcodes.make_shortcode(
        store, keyring, clock, settings, organization_id, environment=environment, secrets=given, **more
    )
