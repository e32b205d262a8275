"""Slows down guessing, whether an address has an account or not, without shutting its owner out.

Each try is counted before the password is looked at, so that many at once are no way around it; a success forgets them.
It is counted twice: for the caller's network and the account together, which five failures close for a while, longer
each time; and for the account alone, which many failures from anywhere slow down to one try in a few seconds. From
where the owner has signed in lately that second brake does not hold: whoever fails on purpose from a thousand places
keeps nobody out who is where they usually are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import case, delete, func, or_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
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
# Of the account alone: 17,000 guesses a day at most, wherever they come from.
_FREE_TRIES_FROM_ANYWHERE: Final = 30
_WAIT_FROM_ANYWHERE: Final = timedelta(seconds=5)
_FORGOTTEN_AFTER: Final = timedelta(hours=1)
# When rows are deleted: of failures, and of where somebody signed in.
_KEPT: Final = timedelta(days=1)
_KNOWN_FOR: Final = timedelta(days=30)
_DELETED_AT_ONCE: Final = 100


class TooManyFailures(DeniedError):
    """It was tried in vain too often. Says nothing of whether there is such an account."""

    code = "too_many_failures"
    advice = Advice.WAIT
    http_status = 429

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Too many failed sign-ins for this address. Wait {seconds} seconds, then try again.")
        self.retry_after_seconds = seconds


@dataclass(frozen=True, slots=True)
class Tries:
    """Counts tries in vain, under keyed hashes of what is tried."""

    store: Store
    keyring: Keyring
    clock: Clock

    async def count_sign_in(self, email: str, network: str | None) -> None:
        """Counts a try of the address. Raises TooManyFailures, and then the password must not be looked at."""
        now = self.clock.now()
        here, anywhere = await self._here(email, network), await self._key(email)
        async with self.store.platform() as session:
            tries, succeeded_at = await _count(session, here, now, _wait)
            if succeeded_at is None or succeeded_at <= now - _KNOWN_FOR:
                await _count(session, anywhere, now, _wait_from_anywhere)
        if tries == 1:  # only then the table has grown
            await self._delete_stale(now)

    async def count_password(self, session_id: str) -> None:
        """Counts a try of one's own password in a session; other sessions, and signing in, have nothing to do with it.

        Raises TooManyFailures, and then the password must not be looked at.
        """
        now, key = self.clock.now(), await self._key(f"password of {session_id}")
        async with self.store.platform() as session:
            await _count(session, key, now, _wait)

    async def forget(self, email: str, network: str | None) -> None:
        """After a success: nothing is counted any more, and the owner is known to sign in from here."""
        now = self.clock.now()
        here, anywhere = await self._here(email, network), await self._key(email)
        async with self.store.platform() as session:
            succeeded = {"failures": 0, "blocked_until": None, "updated_at": now, "succeeded_at": now}
            await session.execute(update(SignInFailures).where(col(SignInFailures.account) == here).values(**succeeded))
            await session.execute(delete(SignInFailures).where(col(SignInFailures.account) == anywhere))

    async def touch(self, email: str, network: str | None) -> None:
        """Writes as much as the audit of a failure does, and nothing that counts: for an address without an account.

        Else the answer about an address that has one would come later by a commit.
        """
        now = self.clock.now()
        async with self.store.platform() as session:
            for account in (await self._here(email, network), await self._key(email)):
                mine = update(SignInFailures).where(col(SignInFailures.account) == account)
                await session.execute(mine.values(updated_at=now))

    async def _delete_stale(self, now: datetime) -> None:
        unknown = or_(col(SignInFailures.succeeded_at).is_(None), col(SignInFailures.succeeded_at) < now - _KNOWN_FOR)
        # Whoever deletes the same takes others; nobody waits.
        stale = (
            select(SignInFailures.account)
            .where(col(SignInFailures.updated_at) < now - _KEPT, unknown)
            .order_by(col(SignInFailures.updated_at))
            .limit(_DELETED_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
        async with self.store.platform() as session:
            accounts = (await session.execute(stale)).scalars().all()
            if accounts:
                await session.execute(delete(SignInFailures).where(col(SignInFailures.account).in_(accounts)))

    async def _here(self, email: str, network: str | None) -> str:
        return await self._key(f"{email} from {network or 'this machine'}")

    async def _key(self, tried: str) -> str:
        return (await self.keyring.platform_key(SIGN_IN_HASHING)).digest(tried)


async def _count(
    session: AsyncSession, account: str, now: datetime, wait: Callable[[int], timedelta | None]
) -> tuple[int, datetime | None]:
    """Counts one more; how many it are now, and when one last succeeded. Raises TooManyFailures while it is closed."""
    stale = col(SignInFailures.updated_at) < now - _FORGOTTEN_AFTER
    failures = case((stale, 1), else_=col(SignInFailures.failures) + 1)
    insert: Any = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    counted = (
        insert(SignInFailures)
        .values(account=account, failures=1, blocked_until=None, updated_at=now)
        .on_conflict_do_update(
            index_elements=["account"],
            set_={"failures": failures, "blocked_until": None, "updated_at": now},
            where=func.coalesce(col(SignInFailures.blocked_until), now) <= now,
        )
        .returning(col(SignInFailures.failures), col(SignInFailures.succeeded_at))
    )
    row = (await session.execute(counted)).first()
    mine = col(SignInFailures.account) == account
    if row is None:
        until = (await session.execute(select(SignInFailures.blocked_until).where(mine))).scalars().first()
        raise TooManyFailures(_seconds(until, now))
    tries, succeeded_at = row
    if (closed := wait(tries)) is not None:
        # From here on each try closes the door behind it; a success opens it again.
        await session.execute(update(SignInFailures).where(mine).values(blocked_until=now + closed))
    return tries, succeeded_at


def _wait(tries: int) -> timedelta | None:
    return _FIRST_WAIT * 2 ** min(tries - _FREE_TRIES, _LONGEST_DOUBLING) if tries >= _FREE_TRIES else None


def _wait_from_anywhere(tries: int) -> timedelta | None:
    return _WAIT_FROM_ANYWHERE if tries >= _FREE_TRIES_FROM_ANYWHERE else None


def _seconds(until: datetime | None, now: datetime) -> int:
    return max(1, round((until - now).total_seconds())) if until is not None else 1
