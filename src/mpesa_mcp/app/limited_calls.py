"""Calls above the rate limit that repeat what was refused a moment ago: answered before the MCP SDK takes them up.

The SDK costs several times what the refusal itself does, and a flood would take that from everybody else. So a refused
call is remembered for a few seconds, with all of it that the SDK decides by: who calls, the headers it reads, and the
body without the arguments and the id. The next one like it gets the same answer under its own id, if the limits refuse
it, too. Whatever differs in anything else, and whatever there is room for, goes the way of every call; and both are
counted in one place (`billing.core`).
"""

import json
import re
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mpesa_mcp.app.bearer import principal_of
from mpesa_mcp.audit import under
from mpesa_mcp.errors import MpesaMcpError
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.core import Core
from mpesa_mcp.tools.calls import LimitedCall

REMEMBERED_SECONDS: Final = 5.0
# Remembered at once, each with up to twice MOST_BYTES; the oldest goes first. Larger calls and answers are not.
_MOST: Final = 500
_MOST_BYTES: Final = 8 * 1024
# What the SDK decides by, beside those that begin with mcp-: versions, names, the session.
_HEADERS: Final = frozenset({b"host", b"origin", b"accept", b"content-type"})
# The JSON of an answer, bare or as the one event of a stream.
_ANSWER: Final = re.compile(rb"((?:event: message\r\ndata: )?)(\{[^\r\n]*\})((?:\r\n\r\n)?)")


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of a tool as it stands in a request's body: its id, and everything else but the arguments."""

    id: int | str
    rest: str


@dataclass(frozen=True, slots=True)
class _Refusal:
    """How a call was refused: the answer's head, its message, and what stood around it."""

    call: LimitedCall
    status: int
    headers: list[tuple[bytes, bytes]]
    before: bytes
    message: dict[str, Any]
    after: bytes
    until: float


class LimitedCalls:
    """Stands behind the authentication, before the SDK's own endpoint."""

    def __init__(self, app: ASGIApp, core: Core) -> None:
        self._app = app
        self._core = core
        self._refusals: OrderedDict[tuple[object, ...], _Refusal] = OrderedDict()
        self._sessions_ended = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        authenticated = scope["type"] == "http" and scope["user"].is_authenticated
        if not authenticated or scope["method"] != "POST":
            if authenticated and scope["method"] == "DELETE":
                # A session ends: its calls are answered differently from now on, and so it is with those under way.
                self._refusals.clear()
                self._sessions_ended += 1
            await self._app(scope, receive, send)
            return
        principal = principal_of(scope["user"].access_token)
        body, receive = await _read_ahead(receive)
        if (call := _call_in(body)) is None:
            await self._app(scope, receive, send)
            return
        place = _place(principal, scope, call)
        refusal = self._refusals.get(place)
        if refusal is not None and await self._refuses(scope, principal, refusal):
            await _send(refusal, call, send)
            return
        answer, ended = _Answer(send), self._sessions_ended
        await self._app(scope, receive, answer.send)
        limited = scope.get("limited_call")
        if limited is not None and ended == self._sessions_ended:
            self._remember(place, answer.as_refusal(limited, call))

    async def _refuses(self, scope: Scope, principal: Principal, refusal: _Refusal) -> bool:
        if time.monotonic() >= refusal.until:
            return False
        with under(replace(scope["circumstances"], client=refusal.call.client)):
            try:
                return await self._core.billing.refuses_call(principal, refusal.call.tool)
            except MpesaMcpError:
                return False  # it is told the way of every call

    def _remember(self, place: tuple[object, ...], refusal: _Refusal | None) -> None:
        if refusal is None:
            return
        self._refusals[place] = refusal
        self._refusals.move_to_end(place)
        if len(self._refusals) > _MOST:
            self._refusals.popitem(last=False)


class _Answer:
    """Sends an answer, and keeps it as long as it is small."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            # Taken before others add what is of this one answer.
            self._status, self._headers = message["status"], list(message["headers"])
        elif len(self._body) <= _MOST_BYTES:
            self._body += message.get("body", b"")
        await self._send(message)

    def as_refusal(self, limited: LimitedCall, call: _Call) -> _Refusal | None:
        """None when it is of a form that is not known."""
        found = _ANSWER.fullmatch(bytes(self._body)) if len(self._body) <= _MOST_BYTES else None
        if found is None:
            return None
        before, text, after = found.groups()
        message = json.loads(text)
        if message.get("id") != call.id:
            return None
        headers = [(name, value) for name, value in self._headers if name.lower() != b"content-length"]
        until = time.monotonic() + REMEMBERED_SECONDS
        return _Refusal(limited, self._status, headers, before, message, after, until)


async def _send(refusal: _Refusal, call: _Call, send: Send) -> None:
    text = json.dumps(refusal.message | {"id": call.id}, separators=(",", ":")).encode()
    body = refusal.before + text + refusal.after
    headers = [*refusal.headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _read_ahead(receive: Receive) -> tuple[bytes, Receive]:
    """The beginning of a request's body, all of it if it is small; and what gives it again to who asks next."""
    came: deque[Message] = deque()
    body, goes_on = b"", True
    while goes_on and len(body) <= _MOST_BYTES:
        came.append(message := await receive())
        body += message.get("body", b"")
        goes_on = message.get("more_body", False)

    async def again() -> Message:
        return came.popleft() if came else await receive()

    return body, again


def _call_in(body: bytes) -> _Call | None:
    """None for whatever is no plain call: another method, a batch, an answer to a question, one that is too long."""
    if len(body) > _MOST_BYTES:
        return None
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or told.keys() != {"jsonrpc", "id", "method", "params"}:
        return None
    call_id, params = told.pop("id"), told["params"]
    if told["method"] != "tools/call" or type(call_id) not in (int, str) or not isinstance(params, dict):
        return None
    # Any object will do for arguments: they are looked at when a call is admitted.
    if not isinstance(params.pop("arguments", {}), dict) or not params.keys() <= {"name", "_meta"}:
        return None
    meta = params.get("_meta")
    if isinstance(meta, dict) and type(meta.get("progressToken")) in (int, str):
        del meta["progressToken"]
    return _Call(call_id, json.dumps(told, sort_keys=True))


def _place(principal: Principal, scope: Scope, call: _Call) -> tuple[object, ...]:
    """Where the refusal of a call like this is remembered."""
    decisive = tuple(each for each in scope["headers"] if each[0] in _HEADERS or each[0].startswith(b"mcp-"))
    return principal, scope["path"], decisive, call.rest
