"""Shortcodes for the tests of this folder."""

from collections.abc import Mapping

from mpesa_mcp.credentials.shortcodes import ShortcodeRecord, set_shortcode
from mpesa_mcp.credentials.vault import SecretField
from mpesa_mcp.identity.organizations import create_organization
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.values import Clock, Environment, Secret, ShortcodeType

OPERATOR = "operator:tester"

KEYS = {
    SecretField.CONSUMER_KEY: "consumer-key-of-the-app",
    SecretField.CONSUMER_SECRET: "consumer-secret-of-the-app",
}
PASSKEY = {SecretField.PASSKEY: "passkey-of-the-shortcode"}
INITIATOR = {SecretField.INITIATOR_NAME: "testapi", SecretField.INITIATOR_PASSWORD: "Safaricom999!*!"}


def sealed(values: Mapping[SecretField, str]) -> dict[SecretField, Secret]:
    return {field: Secret(value) for field, value in values.items()}


async def make_organization(store: Store, clock: Clock, slug: str = "acme") -> str:
    return (await create_organization(store, clock, name=slug.title(), slug=slug, actor=OPERATOR)).organization_id


async def make_shortcode(
    store: Store,
    keyring: Keyring,
    clock: Clock,
    settings: Settings,
    organization_id: str,
    *,
    environment: Environment = Environment.SANDBOX,
    shortcode: str = "174379",
    type: ShortcodeType = ShortcodeType.PAYBILL,  # noqa: A002 - the contract's word
    till: str | None = None,
    secrets: Mapping[SecretField, str] | None = None,
) -> ShortcodeRecord:
    return await set_shortcode(
        store,
        keyring,
        clock,
        settings,
        organization_id=organization_id,
        environment=environment,
        shortcode=shortcode,
        type=type,
        till=till,
        secrets=sealed({**KEYS, **PASSKEY, **INITIATOR} if secrets is None else secrets),
        actor=OPERATOR,
    )
