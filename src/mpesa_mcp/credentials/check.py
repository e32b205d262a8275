"""Asking Daraja whether a shortcode's keys are good, and saying what is still missing for which tool.

Only an access token is fetched, which moves nothing. Whether a passkey or an initiator's password is right shows at
the first payment or inquiry: Daraja has no call that only checks them, and wrong tries lock an initiator
(daraja/security.md §1).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mpesa_mcp.credentials.opening import OpenShortcode
from mpesa_mcp.credentials.uses import ShortcodeNeed
from mpesa_mcp.daraja.client import DarajaClient, DarajaUnreachable, KeysRefused
from mpesa_mcp.daraja.operations import DarajaApp
from mpesa_mcp.errors import InputError, ProviderError
from mpesa_mcp.values import Environment


class KeysNotAccepted(InputError):
    """Daraja does not know the keys that were to be set; what was set before still is."""

    code = "keys_not_accepted"

    def __init__(self) -> None:
        super().__init__(
            "Safaricom refused this consumer key and secret. Nothing was changed: correct them and set them again.",
            field="consumer_key",
        )


class KeysNotChecked(ProviderError):
    """Daraja could not be asked about the keys that were to be set; what was set before still is."""

    code = "keys_not_checked"

    def __init__(self, environment: Environment) -> None:
        if environment is Environment.SIMULATOR:
            trouble = "The simulator did not answer, so these keys were not checked. Start it (mpesa-mcp simulator)"
        else:
            trouble = "Safaricom gave no usable answer, so these keys were not checked. Wait"
        super().__init__(
            f"{trouble} and set them again, or set them unchecked (--no-check, or check: false). Nothing was changed."
        )


@dataclass(frozen=True, slots=True)
class CredentialCheck:
    """What is known about a shortcode's credentials. `missing` says for each tool that cannot work what it lacks."""

    shortcode_id: str
    environment: Environment
    shortcode: str
    token_fetched: bool
    reason: str | None
    missing: Mapping[str, tuple[str, ...]]

    @property
    def ok(self) -> bool:
        """Whether Daraja knows the consumer key and secret; a shortcode that only collects needs no initiator."""
        return self.token_fetched


async def require_good_keys(client: DarajaClient, app: DarajaApp) -> None:
    """Fetches a token with keys that are not stored yet. Raises KeysNotAccepted, KeysNotChecked."""
    try:
        await client.fetch_token(app)
    except KeysRefused as refused:
        raise KeysNotAccepted from refused
    except DarajaUnreachable as unreachable:
        raise KeysNotChecked(app.environment) from unreachable


async def check_shortcode(
    client: DarajaClient, opened: OpenShortcode, *, certificate_given: bool = True
) -> CredentialCheck:
    """Fetches a token with the opened keys. `certificate_given` matters for production only."""
    reason = None
    try:
        await client.fetch_token(opened.app)
    except (KeysRefused, DarajaUnreachable) as refused:
        reason = refused.message
    return CredentialCheck(
        shortcode_id=opened.shortcode_id,
        environment=opened.environment,
        shortcode=opened.shortcode,
        token_fetched=reason is None,
        reason=reason,
        missing=missing_for_tools(opened, certificate_given=certificate_given),
    )


def missing_for_tools(opened: OpenShortcode, *, certificate_given: bool) -> Mapping[str, tuple[str, ...]]:
    """For each tool that cannot work with this shortcode: what it lacks, in words."""
    lacking: dict[ShortcodeNeed, list[str]] = {need: [] for need in ShortcodeNeed}
    if opened.passkey is None:
        lacking[ShortcodeNeed.PASSKEY].append(ShortcodeNeed.PASSKEY.words)
    if opened.initiator is None:
        lacking[ShortcodeNeed.INITIATOR].append(ShortcodeNeed.INITIATOR.words)
    if opened.environment is Environment.PRODUCTION and not certificate_given:
        lacking[ShortcodeNeed.INITIATOR].append("Safaricom's certificate (MPESA_MCP_DARAJA_CERTIFICATE)")
    return {tool: tuple(words) for need, words in lacking.items() if words for tool in need.tools}
