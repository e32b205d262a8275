"""Slows down guessing: after five failures an address must wait, whether it has an account or not.

Each try is counted before the password is looked at, so that many at once are no way around it; a success forgets them.
"""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import case, delete, func
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col, select

from mpesa_mcp.errors import Advice, DeniedError
from mpesa_mcp.identity.models import SignInFailures
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.values import Clock

SIGN_IN_HASHING: Final = "sign_in_hashing"
_FREE_TRIES: Final = 5
_FIRST_WAIT: Final = timedelta(seconds=30)
_LONGEST_DOUBLING: Final = 5  # 16 minutes
_FORGOTTEN_AFTER: Final = timedelta(hours=1)


class TooManyFailures(DeniedError):
    """The address was tried in vain too often. Says nothing of whether there is such an account."""

    code = "too_many_failures"
    advice = Advice.WAIT
    http_status = 429

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Too many failed sign-ins for this address. Wait {seconds} seconds, then try again.")
        self.retry_after_seconds = seconds


async def count_try(store: Store, keyring: Keyring, clock: Clock, email: str) -> None:
    """Counts a try against the address. Raises TooManyFailures, and then the password must not be looked at."""
    now, account = clock.now(), await _account(keyring, email)
    stale = col(SignInFailures.updated_at) < now - _FORGOTTEN_AFTER
    failures = case((stale, 1), else_=col(SignInFailures.failures) + 1)
    values = {"account": account, "failures": 1, "blocked_until": None, "updated_at": now}
    async with store.platform() as session:
        insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
        counted = (
            insert(SignInFailures)
            .values(**values)
            .on_conflict_do_update(
                index_elements=["account"],
                set_={"failures": failures, "blocked_until": None, "updated_at": now},
                where=func.coalesce(col(SignInFailures.blocked_until), now) <= now,
            )
            .returning(col(SignInFailures.failures))
        )
        tries = (await session.execute(counted)).scalars().first()
        if tries is None:
            blocked = select(SignInFailures.blocked_until).where(SignInFailures.account == account)
            until = (await session.execute(blocked)).scalars().first()
            raise TooManyFailures(_seconds(until, now))
        if tries >= _FREE_TRIES:
            # From here on each try closes the door behind it; a success opens it again.
            wait = _FIRST_WAIT * 2 ** min(tries - _FREE_TRIES, _LONGEST_DOUBLING)
            await session.execute(
                insert(SignInFailures)
                .values(**values)
                .on_conflict_do_update(index_elements=["account"], set_={"blocked_until": now + wait})
            )


async def forget_tries(store: Store, keyring: Keyring, email: str) -> None:
    """After a success."""
    account = await _account(keyring, email)
    async with store.platform() as session:
        await session.execute(delete(SignInFailures).where(col(SignInFailures.account) == account))


async def _account(keyring: Keyring, email: str) -> str:
    return (await keyring.platform_key(SIGN_IN_HASHING)).digest(email)


def _seconds(until: datetime | None, now: datetime) -> int:
    return max(1, round((until - now).total_seconds())) if until is not None else 1
