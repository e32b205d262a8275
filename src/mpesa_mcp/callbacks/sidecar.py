"""The sidecar: the only part that must face the internet.

It looks the path's token up, reads at most 64 KiB, stores the body with our own secrets gone, and answers 200 once
that is committed. It decides nothing. An unknown token, whatever the method, size or path, gets one and the same 404.
"""

import ipaddress
import re

import anyio
import anyio.to_thread
import structlog
from sqlalchemy import delete, func
from sqlmodel import col, select
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from mpesa_mcp.callbacks.models import Callback, CallbackStatus, Channel
from mpesa_mcp.daraja.redaction import redact
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.crossings import DueTable, find_callback_token
from mpesa_mcp.store.engine import Store, StoreUnavailable
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock, new_id, sha256_hex

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 64 * 1024
BODY_SECONDS = 10.0
# Safaricom posts an attempt's result once, or a few times (daraja/quirks.md A). More than this is somebody else.
MAX_CALLBACKS = 20
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


class Sidecar:
    """The ASGI endpoint behind `/cb/{organization}/{token}` and `.../timeout`."""

    def __init__(self, store: Store, settings: Settings, clock: Clock, *, body_seconds: float = BODY_SECONDS) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except StoreUnavailable:
            log.exception("callback_not_stored")
            response = JSONResponse({"ResultCode": 1, "ResultDesc": "Try again"}, 503)
        except ClientDisconnect:
            log.warning("callback_cut_off")
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        callback_id, token, channel = _segments(request)
        # Looked up before the body is read, whatever the path looks like: strangers cost one query and learn nothing.
        found = await find_callback_token(self._store, callback_id, sha256_hex(token))
        source = request.client.host if request.client else ""
        if found is None or channel is None or request.method != "POST" or not self._may_come_from(source):
            return _not_found()
        organization_id, attempt_id = found
        try:
            with anyio.fail_after(self._body_seconds):
                body = await _read_capped(request)
        except TimeoutError:
            log.warning("callback_too_slow", attempt_id=attempt_id)
            return JSONResponse({"ResultCode": 1, "ResultDesc": "Too slow"}, 408, {"Connection": "close"})
        if body is None:
            log.warning("callback_too_large", attempt_id=attempt_id)
            return JSONResponse({"ResultCode": 1, "ResultDesc": "Too large"}, 413, {"Connection": "close"})
        now = self._clock.now()
        # On a thread: a large body of a strange shape takes a noticeable part of a second.
        text = await anyio.to_thread.run_sync(redact, body)
        async with self._store.session(organization_id) as session:
            if not await _make_room(session, attempt_id, channel):
                log.warning("callbacks_too_many", attempt_id=attempt_id)
                return _accepted()
            session.wake(DueTable.CALLBACKS)
            session.add(
                Callback(
                    organization_id=organization_id,
                    id=new_id("cbk"),
                    attempt_id=attempt_id,
                    channel=channel,
                    status=CallbackStatus.STORED,
                    received_at=now,
                    source_address=source,
                    body=text,
                    next_action_at=now,
                )
            )
        return _accepted()

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
        routes=[Route("/healthz", healthz), *callback_routes(store, settings, clock, body_seconds=body_seconds)]
    )


def callback_routes(
    store: Store, settings: Settings, clock: Clock, *, body_seconds: float = BODY_SECONDS
) -> list[Route]:
    """Everything under /cb, so that no other route's 404 differs."""
    sidecar = Sidecar(store, settings, clock, body_seconds=body_seconds)
    return [Route("/cb", sidecar), Route("/cb/{rest:path}", sidecar)]


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


async def _make_room(session: OrganizationSession, attempt_id: str, channel: Channel) -> bool:
    """Whether one more body may be kept. What was refused goes first, so that a flood does not push out the truth."""
    of_attempt = (Callback.attempt_id == attempt_id, Callback.channel == channel)
    stored = select(func.count()).select_from(Callback).where(*of_attempt)
    if (await session.first(stored) or 0) < MAX_CALLBACKS:
        return True
    refused = select(Callback.id).where(
        *of_attempt, col(Callback.status).in_([CallbackStatus.MALFORMED, CallbackStatus.MISMATCHED])
    )
    oldest = await session.first(refused.order_by(col(Callback.id)))
    if oldest is None:
        return False
    await session.change(delete(Callback).where(col(Callback.id) == oldest))
    return True


def _accepted() -> Response:
    return JSONResponse({"ResultCode": 0, "ResultDesc": "Accepted"})


def _not_found() -> Response:
    return JSONResponse({"ResultCode": 1, "ResultDesc": "Not found"}, 404)


def _is_loopback(source: str) -> bool:
    try:
        return ipaddress.ip_address(source).is_loopback
    except ValueError:
        return False
