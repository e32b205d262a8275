"""The way of every Daraja call: ordered faults, method, token, content type, body, then the operation.

The errors differ per operation as in daraja/api.md §18: a bad token is 404.001.03 at one, 401.002.01 at another.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from starlette.requests import Request
from starlette.responses import Response

from mpesa_mcp.simulator import b2c, inquiries, reversals, stk
from mpesa_mcp.simulator.connection import Hangup
from mpesa_mcp.simulator.oauth import basic_credentials
from mpesa_mcp.simulator.requests import InvalidField
from mpesa_mcp.simulator.simulation import Simulation
from mpesa_mcp.simulator.wire import Answer, fault

MAX_BODY_BYTES = 64 * 1024

Run = Callable[[Simulation, Mapping[str, object]], Awaitable[Answer]]


class BadToken(StrEnum):
    """How an operation refuses an access token."""

    NOT_FOUND = "404.001.03"
    UNAUTHORIZED = "401.002.01"
    BAD_REQUEST = "400.003.01"


@dataclass(frozen=True, slots=True)
class Operation:
    """`first_field` is what Daraja names when it could not read the body at all (quirk 58)."""

    name: str
    path: str
    bad_token: BadToken
    first_field: str
    run: Run


OPERATIONS = (
    Operation("stk_push", "/mpesa/stkpush/v1/processrequest", BadToken.NOT_FOUND, "BusinessShortCode", stk.push),
    Operation("stk_query", "/mpesa/stkpushquery/v1/query", BadToken.NOT_FOUND, "BusinessShortCode", stk.query),
    Operation("b2c", "/mpesa/b2c/v3/paymentrequest", BadToken.UNAUTHORIZED, "InitiatorName", b2c.pay),
    Operation("balance", "/mpesa/accountbalance/v1/query", BadToken.UNAUTHORIZED, "Initiator", inquiries.balance),
    Operation(
        "transaction_status",
        "/mpesa/transactionstatus/v1/query",
        BadToken.BAD_REQUEST,
        "Initiator",
        inquiries.status,
    ),
    Operation("reversal", "/mpesa/reversal/v1/request", BadToken.NOT_FOUND, "Initiator", reversals.reverse),
)

# Which family answers for a path that no operation has (daraja/api.md §18).
_FAMILIES = (
    ("/mpesa/stkpush", "404.001.01"),
    ("/mpesa/reversal", "404.001.01"),
    ("/mpesa/b2", "404.002.01"),
    ("/mpesa/accountbalance", "404.002.01"),
    ("/mpesa/transactionstatus", "404.003.01"),
    ("/mpesa/c2b", "404.003.01"),
)


class Gateway:
    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def endpoint(self, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            # Read first: a call whose client gives up during an ordered delay has reached Daraja all the same.
            raw = await _limited_body(request)
            return await self._with_faults(operation.name, lambda: self._call(operation, request, raw))

        return serve

    async def token(self, request: Request) -> Response:
        return await self._with_faults("oauth", lambda: self._token(request))

    async def unknown(self, request: Request) -> Response:
        """A path that no operation has."""
        path = request.url.path
        for prefix, code in _FAMILIES:
            if path.startswith(prefix):
                return _response(self._simulation.error(404, code, "Resource not found"))
        text = f"Unable to identify proxy for host: secure and url: {path[:200]}"
        return _response(fault(404, text, "messaging.adaptors.http.flow.ApplicationNotFound"))

    async def _with_faults(self, name: str, call: Callable[[], Awaitable[Answer]]) -> Response:
        """An ordered fault answers instead of the call, or with `after` once the call has been carried out."""
        ordered = self._simulation.faults.take(name)
        if ordered is None:
            return _response(await call())
        if ordered.after:
            answer = await call()
            await ordered.delay()
        else:
            await ordered.delay()
            answer = ordered.answer or await call()
        return _response(ordered.answer or answer)

    async def _token(self, request: Request) -> Answer:
        simulation = self._simulation
        if request.method != "GET":
            return simulation.error(405, "405.001", f"{request.method} Method Not Allowed")
        if request.query_params.get("grant_type") != "client_credentials":
            return simulation.error(400, "400.008.02", "Invalid grant type passed")
        credentials = basic_credentials(request.headers.get("authorization", ""))
        if credentials is None:
            return simulation.error(400, "400.008.01", "Invalid authentication type passed")
        token = simulation.apps.new_token(*credentials)
        if token is None:
            return simulation.error(400, "400.008.01", "Invalid Authentication passed")
        return Answer(200, {"access_token": token, "expires_in": "3599"})

    async def _call(self, operation: Operation, request: Request, raw: bytes | None) -> Answer:
        simulation = self._simulation
        if request.method != "POST":
            return simulation.error(405, "405.001", f"{request.method} Method Not Allowed")
        token = _bearer(request)
        if not simulation.apps.accepts(token):
            return self._refused_token(operation, token)
        if raw is None:
            return fault(413, "Body buffer overflow", "protocol.http.TooBigBody")
        try:
            if "json" not in request.headers.get("content-type", "").lower():
                raise InvalidField(operation.first_field)
            body = _json_object(raw)
            if body is None:
                return simulation.error(400, "400.002.05", "Invalid Request Payload")
            return await operation.run(simulation, body)
        except InvalidField as bad:
            return simulation.error(400, "400.002.02", f"Bad Request - Invalid {bad.field}")

    def _refused_token(self, operation: Operation, token: str) -> Answer:
        match operation.bad_token:
            case BadToken.NOT_FOUND:
                return self._simulation.error(404, "404.001.03", "Invalid Access Token")
            case BadToken.UNAUTHORIZED:
                # Daraja does echo the token here: programs that log errors must redact it (daraja/security.md §2).
                text = f"Error Occurred - Invalid Access Token - {token[:64]}"
                return self._simulation.error(401, "401.002.01", text)
            case BadToken.BAD_REQUEST:
                return self._simulation.error(400, "400.003.01", "Invalid Access Token")


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def _limited_body(request: Request) -> bytes | None:
    """None when there is more than the limit, which is never kept."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


def _json_object(raw: bytes) -> Mapping[str, object] | None:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _response(answer: Answer) -> Response:
    if answer.dropped:
        return Hangup()
    return Response(answer.content, answer.status, media_type=answer.media_type)
