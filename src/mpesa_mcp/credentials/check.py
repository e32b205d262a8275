"""Asking Daraja whether a shortcode's keys are good, and saying what is still missing for which tool.

Only an access token is fetched, which moves nothing. Whether a passkey or an initiator's password is right shows at
the first payment or inquiry: Daraja has no call that only checks them, and wrong tries lock an initiator
(daraja/security.md §1).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mpesa_mcp.credentials.choice import ShortcodeNeed
from mpesa_mcp.credentials.opening import OpenShortcode
from mpesa_mcp.daraja.client import DarajaClient, DarajaUnreachable, KeysRefused
from mpesa_mcp.values import Environment


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
