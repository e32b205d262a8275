"""Access tokens: signed JWTs of fifteen minutes that say who is asking, not what that person may do.

What somebody may do is read from the database at each request, so that a change of role, a deactivation or a
suspension does not wait for a token to expire. Each month has its own signing key (its id is the month, `2026-11`),
made at its first use and kept wrapped in the store; a token is verified with this month's or the last one's, and with
HS256 only: no other algorithm is ever looked at.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jwt

from mpesa_mcp.identity.principal import Unauthenticated
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.values import Clock, Secret, new_id
from mpesa_mcp.values.sealing import SealingKey

LIFE: Final = timedelta(minutes=15)
_ALGORITHM: Final = "HS256"
_REQUIRED: Final = ["iss", "aud", "exp", "nbf", "iat", "jti", "sub", "organization_id", "role", "generation", "sid"]
# Clocks of several machines differ a little.
_LEEWAY: Final = timedelta(seconds=5)
_LONGEST_TOKEN: Final = 2048


@dataclass(frozen=True, slots=True)
class AccessToken:
    """Who a verified token names. `generation` must still be the user's."""

    organization_id: str
    user_id: str
    session_id: str
    generation: int
    expires_at: datetime


def looks_like_one(presented: str) -> bool:
    """Whether this is a JWT rather than an API key."""
    return presented.count(".") == 2 and presented.startswith("ey")


async def issue(
    keyring: Keyring,
    settings: Settings,
    clock: Clock,
    *,
    organization_id: str,
    user_id: str,
    session_id: str,
    role: str,
    generation: int,
) -> Secret:
    """A token for the next fifteen minutes."""
    now = clock.now()
    claims = {
        "iss": settings.reached_at,
        "aud": settings.reached_at,
        "sub": user_id,
        "sid": session_id,
        "organization_id": organization_id,
        "role": role,
        "generation": generation,
        "jti": new_id("jti"),
        "iat": now,
        "nbf": now,
        "exp": now + LIFE,
    }
    month = _month(now)
    key = await keyring.platform_key(_name_of(month))
    return Secret(jwt.encode(claims, _signing_key(key), algorithm=_ALGORITHM, headers={"kid": month}))


async def verify(keyring: Keyring, settings: Settings, clock: Clock, presented: str) -> AccessToken:
    """Who the token names. Raises Unauthenticated, the same for every cause."""
    if len(presented) > _LONGEST_TOKEN:
        raise Unauthenticated
    now = clock.now()
    try:
        header = jwt.get_unverified_header(presented)
        # An id that is not a month of ours opens, and makes, no key.
        if header.get("kid") not in {_month(now), _month(now - LIFE)} or set(header) != {"alg", "kid", "typ"}:
            raise Unauthenticated
        key = await keyring.platform_key(_name_of(header["kid"]))
        claims = jwt.decode(
            presented,
            _signing_key(key),
            algorithms=[_ALGORITHM],
            issuer=settings.reached_at,
            audience=settings.reached_at,
            # Moments are compared below, by our clock.
            options={"require": _REQUIRED, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
    except jwt.PyJWTError as refused:
        raise Unauthenticated from refused
    return _read(claims, now)


def _read(claims: dict[str, Any], now: datetime) -> AccessToken:
    issued, begins, ends = claims["iat"], claims["nbf"], claims["exp"]
    organization_id, user_id, session_id = claims["organization_id"], claims["sub"], claims["sid"]
    generation = claims["generation"]
    numbers = (issued, begins, ends, generation)
    texts = (organization_id, user_id, session_id)
    if not all(type(number) is int for number in numbers) or not all(isinstance(text, str) for text in texts):
        raise Unauthenticated
    at, leeway = now.timestamp(), _LEEWAY.total_seconds()
    if not max(issued, begins) - leeway <= at < ends or ends - issued > LIFE.total_seconds():
        raise Unauthenticated
    return AccessToken(organization_id, user_id, session_id, generation, datetime.fromtimestamp(ends, UTC))


def _month(moment: datetime) -> str:
    return f"{moment:%Y-%m}"


def _name_of(month: str) -> str:
    return f"access_tokens:{month}"


def _signing_key(key: SealingKey) -> bytes:
    """256 bits of the platform key, for this purpose alone."""
    return bytes.fromhex(key.digest("access tokens, HS256"))
