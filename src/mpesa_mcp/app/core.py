"""Opens what every command needs: database, keys, HTTP client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from mpesa_mcp.app.exposed_keys import flagging_keys_in_logs
from mpesa_mcp.billing.core import Billing
from mpesa_mcp.billing.rates import RateLimiter
from mpesa_mcp.billing.refusals import Refusals
from mpesa_mcp.billing.terms import TermsBook
from mpesa_mcp.credentials.opening import OpenedShortcodes
from mpesa_mcp.daraja.client import DarajaClient, create_http_client
from mpesa_mcp.daraja.credential import Certificates
from mpesa_mcp.daraja.gate import Gate
from mpesa_mcp.daraja.tokens import AccessTokens
from mpesa_mcp.errors import InternalFault
from mpesa_mcp.identity.authentication import Authentication
from mpesa_mcp.payments.core import Core
from mpesa_mcp.settings import Settings, SettingsError
from mpesa_mcp.store.engine import StoreUnavailable, open_store
from mpesa_mcp.store.keyring import load_master_keys, open_keyring
from mpesa_mcp.store.migrate import RevisionState, revision_state, upgrade
from mpesa_mcp.values import Clock, SystemClock


@asynccontextmanager
async def open_core(
    settings: Settings, *, local_callback_port: int | None = None, clock: Clock | None = None
) -> AsyncIterator[Core]:
    """Opens the database, keys and HTTP client; the embedded default is brought to the newest migration first.

    `local_callback_port` is where a simulator on this machine reaches the sidecar; by default the server's port.
    Raises SettingsError, MasterKeyMissing, StoreUnavailable.
    """
    clock = clock or SystemClock()
    load_master_keys(settings)  # before anything else: a start without one does nothing
    certificate = await _production_certificate(settings)
    await _require_tables(settings)
    limiter = RateLimiter(settings.redis_url)
    store = open_store(settings.effective_database_url)
    http = create_http_client()
    billing = Billing(TermsBook(store, clock), limiter, Refusals(store, clock))
    try:
        keyring = open_keyring(store, settings)
        certificates = Certificates(production=certificate, http=http)
        gate = Gate(store, keyring, clock, calls_per_second=settings.daraja_calls_per_second)
        core = Core(
            settings=settings,
            store=store,
            keyring=keyring,
            shortcodes=OpenedShortcodes(store, keyring, settings),
            clock=clock,
            daraja=DarajaClient(http, AccessTokens(store, keyring, clock), certificates, clock, gate=gate),
            authentication=Authentication(store, keyring, settings, clock),
            billing=billing,
            local_callbacks=f"http://127.0.0.1:{local_callback_port or settings.port}",
        )
        async with flagging_keys_in_logs(core):
            yield core
    finally:
        with anyio.CancelScope(shield=True):
            await http.aclose()
            await billing.close()
            await store.close()


class DatabaseNotReady(InternalFault):
    """The database is at another migration than this program."""

    code = "database_not_ready"


async def _require_tables(settings: Settings) -> None:
    """Migrates the embedded default; any other database is migrated by its operator. Raises DatabaseNotReady."""
    state = await revision_state(settings.effective_database_url)
    match state:
        case RevisionState.NEWER:
            raise DatabaseNotReady("The database was made by a newer version of mpesa-mcp. Update this program.")
        case RevisionState.BEHIND if settings.database_url is None:
            await upgrade(settings.owner_database_url)
        case RevisionState.BEHIND:
            raise DatabaseNotReady("The database lacks tables of this version. Run: mpesa-mcp db upgrade.")
        case RevisionState.CURRENT:
            return
        case _:
            raise StoreUnavailable(lacks_right=state is RevisionState.NO_RIGHTS)


async def _production_certificate(settings: Settings) -> bytes | None:
    if settings.daraja_certificate is None:
        return None
    try:
        return await anyio.Path(settings.daraja_certificate).read_bytes()
    except OSError:
        raise SettingsError("MPESA_MCP_DARAJA_CERTIFICATE: the file cannot be read.") from None
