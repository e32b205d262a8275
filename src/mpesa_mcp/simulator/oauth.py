"""Apps and their access tokens: one valid token per app, and each new one kills the one before (daraja/api.md §1)."""

import base64
import binascii
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta

from mpesa_mcp.simulator.bounded import Bounded
from mpesa_mcp.simulator.identifiers import Identifiers
from mpesa_mcp.values import Clock, sha256_hex

TOKEN_LIFE = timedelta(seconds=3600)
MAX_APPS = 10_000
REFUSED_SECRET = "wrong"  # noqa: S105 - the one secret that never works, so that programs can test refusals


@dataclass(slots=True)
class _App:
    secret_digest: str
    token: str = ""
    expires_at: datetime | None = None


class Apps:
    """Any consumer key is an app; its first use fixes its secret."""

    def __init__(self, identifiers: Identifiers, clock: Clock) -> None:
        self._identifiers = identifiers
        self._clock = clock
        self._apps: Bounded[str, _App] = Bounded(MAX_APPS)
        self._key_of_token: Bounded[str, str] = Bounded(MAX_APPS)

    def new_token(self, key: str, secret: str) -> str | None:
        """A token that replaces the app's former one, or None when the secret is not the app's."""
        if not key or not secret or secret == REFUSED_SECRET:
            return None
        digest = sha256_hex(secret)
        app = self._apps.get(key)
        if app is None:
            app = self._apps[key] = _App(digest)
        if not hmac.compare_digest(app.secret_digest, digest):
            return None
        self._key_of_token.pop(app.token, None)
        app.token, app.expires_at = self._identifiers.access_token(), self._clock.now() + TOKEN_LIFE
        self._key_of_token[app.token] = key
        return app.token

    def accepts(self, token: str) -> bool:
        key = self._key_of_token.get(token)
        app = self._apps.get(key) if key is not None else None
        return app is not None and app.expires_at is not None and self._clock.now() < app.expires_at


def basic_credentials(authorization: str) -> tuple[str, str] | None:
    """Consumer key and secret of a Basic header; None when it is something else."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        key, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (key, secret) if colon else None
