"""The text of an API key: `mpk_sim_…`, `mpk_test_…`, `mpk_live_…`, 32 random characters, a checksum of six. Pure.

The prefix says where the key's payments happen, so that a live key is recognised on sight and by secret scanners. The
checksum refuses typing errors and guesses without asking anybody.
"""

import re
import zlib

from mpesa_mcp.values import Environment
from mpesa_mcp.values.ids import base62, random_base62

_PREFIXES = {
    Environment.SIMULATOR: "mpk_sim_",
    Environment.SANDBOX: "mpk_test_",
    Environment.PRODUCTION: "mpk_live_",
}
_BODY = 32
_CHECKSUM = 6
_SHOWN = 8
_WRITTEN = re.compile(rf"(mpk_(?:sim|test|live)_)[0-9A-Za-z]{{{_BODY + _CHECKSUM}}}")


def new_text(environment: Environment) -> str:
    """A new key."""
    text = _PREFIXES[environment] + random_base62(_BODY)
    return text + _checksum(text)


def shown_part(text: str) -> str:
    """Its first characters, by which people tell keys apart."""
    return text[: text.index("_", len("mpk_")) + 1 + _SHOWN]


def environment_of(presented: str) -> Environment | None:
    """Which environment a well-formed key says it is for; None when its form or checksum is wrong."""
    written = _WRITTEN.fullmatch(presented)
    if written is None or not _is_checked(presented):
        return None
    return next(environment for environment, prefix in _PREFIXES.items() if prefix == written.group(1))


def keys_in(text: str) -> list[str]:
    """The well-formed keys anywhere in a text."""
    return [found.group() for found in _WRITTEN.finditer(text) if _is_checked(found.group())]


def _is_checked(text: str) -> bool:
    return _checksum(text[:-_CHECKSUM]) == text[-_CHECKSUM:]


def _checksum(text: str) -> str:
    return base62(zlib.crc32(text.encode()), length=_CHECKSUM)
