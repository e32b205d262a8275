"""What every payment function needs from the process it runs in. Built once, in `app`."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mpesa_mcp.errors import Advice, ProviderError
from mpesa_mcp.settings import Settings, is_private
from mpesa_mcp.values import Clock, Environment, Secret

if TYPE_CHECKING:
    from mpesa_mcp.billing.core import Billing
    from mpesa_mcp.credentials.opening import OpenedShortcodes
    from mpesa_mcp.daraja.client import DarajaClient
    from mpesa_mcp.identity.authentication import Authentication
    from mpesa_mcp.store.engine import Store
    from mpesa_mcp.store.keyring import Keyring

# Safaricom does not resolve the host when it takes a request (daraja/security.md §3), and this one never resolves:
# an STK push without a reachable PUBLIC_URL is settled by asking.
_NOWHERE = "https://callbacks.invalid"


class CallbacksUnreachable(ProviderError):
    """Safaricom could not tell the result: there is no address it can reach. Nothing was sent."""

    code = "public_url_missing"
    advice = Advice.ASK_A_PERSON
    http_status = 409

    def __init__(self) -> None:
        super().__init__(
            "Nothing was sent: Safaricom answers this only by calling back, and MPESA_MCP_PUBLIC_URL does not name a "
            "public https address of this server. Ask the operator to set it."
        )


@dataclass(frozen=True, slots=True)
class Core:
    """The process's settings, store, keys, opened shortcodes, clock, Daraja client, the callers it remembers, and what
    they may use.

    `local_callbacks` is where a simulator on this machine reaches this process (or the one that owns the port).
    `waiting` counts the calls that wait for news, of each organization and about each row.
    """

    settings: Settings
    store: "Store"
    keyring: "Keyring"
    shortcodes: "OpenedShortcodes"
    clock: Clock
    daraja: "DarajaClient"
    authentication: "Authentication"
    billing: "Billing"
    local_callbacks: str
    waiting: Counter[str] = field(default_factory=Counter)

    def reconcile_speed(self, environment: Environment) -> float:
        """What divides the intervals of reconciliation: nothing at Safaricom's own hosts."""
        return self.settings.reconcile_speed if environment is Environment.SIMULATOR else 1

    def callback_base(self, environment: Environment) -> str | None:
        """The address Safaricom (or the simulator) can reach, or None."""
        public = self.settings.public_url
        if public and (environment is Environment.SIMULATOR or not is_private(public)):
            return public.rstrip("/")
        return self.local_callbacks if environment is Environment.SIMULATOR else None

    def require_callbacks(self, environment: Environment) -> None:
        """Raises CallbacksUnreachable when results of this environment could not reach us."""
        if self.callback_base(environment) is None:
            raise CallbacksUnreachable

    def callback_url(self, environment: Environment, callback_id: str, token: str) -> Secret:
        """The path Safaricom posts one attempt's result to; both segments are lower-case hex."""
        return Secret(f"{self.callback_base(environment) or _NOWHERE}/cb/{callback_id}/{token}")
