"""The sidecar: the only part that must face the internet.

It looks the path's token up, reads at most 64 KiB, stores the body with our own secrets gone, and answers 200 once
that is committed. It decides nothing. An unknown token, whatever the method, size or path, gets one and the same 404.
"""

import asyncio
import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread
import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from mpesa_mcp.callbacks.models import Channel
from mpesa_mcp.callbacks.rounds import NotServed, Rounds
from mpesa_mcp.daraja.redaction import is_plain, redact
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.callback_log import CallbackPath, NewCallback, find_callback_tokens, store_callbacks
from mpesa_mcp.store.engine import Store, StoreUnavailable
from mpesa_mcp.values import Clock, new_id, sha256_hex

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 64 * 1024
BODY_SECONDS = 10.0
# What goes into one commit, and what may wait for its turn: together they bound the memory.
_ROUND = 256
_ROUND_BYTES = 1024 * 1024
_MOST_WAITING = 1024
# A store that does not answer by then is away: whoever posts hears of it.
_PATIENCE_SECONDS = 5.0
# A column's width; what a proxy forwards may be any text.
_ADDRESS_LENGTH = 45
# Two segments of lower-case hex. Whatever else a stranger puts there, NUL included, does not reach the database.
_OURS = re.compile(r"([0-9a-f]{32,64})/([0-9a-f]{32,64})(/timeout)?")
# The portal's list of addresses that callbacks come from (daraja/security.md §3).
SAFARICOM_ADDRESSES = frozenset(
    {
        "196.201.212.69",
        "196.201.212.74",
        "196.201.212.127",
        "196.201.212.129",
        "196.201.212.136",
        "196.201.212.138",
        "196.201.213.44",
        "196.201.213.114",
        "196.201.214.200",
        "196.201.214.206",
        "196.201.214.207",
        "196.201.214.208",
    }
)


def _reply(status: int, text: str, *, close: bool = False) -> Response:
    content = {"ResultCode": 0 if status == 200 else 1, "ResultDesc": text}
    return JSONResponse(content, status, {"Connection": "close"} if close else None)


# Written once: an answer depends on nothing but what became of the callback.
_ACCEPTED = _reply(200, "Accepted")
_NOT_FOUND = _reply(404, "Not found")
_TOO_SLOW = _reply(408, "Too slow", close=True)
_TOO_LARGE = _reply(413, "Too large", close=True)
_TOO_MANY = _reply(429, "Too many")
_TRY_AGAIN = _reply(503, "Try again")


