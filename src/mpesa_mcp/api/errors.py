"""The one place where errors become HTTP answers: the error's own status, and one shape for all.

The texts are ours; what was sent is never repeated.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

import structlog
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mpesa_mcp.api.validation import sentences
from mpesa_mcp.audit import circumstances
from mpesa_mcp.errors import Advice, InputError, InternalFault, MpesaMcpError

log = structlog.get_logger(__name__)

MAX_BODY_BYTES: Final = 256 * 1024


class RowError(BaseModel):
    """What is wrong with one row of a batch; `line` null is about all rows."""

    line: int | None
    field: str
    code: str
    message: str


class ErrorDetail(BaseModel):
    """What went wrong, in our words."""

    code: str = Field(description="Stable; programs go by it.")
    message: str
    advice: Advice = Field(description="What may sensibly be done next.")
    request_id: str | None = Field(description="Name it when you report a problem; also in X-Request-ID.")
    errors: list[RowError] | None = Field(default=None, description="Of a batch alone: what is wrong, row by row.")


class ErrorAnswer(BaseModel):
    """The shape of every answer that is not a success."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "code": "not_found",
                        "message": "No such payment. Check the id; list what exists if unsure.",
                        "advice": "fix_input",
                        "request_id": "req_01kb0c3v5nq4m2tq6y8hzt7w1e",
                    }
                }
            ]
        }
    )
    error: ErrorDetail


class BodyTooLarge(InputError):
    code = "body_too_large"
    http_status = 413

    def __init__(self, most: int = MAX_BODY_BYTES) -> None:
        super().__init__(f"The body is larger than {most // 1024:,} KiB.")


def answer_of(error: MpesaMcpError) -> Response:
    """The answer for an error of ours."""
    if isinstance(error, InternalFault):
        log.error("request_failed", code=error.code, why=getattr(error, "why", None), exc_info=error)
    headers = {}
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if seconds := getattr(error, "retry_after_seconds", None):
        headers["Retry-After"] = str(seconds)
    # Of a batch what was read is told as well: whoever sent the file corrects it by that.
    errors = getattr(error, "errors_as_read", None)
    return _shaped(error.http_status, error.code, error.message, error.advice, headers, errors)


async def on_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, MpesaMcpError)
    return answer_of(error)


async def on_fault(_request: Request, fault: Exception) -> Response:
    """Whatever nobody thought of; the log has it under the request id."""
    log.error("request_failed", code=InternalFault.code, exc_info=fault)
    return answer_of_fault()


def answer_of_fault() -> Response:
    return _shaped(500, InternalFault.code, "Something went wrong on our side. Try again later.", Advice.WAIT, {})


async def on_http(_request: Request, error: Exception) -> Response:
    """What the router refuses: a path or a method that is not there, a body that cannot be read."""
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, MpesaMcpError):  # raised while FastAPI read the body
        return answer_of(error.__cause__)
    words = {
        404: ("not_found", "There is no such path. See /api/v1/docs."),
        405: ("method_not_allowed", "This path does not take that method. See /api/v1/docs."),
    }
    code, message = words.get(error.status_code, ("invalid_input", "The request cannot be read. See /api/v1/docs."))
    return _shaped(error.status_code, code, message, Advice.FIX_INPUT, dict(error.headers or {}))


async def on_invalid(request: Request, error: Exception) -> Response:
    """Says what each field must be that is missing, unknown or not acceptable; never what was in it."""
    assert isinstance(error, RequestValidationError)
    path, document = request.scope["route"].path, request.app.openapi()
    said = sentences(error.errors(), document, path=path, method=request.method)
    return answer_of(InputError(f"{said} See /api/v1/docs."))


def _shaped(
    status: int,
    code: str,
    message: str,
    advice: Advice,
    headers: Mapping[str, str],
    errors: Sequence[Mapping[str, object]] | None = None,
) -> Response:
    detail: dict[str, object] = {
        "code": code,
        "message": message,
        "advice": advice,
        "request_id": circumstances().request_id,
    }
    if errors is not None:
        detail["errors"] = errors
    return JSONResponse({"error": detail}, status, headers)
