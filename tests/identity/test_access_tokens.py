"""Access tokens: what is not signed by us, for us, now, in the one way we sign, is nobody's."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from mpesa_mcp.identity.access_tokens import LIFE, issue, verify
from mpesa_mcp.identity.principal import Unauthenticated
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.values import FrozenClock

pytestmark = pytest.mark.anyio
MONTH = "2026-11"


@pytest.fixture
async def token(keyring: Keyring, settings: Settings, clock: FrozenClock) -> str:
    issued = await issue(
        keyring,
        settings,
        clock,
        organization_id="org_1",
        user_id="usr_1",
        session_id="ses_1",
        role="manager",
        generation=3,
    )
    return issued.reveal()


async def key_of(keyring: Keyring, month: str = MONTH) -> bytes:
    """The signing key, for tests that forge with it."""
    key = await keyring.platform_key(f"access_tokens:{month}")
    return bytes.fromhex(key.digest("access tokens, HS256"))


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


async def test_a_token_names_the_person_until_its_fifteen_minutes_are_over(
    keyring: Keyring, settings: Settings, clock: FrozenClock, token: str
) -> None:
    named = await verify(keyring, settings, clock, token)
    assert (named.organization_id, named.user_id, named.generation) == ("org_1", "usr_1", 3)
    clock.advance(LIFE - timedelta(seconds=1))
    assert await verify(keyring, settings, clock, token) == named
    clock.advance(timedelta(seconds=1))
    with pytest.raises(Unauthenticated):
        await verify(keyring, settings, clock, token)


async def test_a_token_of_the_last_minutes_of_a_month_is_good_in_the_first_of_the_next(
    keyring: Keyring, settings: Settings, clock: FrozenClock
) -> None:
    clock.at = datetime(2026, 11, 30, 23, 55, tzinfo=UTC)
    issued = await issue(
        keyring,
        settings,
        clock,
        organization_id="org_1",
        user_id="usr_1",
        session_id="ses_1",
        role="user",
        generation=1,
    )
    clock.advance(timedelta(minutes=10))
    assert (await verify(keyring, settings, clock, issued.reveal())).user_id == "usr_1"
    assert jwt.get_unverified_header(issued.reveal())["kid"] == MONTH


async def test_no_token_that_says_less_more_or_something_else_is_anybodys(
    keyring: Keyring, settings: Settings, clock: FrozenClock, token: str
) -> None:
    good, key = claims_of(token), await key_of(keyring)
    now = int(clock.now().timestamp())
    other = await key_of(keyring, "2026-09")
    forged = [
        *({name: value for name, value in good.items() if name != left_out} for left_out in good),
        good | {"iss": "https://elsewhere.example"},
        good | {"aud": "https://elsewhere.example"},
        good | {"aud": [settings.reached_at + "/"]},
        good | {"exp": now},
        good | {"exp": now + 100_000},
        good | {"nbf": now + 60},
        good | {"iat": now + 60},
        good | {"exp": "never"},
        good | {"exp": float("inf")},
        good | {"generation": True},
        good | {"generation": "3"},
        good | {"sub": ["usr_1"]},
        good | {"organization_id": None},
    ]
    signed = [jwt.encode(claims, key, algorithm="HS256", headers={"kid": MONTH}) for claims in forged]
    signed += [
        jwt.encode(good, key, algorithm="HS256"),
        jwt.encode(good, key, algorithm="HS256", headers={"kid": "2026-09"}),
        jwt.encode(good, other, algorithm="HS256", headers={"kid": MONTH}),
        jwt.encode(good, other, algorithm="HS256", headers={"kid": "2026-09"}),
        jwt.encode(good, key, algorithm="HS256", headers={"kid": "../api_key_hashing"}),
        jwt.encode(good, key, algorithm="HS256", headers={"kid": MONTH, "jku": "https://elsewhere.example"}),
        jwt.encode(good, key * 2, algorithm="HS512", headers={"kid": MONTH}),
        jwt.encode(good, "", algorithm="none", headers={"kid": MONTH}),
        edited(token, organization_id="org_2"),
        token[:-4] + "AAAA",
        token + "." + token,
        token.replace(".", ""),
        "ey.ey.ey",
        "ey" * 5000 + "..",
        "",
    ]
    for each in signed:
        with pytest.raises(Unauthenticated):
            await verify(keyring, settings, clock, each)
    assert (await verify(keyring, settings, clock, token)).user_id == "usr_1"


async def test_a_foreign_key_id_makes_no_key(
    keyring: Keyring, settings: Settings, clock: FrozenClock, token: str
) -> None:
    forged = jwt.encode(claims_of(token), b"x" * 32, algorithm="HS256", headers={"kid": "1999-01"})
    with pytest.raises(Unauthenticated):
        await verify(keyring, settings, clock, forged)
    assert "access_tokens:1999-01" not in keyring._opened


def edited(token: str, **changes: object) -> str:
    """The same signature under other claims."""
    head, _, signature = token.split(".")
    body = base64.urlsafe_b64encode(json.dumps(claims_of(token) | changes).encode()).rstrip(b"=").decode()
    return f"{head}.{body}.{signature}"
