"""Passwords: Argon2id, computed beside the event loop and never more than a few at once.

The parameters are argon2-cffi's defaults (RFC 9106, low-memory profile: 64 MiB, 3 passes, 4 lanes). A hash made with
others is still verified, and made anew at the next sign-in.
"""

from functools import cache
from typing import Final

import anyio
from anyio.lowlevel import RunVar
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from mpesa_mcp.errors import InputError
from mpesa_mcp.values import Secret

LEAST_CHARACTERS: Final = 12
MOST_CHARACTERS: Final = 128
# Each takes 64 MiB: who tries many addresses at once waits, and the machine does not run out of memory.
_AT_ONCE: Final = 2
_HASHER: Final = PasswordHasher()
_limiter: RunVar[anyio.CapacityLimiter] = RunVar("argon2")


def check_password(password: Secret, *, email: str) -> None:
    """Raises InputError for a password that is too short, too long, or the address itself."""
    text = password.reveal()
    if not LEAST_CHARACTERS <= len(text) <= MOST_CHARACTERS:
        raise InputError(f"password must have {LEAST_CHARACTERS} to {MOST_CHARACTERS} characters.", field="password")
    if text.casefold() in {email, email.partition("@")[0]} or len(set(text)) < 5:
        raise InputError("password must not be the address, nor a few characters repeated.", field="password")


async def hash_password(password: Secret) -> str:
    return await anyio.to_thread.run_sync(_HASHER.hash, password.reveal(), limiter=_slots())


async def is_password(password: Secret, password_hash: str | None) -> bool:
    """Whether the password is the one of this hash; with None the answer is no, and takes as long."""
    return await anyio.to_thread.run_sync(_verify, password.reveal(), password_hash, limiter=_slots())


def needs_new_hash(password_hash: str) -> bool:
    """Whether it was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(password_hash)


def _verify(password: str, password_hash: str | None) -> bool:
    try:
        _HASHER.verify(password_hash or _nobodys(), password)
    except (Argon2Error, InvalidHashError):
        return False
    return password_hash is not None


@cache
def _nobodys() -> str:
    """What is verified for an account that is not there."""
    return _HASHER.hash("the password of nobody")


def _slots() -> anyio.CapacityLimiter:
    try:
        return _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(_AT_ONCE)
        _limiter.set(limiter)
        return limiter