class Sidecar:
    """The ASGI endpoint behind `/cb/{organization}/{token}` and `.../timeout`."""

    def __init__(self, store: Store, settings: Settings, clock: Clock, *, body_seconds: float = BODY_SECONDS) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._body_seconds = body_seconds
        self._paths = Rounds(self._find, most=_ROUND, most_waiting=_MOST_WAITING, patience_seconds=_PATIENCE_SECONDS)
        self._bodies = Rounds(
            self._keep,
            most=_ROUND,
            most_waiting=_MOST_WAITING,
            patience_seconds=_PATIENCE_SECONDS,
            weight=lambda callback: len(callback.body),
            heaviest=_ROUND_BYTES,
        )
        # Bodies that need a close look take turns, so that strange ones do not slow the others down; and first those
        # of one attempt among themselves, so that who knows one path cannot hold up the other paths.
        self._looking = anyio.CapacityLimiter(1)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._answer(Request(scope, receive))
        except NotServed:
            response = _TRY_AGAIN
        except ClientDisconnect:
            log.warning("callback_cut_off")
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        callback_id, token, channel = _segments(request)
        # Looked up before the body is read, whatever the path looks like: strangers cost one look and learn nothing.
        path = CallbackPath(callback_id, sha256_hex(token))
        found = await self._paths.ask(path)
        source = request.client.host if request.client else ""
        if found is None or channel is None or request.method != "POST" or not self._may_come_from(source):
            return _NOT_FOUND
        organization_id, attempt_id = found
        try:
            async with asyncio.timeout(self._body_seconds):
                body = await _read_capped(request)
        except TimeoutError:
            log.warning("callback_too_slow", attempt_id=attempt_id)
            return _TOO_SLOW
        if body is None:
            log.warning("callback_too_large", attempt_id=attempt_id)
            return _TOO_LARGE
        callback = NewCallback(
            path=path,
            organization_id=organization_id,
            id=new_id("cbk"),
            attempt_id=attempt_id,
            channel=channel,
            received_at=self._clock.now(),
            source_address=source[:_ADDRESS_LENGTH],
            body=body.decode() if is_plain(body) else await self._redacted(attempt_id, body),
        )
        if not await self._bodies.ask(callback):
            log.warning("callbacks_too_many", attempt_id=attempt_id)
            return _TOO_MANY
        return _ACCEPTED

    async def _find(self, paths: Sequence[CallbackPath]) -> Sequence[tuple[str, str] | None]:
        found = await find_callback_tokens(self._store, paths)
        return [found.get(path) for path in paths]

    async def _keep(self, callbacks: Sequence[NewCallback]) -> Sequence[bool]:
        stored = await store_callbacks(self._store, callbacks)
        return [callback.id in stored for callback in callbacks]

    async def _redacted(self, attempt_id: str, body: bytes) -> str:
        """The body without our secrets. Raises NotServed when its turn does not come in time; a begun look is ended."""
        turn = self._turns.setdefault(attempt_id, asyncio.Lock())
        try:
            with anyio.fail_after(_PATIENCE_SECONDS):
                async with turn:
                    return await anyio.to_thread.run_sync(redact, body, limiter=self._looking)
        except TimeoutError:
            log.warning("callback_not_looked_at", attempt_id=attempt_id)
            raise NotServed from None

    def _may_come_from(self, source: str) -> bool:
        if source in SAFARICOM_ADDRESSES:
            return True
        if self._settings.is_production:
            log.warning("callback_from_elsewhere", source_address=source)
            return False
        if not _is_loopback(source):
            log.info("callback_from_elsewhere", source_address=source)
        return True


def create_sidecar(store: Store, settings: Settings, clock: Clock, *, body_seconds: float = BODY_SECONDS) -> Starlette:
    """The sidecar as an application of its own; `serve` mounts the same endpoint."""

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"ok": True})

    return Starlette(
        routes=[*callback_routes(store, settings, clock, body_seconds=body_seconds), Route("/healthz", healthz)]
    )


def callback_routes(
    store: Store, settings: Settings, clock: Clock, *, body_seconds: float = BODY_SECONDS
) -> list[Route]:
    """Everything under /cb, so that no other route's 404 differs."""
    sidecar = Sidecar(store, settings, clock, body_seconds=body_seconds)
    return [Route("/cb/{rest:path}", sidecar), Route("/cb", sidecar)]


async def can_store(store: Store, clock: Clock) -> bool:
    """Whether this process could do both that a callback needs, tried with a path that nobody has."""
    nobody = CallbackPath("", "")
    try:
        await find_callback_tokens(store, [nobody])
        await store_callbacks(store, [NewCallback(nobody, "", "", "", "", clock.now(), "", "")])
    except StoreUnavailable:
        return False
    return True


def _segments(request: Request) -> tuple[str, str, Channel | None]:
    """(organization's id, token, channel); channel None for a path of another shape, which is looked up as nothing."""
    match = _OURS.fullmatch(str(request.path_params.get("rest", "")))
    if match is None:
        return "", "", None
    return match[1], match[2], Channel.TIMEOUT if match[3] else Channel.RESULT


async def _read_capped(request: Request) -> bytes | None:
    """The body, or None when it is larger than Safaricom ever sends; the rest of it is not read."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


@lru_cache(maxsize=64)
def _is_loopback(source: str) -> bool:
    try:
        return ipaddress.ip_address(source).is_loopback
    except ValueError:
        return False
