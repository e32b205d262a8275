"""`/_sim`: what a test or a person at the machine asks of the simulator itself. All JSON, save the certificate."""

import json
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mpesa_mcp.simulator.faults import MAX_FAULTS, Fault, TooManyFaults
from mpesa_mcp.simulator.simulation import Simulation
from mpesa_mcp.simulator.wire import encode

MAX_BODY_BYTES = 64 * 1024


class Reset(BaseModel):
    """With a seed, the ids begin again as a simulator started with that seed would make them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: StrictInt | None = Field(default=None, ge=0)


class Control:
    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def routes(self) -> list[Route]:
        return [
            Route("/_sim/ledger", self.ledger, methods=["GET"]),
            Route("/_sim/deliveries", self.deliveries, methods=["GET"]),
            Route("/_sim/certificate", self.certificate, methods=["GET"]),
            Route("/_sim/faults", self.waiting_faults, methods=["GET"]),
            Route("/_sim/faults", self.order_fault, methods=["POST"]),
            Route("/_sim/reset", self.reset, methods=["POST"]),
        ]

    async def ledger(self, _: Request) -> Response:
        """Every movement that really happened, oldest first."""
        return JSONResponse([movement.as_json() for movement in self._simulation.ledger.movements])

    async def deliveries(self, _: Request) -> Response:
        """What was posted to whom and how it went, oldest first; bodies are not kept."""
        return JSONResponse([delivery.as_json() for delivery in self._simulation.deliveries.remembered])

    async def certificate(self, _: Request) -> Response:
        """The certificate SecurityCredential is encrypted with."""
        return Response(self._simulation.credential_key.certificate_pem, media_type="application/x-pem-file")

    async def waiting_faults(self, _: Request) -> Response:
        return JSONResponse(self._simulation.faults.as_json())

    async def order_fault(self, request: Request) -> Response:
        try:
            fault = Fault.model_validate(await _object(request))
            self._simulation.faults.order(fault)
        except ValidationError as nonsense:
            return _unprocessable(nonsense)
        except TooManyFaults:
            return JSONResponse({"error": f"{MAX_FAULTS} faults are waiting already."}, 422)
        return JSONResponse({"operation": fault.operation, "count": fault.count})

    async def reset(self, request: Request) -> Response:
        try:
            wanted = Reset.model_validate(await _object(request))
        except ValidationError as nonsense:
            return _unprocessable(nonsense)
        self._simulation.reset(wanted.seed)
        return JSONResponse({"reset": True})


async def _object(request: Request) -> Mapping[str, object] | None:
    """The body; an empty one is an empty object, an unreadable one is None, which no model takes."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            return None
    if not raw.strip():
        return {}
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _unprocessable(nonsense: ValidationError) -> Response:
    problems = [
        {"field": ".".join(str(part) for part in problem["loc"]), "problem": problem["msg"]}
        for problem in nonsense.errors()
    ]
    # Encoded as ASCII: a field's name may contain what UTF-8 cannot.
    body = encode({"error": "This is not what the control takes.", "problems": problems})
    return Response(body, 422, media_type="application/json")
