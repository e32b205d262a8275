"""Callbacks on their way out: one attempt each, five seconds, no redirects (quirk 1).

Only loopback hosts are called, by address and never through a proxy: a simulator must not be able to post made-up
payments to a server on the internet. What cannot be delivered is remembered and logged once.
"""

import ipaddress
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

import anyio
import httpx2
import structlog

from mpesa_mcp.simulator.wire import encode
from mpesa_mcp.values import Clock

TIMEOUT_SECONDS = 5
MAX_REMEMBERED = 1000
MAX_AT_ONCE = 16
MAX_ANSWER_BYTES = 64 * 1024
# Well below the five seconds after which receivers close idle connections: a callback sent into a closing one is lost.
IDLE_SECONDS = 1

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One callback. `outcome` is delivered (any 2xx), rejected (another status), failed or refused (not loopback)."""

    at: datetime
    about: str
    url: str
    outcome: str
    http_status: int | None
    reason: str | None
    milliseconds: int

    def as_json(self) -> dict[str, object]:
        return asdict(self) | {"at": self.at.isoformat()}


class Deliveries:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._client: httpx2.AsyncClient | None = None
        self._slots = anyio.CapacityLimiter(MAX_AT_ONCE)
        self.remembered: deque[Delivery] = deque(maxlen=MAX_REMEMBERED)

    def open(self) -> httpx2.AsyncClient:
        """The client of this simulator's life; the caller closes it."""
        limits = httpx2.Limits(
            max_connections=MAX_AT_ONCE, max_keepalive_connections=MAX_AT_ONCE, keepalive_expiry=IDLE_SECONDS
        )
        self._client = httpx2.AsyncClient(
            timeout=TIMEOUT_SECONDS, limits=limits, follow_redirects=False, trust_env=False
        )
        return self._client

    async def post(self, url: str, body: object, *, about: str, headers: Mapping[str, str] | None = None) -> None:
        """Delivers or remembers why not; never raises."""
        if not is_loopback(_host(url)):
            self._remember(url, about, outcome="refused", reason="the simulator calls loopback hosts only")
            return
        async with self._slots:
            started = anyio.current_time()
            try:
                with anyio.fail_after(TIMEOUT_SECONDS):
                    status = await self._send(url, encode(body), headers or {})
            except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as failure:
                self._remember(url, about, outcome="failed", reason=type(failure).__name__, started=started)
                return
        outcome = "delivered" if 200 <= status < 300 else "rejected"
        self._remember(url, about, outcome=outcome, status=status, started=started)

    async def _send(self, url: str, content: bytes, headers: Mapping[str, str]) -> int:
        if self._client is None:
            raise RuntimeError("the simulator has not been started (its lifespan did not run)")
        all_headers = {"Content-Type": "application/json;charset=UTF-8", **headers}
        async with self._client.stream("POST", url, content=content, headers=all_headers) as response:
            # The answer's body means nothing, but a connection is only used again when it has been read.
            read = 0
            async for chunk in response.aiter_raw():
                read += len(chunk)
                if read > MAX_ANSWER_BYTES:
                    break
            return response.status_code

    def _remember(
        self,
        url: str,
        about: str,
        *,
        outcome: str,
        status: int | None = None,
        reason: str | None = None,
        started: float | None = None,
    ) -> None:
        elapsed = 0 if started is None else round(1000 * (anyio.current_time() - started))
        self.remembered.append(Delivery(self._clock.now(), about, url, outcome, status, reason, elapsed))
        if outcome != "delivered":
            # Callback paths are secrets of whoever made them: the log names the host only.
            host = _host(url)
            log.warning(
                "simulator.callback_not_delivered", about=about, host=host, outcome=outcome, status=status, why=reason
            )


def _host(url: str) -> str | None:
    """Read by the client that would connect to it, so that both mean the same host."""
    try:
        return httpx2.URL(url).host
    except httpx2.InvalidURL:
        return None


def is_loopback(host: str | None) -> bool:
    if host is None:
        return False
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
