"""One HTTP exchange with Daraja: what is sent, how long it may take, and how much of an answer is read.

Nothing is repeated here and no redirect is followed. What went wrong is told apart by one question: can the request
have reached Safaricom?
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import httpx2

from mpesa_mcp.daraja.bodies import MAX_BODY_BYTES
from mpesa_mcp.daraja.conclusions import NotSent, Unknown

# Each phase has its limit, and the whole exchange has one too: a server may drip bytes forever.
TIMEOUTS: Final = httpx2.Timeout(connect=5, write=10, pool=5, read=30)
DEADLINE_SECONDS: Final = 45.0
# Connections are dropped before Daraja's gateway drops them, so that few requests die on a closing one.
_LIMITS: Final = httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=15)
# A pool looks at the socket of each idle connection whenever a request begins or ends.
_FEW: Final = 4


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, its body read to the end and within bounds."""

    status: int
    content_type: str | None
    retry_after: str | None
    body: bytes = field(repr=False)


NOT_CONNECTED: Final = NotSent("not_connected", "Safaricom could not be reached; nothing was sent.", None)
_TIMEOUT: Final = Unknown("timeout", "Safaricom did not answer in time; it may have carried the request out.")
_LOST: Final = Unknown(
    "connection_lost", "The connection to Safaricom broke before the answer came; it may have carried the request out."
)
_TOO_LARGE: Final = Unknown(
    "too_large", "Safaricom's answer was too large to be one; the request may have been carried out."
)


@cache
def _trusted() -> ssl.SSLContext:
    """The certificates that httpx trusts by default; reading them takes longer than all else a client needs."""
    return httpx2.create_ssl_context(trust_env=False)


class _SmallPools(httpx2.AsyncBaseTransport):
    """A pool for each few requests that are made at once. How many are made is for the caller to bound."""

    def __init__(self) -> None:
        self._pools: list[httpx2.AsyncHTTPTransport] = []
        self._busy: list[int] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Sends by the first pool that has room: rare requests share one connection."""
        free = next((number for number, busy in enumerate(self._busy) if busy < _FEW), len(self._pools))
        if free == len(self._pools):
            self._pools.append(httpx2.AsyncHTTPTransport(verify=_trusted(), retries=0, limits=_LIMITS, trust_env=False))
            self._busy.append(0)
        self._busy[free] += 1
        try:
            return await self._pools[free].handle_async_request(request)
        finally:
            self._busy[free] -= 1

    async def aclose(self) -> None:
        for pool in self._pools:
            await pool.aclose()


def create_http_client() -> httpx2.AsyncClient:
    """The one client that talks to Daraja.

    No proxy, certificate or credential is taken from the environment, no cookie is kept (the client serves many
    organizations), nothing is retried, and the User-Agent is plain: a firewall stands before Daraja (quirk 62).
    """
    return httpx2.AsyncClient(
        timeout=TIMEOUTS,
        follow_redirects=False,
        trust_env=False,
        transport=_SmallPools(),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"User-Agent": "mpesa-mcp", "Accept": "application/json", "Accept-Encoding": "identity"},
    )


async def exchange(
    http: httpx2.AsyncClient,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    content: bytes | None = None,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> Reply | NotSent | Unknown:
    """Sends once. NotSent only when no connection was made; after that, whatever breaks leaves it Unknown.

    A connection kept alive may close while the request is written: that is Unknown too, and never sent again.
    """
    try:
        async with (
            asyncio.timeout(deadline_seconds),
            http.stream(method, url, headers=headers, content=content, follow_redirects=False) as response,
        ):
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    return _TOO_LARGE
            return Reply(
                status=response.status_code,
                content_type=response.headers.get("content-type"),
                retry_after=response.headers.get("retry-after"),
                body=bytes(body),
            )
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout):
        return NOT_CONNECTED
    except (httpx2.TimeoutException, TimeoutError):
        return _TIMEOUT
    except (httpx2.HTTPError, httpx2.StreamError):
        return _LOST
