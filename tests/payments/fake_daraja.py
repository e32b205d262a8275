"""A Daraja that answers what a test orders, over real HTTP."""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mpesa_mcp.daraja.credential import sandbox_certificate

PATHS = {
    "/mpesa/stkpush/v1/processrequest": "stk_push",
    "/mpesa/stkpushquery/v1/query": "stk_query",
    "/mpesa/b2c/v3/paymentrequest": "b2c",
    "/mpesa/accountbalance/v1/query": "balance",
    "/mpesa/transactionstatus/v1/query": "transaction_status",
    "/mpesa/reversal/v1/request": "reversal",
}


@dataclass(frozen=True)
class Call:
    operation: str
    body: Mapping[str, Any]


@dataclass
class FakeDaraja:
    """Accepts every request, unless a test ordered another answer; carries nothing out and calls nobody back.

    `on_call` runs when a request has arrived and before it is answered, `on_token` when a token is asked for.
    """

    calls: list[Call] = field(default_factory=list)
    on_call: Callable[[Call], Awaitable[None]] | None = None
    on_token: Callable[[], Awaitable[None]] | None = None
    _ordered: dict[str, deque[tuple[int, object]]] = field(default_factory=dict)

    def order(self, operation: str, status: int, body: object, *, times: int = 1) -> None:
        self._ordered.setdefault(operation, deque()).extend([(status, body)] * times)

    def order_spike_arrest(self, operation: str, *, times: int = 1) -> None:
        fault = {"faultstring": "Spike arrest", "detail": {"errorcode": "policies.ratelimit.SpikeArrestViolation"}}
        self.order(operation, 429, {"fault": fault}, times=times)

    def order_server_error(self, operation: str) -> None:
        self.order(operation, 500, error("500.003.1001", "Internal Server Error"))

    def of(self, operation: str) -> list[Call]:
        return [call for call in self.calls if call.operation == operation]

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/oauth/v1/generate", self._token),
                Route("/_sim/certificate", self._certificate),
                *(Route(path, self._operation, methods=["POST"]) for path in PATHS),
            ]
        )

    async def _token(self, _request: Request) -> Response:
        if self.on_token is not None:
            await self.on_token()
        if ordered := self._ordered.get("token"):
            status, body = ordered.popleft()
            return JSONResponse(body, status)
        return JSONResponse({"access_token": "token-of-the-app-0001", "expires_in": "3599"})

    async def _certificate(self, _request: Request) -> Response:
        return Response(sandbox_certificate())

    async def _operation(self, request: Request) -> Response:
        call = Call(PATHS[request.url.path], await request.json())
        self.calls.append(call)
        number = len(self.of(call.operation))
        if self.on_call is not None:
            await self.on_call(call)
        if ordered := self._ordered.get(call.operation):
            status, body = ordered.popleft()
            return JSONResponse(body, status)
        return JSONResponse(_accepted(call, number))


def _accepted(call: Call, number: int) -> Mapping[str, object]:
    match call.operation:
        case "stk_push":
            return {
                "MerchantRequestID": f"merchant-{number}",
                "CheckoutRequestID": f"ws_CO_{number}_700000001",
                "ResponseCode": "0",
            }
        case "stk_query":
            return {"requestId": "1", "ResponseCode": "0", "ResultCode": "4999", "ResultDesc": "being processed"}
        case operation:
            return {
                "OriginatorConversationID": call.body.get(
                    "OriginatorConversationID", f"originator-{operation}-{number}"
                ),
                "ConversationID": f"AG_{operation}_{number}",
                "ResponseCode": "0",
            }


def error(code: str, message: str) -> Mapping[str, object]:
    return {"requestId": "1-1-1", "errorCode": code, "errorMessage": message}
