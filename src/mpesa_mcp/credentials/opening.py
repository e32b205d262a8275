"""Opening a shortcode: its secrets in memory, for a second at most. Nothing here is logged."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import col, select

from mpesa_mcp.credentials.choice import ShortcodeUnavailable
from mpesa_mcp.credentials.data_keys import data_keys, key_of_version
from mpesa_mcp.credentials.models import Shortcode, ShortcodeSecret
from mpesa_mcp.credentials.vault import SecretField, open_secret
from mpesa_mcp.daraja.operations import HOSTS, DarajaApp, Initiator
from mpesa_mcp.errors import NotFoundError
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment, Secret, ShortcodeType

# Woken when credentials of any organization change: whoever holds opened ones lets go of them.
CHANGED = "credentials"
_LIFE_SECONDS = 1.0
# Fewer characters than this and the last four would be a good part of the secret.
_LONG_ENOUGH_TO_HINT = 12


@dataclass(frozen=True, slots=True)
class OpenShortcode:
    """A shortcode ready for Daraja. `shortcode` is the store number of a till, `till` what customers pay to."""

    shortcode_id: str
    environment: Environment
    shortcode: str
    type: ShortcodeType
    till: str | None
    app: DarajaApp
    passkey: Secret | None
    initiator: Initiator | None

    @property
    def party_b(self) -> str:
        """Who receives an STK payment: the till, or the paybill itself (daraja/api.md §2, quirk 17)."""
        return self.till or self.shortcode

    def require_passkey(self) -> Secret:
        """Raises ShortcodeUnavailable: it may have been taken away since the payment was accepted."""
        if self.passkey is None:
            raise ShortcodeUnavailable("The shortcode has no passkey any more. A person must set it again.")
        return self.passkey

    def require_initiator(self) -> Initiator:
        """Raises ShortcodeUnavailable."""
        if self.initiator is None:
            raise ShortcodeUnavailable("The shortcode has no initiator any more. A person must set it again.")
        return self.initiator


class OpenedShortcodes:
    """The opened shortcodes of this process: opening one again within a second costs nothing.

    A change by any process forgets them all. What a process is told of another's change may be lost on the way; then
    an old secret is used for a second at most.
    """

    def __init__(self, store: Store, keyring: Keyring, settings: Settings) -> None:
        self._store = store
        self._keyring = keyring
        self._settings = settings
        self._held: dict[tuple[str, str], tuple[asyncio.Event, OpenShortcode]] = {}
        self._turns: dict[tuple[str, str], asyncio.Lock] = {}

    async def open(self, organization_id: str, shortcode_id: str) -> OpenShortcode:
        """As `open_shortcode`."""
        which = organization_id, shortcode_id
        if (held := self._fresh(which)) is not None:
            return held
        # Of many who need it at once, one opens it.
        async with self._turns.setdefault(which, asyncio.Lock()):
            return self._fresh(which) or await self._open(organization_id, shortcode_id)

    def _fresh(self, which: tuple[str, str]) -> OpenShortcode | None:
        held = self._held.get(which)
        return held[1] if held is not None and not held[0].is_set() else None

    async def _open(self, organization_id: str, shortcode_id: str) -> OpenShortcode:
        which = organization_id, shortcode_id
        # Taken before reading: what is changed meanwhile is not kept.
        changed = self._store.wakeups.token(CHANGED)
        opened = await open_shortcode(self._store, self._keyring, self._settings, organization_id, shortcode_id)
        self._held[which] = changed, opened
        asyncio.get_running_loop().call_later(_LIFE_SECONDS, self._held.pop, which, None)
        return opened


@dataclass(frozen=True, slots=True)
class SecretMark:
    """A sign that a secret is set. `last_four` is None for passwords and for what is too short to show a part of."""

    field: SecretField
    last_four: str | None
    set_at: datetime
    set_by: str


async def open_shortcode(
    store: Store, keyring: Keyring, settings: Settings, organization_id: str, shortcode_id: str
) -> OpenShortcode:
    """Opens all secrets of a shortcode. Raises NotFoundError, ShortcodeUnavailable, SealBroken."""
    async with store.reading(organization_id) as session:
        row = await _shortcode(session, shortcode_id)
        opened = {secret: value for secret, value, _ in await _open_all(session, keyring, shortcode_id)}
    environment = Environment(row.environment)
    if environment is Environment.SIMULATOR and settings.is_production:
        raise ShortcodeUnavailable("Simulator shortcodes cannot be used when ENVIRONMENT is production.")
    if not {SecretField.CONSUMER_KEY, SecretField.CONSUMER_SECRET} <= opened.keys():
        raise ShortcodeUnavailable("The shortcode has no consumer key and secret. A person must set them again.")
    return OpenShortcode(
        shortcode_id=row.id,
        environment=environment,
        shortcode=row.shortcode,
        type=ShortcodeType(row.type),
        till=row.till,
        app=app_of(settings, environment, opened[SecretField.CONSUMER_KEY], opened[SecretField.CONSUMER_SECRET]),
        passkey=opened.get(SecretField.PASSKEY),
        initiator=_initiator(opened),
    )


def app_of(settings: Settings, environment: Environment, key: Secret, secret: Secret) -> DarajaApp:
    """The Daraja app of a consumer key and secret, where its environment is."""
    return DarajaApp(environment, HOSTS.get(environment, settings.simulator_url), key.reveal(), secret)


async def mark_secrets(
    store: Store, keyring: Keyring, organization_id: str, shortcode_id: str
) -> tuple[SecretMark, ...]:
    """Which secrets are set, by whom and when. Raises NotFoundError, SealBroken."""
    async with store.reading(organization_id) as session:
        await _shortcode(session, shortcode_id)
        opened = await _open_all(session, keyring, shortcode_id)
    return tuple(SecretMark(field, _hint(field, value), row.set_at, row.set_by) for field, value, row in opened)


async def _shortcode(session: OrganizationSession, shortcode_id: str) -> Shortcode:
    row = await session.get(Shortcode, shortcode_id)
    if row is None:
        raise NotFoundError("shortcode")
    return row


async def _open_all(
    session: OrganizationSession, keyring: Keyring, shortcode_id: str
) -> list[tuple[SecretField, Secret, ShortcodeSecret]]:
    keys = await data_keys(session, keyring)
    rows = {
        SecretField(row.field): row
        for row in await session.all(select(ShortcodeSecret).where(col(ShortcodeSecret.shortcode_id) == shortcode_id))
    }
    return [
        (
            field,
            open_secret(
                key_of_version(keys, row.key_version),
                row.sealed,
                organization_id=session.organization_id,
                shortcode_id=shortcode_id,
                field=field,
                key_version=row.key_version,
            ),
            row,
        )
        for field in SecretField
        if (row := rows.get(field)) is not None
    ]


def _initiator(opened: dict[SecretField, Secret]) -> Initiator | None:
    name, password = opened.get(SecretField.INITIATOR_NAME), opened.get(SecretField.INITIATOR_PASSWORD)
    return Initiator(name.reveal(), password) if name and password else None


def _hint(field: SecretField, value: Secret) -> str | None:
    # People end passwords with what they remember; machine-made secrets lose nothing by four characters.
    if field is SecretField.INITIATOR_PASSWORD or len(value.reveal()) < _LONG_ENOUGH_TO_HINT:
        return None
    return value.reveal()[-4:]
