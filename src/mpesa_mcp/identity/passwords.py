"""Passwords: Argon2id, computed beside the event loop, never more than a few at once, and never with many waiting.

The parameters are argon2-cffi's defaults (RFC 9106, low-memory profile: 64 MiB, 3 passes, 4 lanes). A hash made with
others is still verified, and made anew at the next sign-in.
"""

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Final, TypeVar

import anyio
from anyio.lowlevel import RunVar
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from mpesa_mcp.errors import Advice, DeniedError, InputError
from mpesa_mcp.identity.callers import calling_network
from mpesa_mcp.values import Secret

Result = TypeVar("Result")

LEAST_CHARACTERS: Final = 12
MOST_CHARACTERS: Final = 128
# Each takes 64 MiB: who tries many addresses at once waits, and the machine does not run out of memory.
_AT_ONCE: Final = 2
# Waiting and computed: about a second's work. Of one network fewer, so that one caller does not keep others out.
_MOST: Final = 24
_MOST_OF_ONE_NETWORK: Final = 8
_BUSY_SECONDS: Final = 2
_HASHER: Final = PasswordHasher()
_limiter: RunVar[anyio.CapacityLimiter] = RunVar("argon2")
_queued: RunVar[Counter[str]] = RunVar("argon2_queued")


class TooManyPasswords(DeniedError):
    """More passwords are waiting to be looked at than can be soon."""

    code = "too_many_sign_ins"
    advice = Advice.WAIT
    http_status = 429

    def __init__(self) -> None:
        super().__init__(f"Too many passwords are being checked right now. Try again in {_BUSY_SECONDS} seconds.")
        self.retry_after_seconds = _BUSY_SECONDS


def check_password(password: Secret, *, email: str) -> None:
    """Raises InputError for a password that is too short, too long, or the address itself."""
    text = password.reveal()
    if not LEAST_CHARACTERS <= len(text) <= MOST_CHARACTERS:
        raise InputError(f"password must have {LEAST_CHARACTERS} to {MOST_CHARACTERS} characters.", field="password")
    if text.casefold() in {email, email.partition("@")[0]} or len(set(text)) < 5:
        raise InputError("password must not be the address, nor a few characters repeated.", field="password")


async def hash_password(password: Secret) -> str:
    """Raises TooManyPasswords."""
    return await _in_turn(lambda: _HASHER.hash(password.reveal()))


async def is_password(password: Secret, password_hash: str | None) -> bool:
    """Whether the password is the one of this hash; with None the answer is no, and takes as long.

    Raises TooManyPasswords.
    """
    return await _in_turn(lambda: _verify(password.reveal(), password_hash))


def require_turn() -> None:
    """Raises TooManyPasswords if another one would have to wait too long; before a try is counted."""
    network, queued = calling_network(), _queue()
    # A command of this machine computes one.
    if queued.total() >= _MOST or (network is not None and queued[network] >= _MOST_OF_ONE_NETWORK):
        raise TooManyPasswords


def needs_new_hash(password_hash: str) -> bool:
    """Whether it was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(password_hash)


async def _in_turn(compute: Callable[[], Result]) -> Result:
    require_turn()
    queued, network = _queue(), calling_network() or ""
    queued[network] += 1
    try:
        return await anyio.to_thread.run_sync(compute, limiter=_slots())
    finally:
        queued[network] -= 1
        if not queued[network]:
            del queued[network]


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


def _queue() -> Counter[str]:
    """How many are computed or wait, by network."""
    try:
        return _queued.get()
    except LookupError:
        queued: Counter[str] = Counter()
        _queued.set(queued)
        return queued
