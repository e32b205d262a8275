"""The application behind `/api/v1`: its routers, its errors, its OpenAPI document."""

from functools import cache
from typing import Final

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from mpesa_mcp import __version__
from mpesa_mcp.api import (
    api_keys,
    approvals,
    audit,
    auth,
    batches,
    credentials,
    organizations,
    payments,
    plans,
    reports,
    spend_rules,
    subscriptions,
    support,
    usage,
    users,
)
from mpesa_mcp.api.errors import on_error, on_fault, on_http, on_invalid
from mpesa_mcp.api.examples import in_full
from mpesa_mcp.api.request_ids import RequestIds
from mpesa_mcp.errors import MpesaMcpError
from mpesa_mcp.payments.core import Core

API_PATH: Final = "/api/v1"
# In the order of the documentation.
ROUTERS: Final[tuple[APIRouter, ...]] = (
    auth.router,
    organizations.router,
    users.router,
    api_keys.router,
    credentials.router,
    payments.router,
    approvals.router,
    batches.router,
    reports.router,
    spend_rules.router,
    support.router,
    plans.router,
    subscriptions.router,
    usage.router,
    audit.router,
)


def create_api(core: Core) -> FastAPI:
    """Everything under `/api/v1`, for mounting there."""
    # Its documentation page comes from this server, not from somebody else's.
    api = FastAPIOffline(
        title="mpesa-mcp",
        version=__version__,
        description="Organizations, their people, keys, credentials and payments. Amounts are decimal strings in KES.",
        docs_url="/docs",
        redoc_url=None,
        exception_handlers={
            MpesaMcpError: on_error,
            RequestValidationError: on_invalid,
            HTTPException: on_http,
            Exception: on_fault,
        },
        middleware=[Middleware(RequestIds)],
    )
    api.state.core = core
    for router in ROUTERS:
        api.include_router(router)
    # FastAPI's own way to change its document: https://fastapi.tiangolo.com/how-to/extending-openapi/
    document = api.openapi
    api.openapi = cache(lambda: in_full(document()))  # type: ignore[method-assign]
    return api
