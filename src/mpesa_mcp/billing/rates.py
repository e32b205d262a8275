"""Rate limits: how many calls a second an organization, and each key of it, may make.

A sliding window of a second (`limits`): two numbers for each limit, whatever the limit is, and no burst of twice the
limit where two seconds meet. In memory each process counts for itself; behind REDIS_URL all processes count together.
While that store is away nobody knows what other processes let through: money-out is refused, and everything else goes
on under the limits as this process alone counts them. The store is asked again after a second.
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog
from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from mpesa_mcp.billing.states import Act
from mpesa_mcp.billing.terms import Terms
from mpesa_mcp.errors import Advice, DeniedError, InternalFault
from mpesa_mcp.settings import SettingsError

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool

log = structlog.get_logger(__name__)

# The window: whoever is refused has room again after it.
WINDOW_SECONDS: Final = 1
# An answer takes a fraction of a millisecond; who waits longer for it holds up every call.
_ANSWER_SECONDS: Final = 0.5
_ASK_AGAIN_SECONDS: Final = 1.0
_CONNECTIONS: Final = 50
_PREFIX: Final = "mpesa-mcp"


class RateLimited(DeniedError):
    """More calls than the plan allows. Nothing was done."""

    code = "rate_limited"
    advice = Advice.WAIT
    http_status = 429

    def __init__(self) -> None:
        super().__init__(
            f"Too many calls at once: wait {WINDOW_SECONDS} second, then make this call again. Nothing was done."
        )
        self.retry_after_seconds = WINDOW_SECONDS


class LimiterUnavailable(InternalFault):
    """The store of the rate limits is away, so that nobody knows how much was asked for. Nothing was sent."""

    code = "limiter_unavailable"
    http_status = 503

    def __init__(self) -> None:
        super().__init__(
            "Nothing was sent: the store of the rate limits does not answer, and without it no money is paid out. "
            "Try again in a minute; if it lasts, ask the operator to run mpesa-mcp doctor."
        )


@dataclass(frozen=True, slots=True)
class _Asked:
    """One limit, and what it is counted by."""

    item: RateLimitItemPerSecond
    of: str


class RateLimiter:
    """Counts calls and refuses those above the limits. One a process; `close` it."""

    def __init__(self, redis_url: str | None) -> None:
        """Raises SettingsError when the driver is not installed."""
        self._memory = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._pool = None if redis_url is None else _pool(redis_url)
        self._shared = None if self._pool is None else _shared(self._pool)
        self._trouble: tuple[type[Exception], ...] = (*_errors_of(self._shared), OSError, TimeoutError)
        self._ask_again_at = 0.0

    async def admit(self, *, organization_id: str, actor: str, terms: Terms, act: Act) -> None:
        """Counts one call of this key. Raises RateLimited, or LimiterUnavailable for money-out."""
        asked = _asked(actor, terms)
        if self._shared is not None and await self._admitted_by_all(organization_id, asked):
            return
        await _admit(self._memory, organization_id, asked)
        if self._shared is not None and act is Act.PAY_OUT:
            raise LimiterUnavailable

    async def has_room(self, *, organization_id: str, actor: str, terms: Terms) -> bool:
        """Whether the limits would admit one more call of this key now; counts nothing.

        True while the shared store is away: `admit` knows what is to be done then.
        """
        asked, limiter = _asked(actor, terms), self._shared or self._memory
        try:
            return all([await limiter.test(each.item, organization_id, each.of) for each in asked])
        except self._trouble:
            return True

    async def is_reachable(self) -> bool:
        """Whether the shared store answers; True where there is none."""
        return self._shared is None or await self._shared.storage.check()

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.aclose()

    async def _admitted_by_all(self, organization_id: str, asked: list[_Asked]) -> bool:
        """False when the shared store is away, or was within the last second. Raises RateLimited."""
        assert self._shared is not None
        now = asyncio.get_running_loop().time()
        if now < self._ask_again_at:
            return False
        try:
            await _admit(self._shared, organization_id, asked)
        except self._trouble as away:
            if not self._ask_again_at:
                log.error("limiter_away", error=type(away).__name__)
            self._ask_again_at = asyncio.get_running_loop().time() + _ASK_AGAIN_SECONDS
            return False
        if self._ask_again_at:
            log.warning("limiter_back")
            self._ask_again_at = 0.0
        return True


def _asked(actor: str, terms: Terms) -> list[_Asked]:
    """The key first: what one key has too many of does not use up what the others have."""
    return [
        _Asked(RateLimitItemPerSecond(limit, namespace=_PREFIX), of)
        for limit, of in ((terms.key_calls_per_second, actor), (terms.calls_per_second, "all"))
        if limit is not None
    ]


async def _admit(limiter: SlidingWindowCounterRateLimiter, organization_id: str, asked: list[_Asked]) -> None:
    for each in asked:
        if not await limiter.hit(each.item, organization_id, each.of):
            raise RateLimited


def _errors_of(limiter: SlidingWindowCounterRateLimiter | None) -> tuple[type[Exception], ...]:
    """What the driver raises when its server is away."""
    errors = () if limiter is None else limiter.storage.base_exceptions
    return errors if isinstance(errors, tuple) else (errors,)


def _pool(url: str) -> "ConnectionPool":
    try:
        from redis.asyncio import BlockingConnectionPool
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ModuleNotFoundError:
        raise SettingsError(
            "MPESA_MCP_REDIS_URL: the driver is not installed. Run: pip install 'mpesa-mcp-server[redis]'."
        ) from None
    # Valkey speaks the same protocol.
    address = "redis" + url.removeprefix("valkey") if url.startswith("valkey") else url
    return BlockingConnectionPool.from_url(
        address,
        max_connections=_CONNECTIONS,
        timeout=_ANSWER_SECONDS,
        socket_timeout=_ANSWER_SECONDS,
        socket_connect_timeout=_ANSWER_SECONDS,
        # A connection that broke while it rested costs one more try.
        retry=Retry(NoBackoff(), 1),
    )


def _shared(pool: "ConnectionPool") -> SlidingWindowCounterRateLimiter:
    # The address is in the pool; the storage only wants one of a form that it knows.
    options: dict[str, Any] = {"connection_pool": pool, "implementation": "redispy", "key_prefix": _PREFIX}
    return SlidingWindowCounterRateLimiter(RedisStorage("async+redis://", **options))
