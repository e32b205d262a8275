"""What every route of the API goes through: who calls, whether they may, for which organization; then its body."""

import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import anyio
import anyio.to_thread
from fastapi import Depends
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from mpesa_mcp.api.errors import MAX_BODY_BYTES, BodyTooLarge, ErrorAnswer
from mpesa_mcp.api.permissions import Declared, declared_by
from mpesa_mcp.api.validation import NO_NUL, NUL
from mpesa_mcp.errors import InputError, MpesaMcpError, NotFoundError
from mpesa_mcp.identity.permissions import Permission
from mpesa_mcp.identity.principal import Actor, Principal, Unauthenticated
from mpesa_mcp.identity.refused_requests import record_refusal
from mpesa_mcp.payments.core import Core
from mpesa_mcp.values import Role

_ORGANIZATION = "organization_id"
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_BODY_BYTES = "__body_bytes__"
# Ten thousand payments of four fields have forty thousand, and some more in their texts.
_MOST_COMMAS = 200_000
# So few large bodies are looked into at a time: a thread takes turns with the loop that serves everybody.
LARGE_BODIES = anyio.CapacityLimiter(2)
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Calling:
    """Who calls, and the organization the call is about."""

    core: Core
    principal: Principal
    organization_id: str

    @property
    def actor(self) -> Actor:
        return self.principal.as_actor


def core_of(request: Request) -> Core:
    core: Core = request.app.state.core
    return core


def _calling(request: Request) -> Calling:
    calling: Calling = request.state.calling
    return calling


# Only so that the document says it: the token is looked at in `_permitted`.
_DOCUMENTED = Depends(HTTPBearer(auto_error=False, scheme_name="bearer", description="An API key or an access token."))
TheCore = Annotated[Core, Depends(core_of)]
Call = Annotated[Calling, Depends(_calling)]


def with_body_up_to(most: int) -> Callable[[Endpoint], Endpoint]:
    """Declares that the route below takes a larger body than others, up to so many bytes."""

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _BODY_BYTES, most)
        return endpoint

    return mark


class PermittedRoute(APIRoute):
    """A route that asks for permission before FastAPI looks at the body, and documents what it may refuse."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        self.declared = declared_by(endpoint)
        self.body_bytes: int = getattr(endpoint, _BODY_BYTES, MAX_BODY_BYTES)
        methods = set(more.get("methods") or {"GET"})
        refusals = _refusals(path, methods, self.declared.permission)
        more["responses"] = {**{status: {"model": ErrorAnswer} for status in refusals}, **(more.get("responses") or {})}
        # The first sentence of the docstring is what lists of routes show.
        said = (endpoint.__doc__ or "").strip()
        more["summary"] = said.partition(".")[0]
        more["description"] = f"{said}\n\n{self.declared.words}"
        if not self.declared.permission.public:
            more["dependencies"] = [*(more.get("dependencies") or ()), _DOCUMENTED]
        super().__init__(path, endpoint, **more)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer, declared, body_bytes = super().get_route_handler(), self.declared, self.body_bytes

        async def answered(request: Request) -> Response:
            _refuse_nul(request)
            return await answer(_bounded(request, body_bytes))

        async def handle(request: Request) -> Response:
            if declared.permission.public:
                return await answered(request)
            core, principal = await _admitted(request, declared)
            try:
                request.state.calling = _permitted(request, core, principal, declared.permission)
                return await answered(request)
            except MpesaMcpError as refused:
                method, path, named = request.method, request.scope["path"], request.path_params
                await record_refusal(core.store, core.clock, principal, refused, method=method, path=path, named=named)
                raise

        return handle


def bearer_of(request: Request) -> str | None:
    """The API key or access token of the request, not looked at yet."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


async def _admitted(request: Request, declared: Declared) -> tuple[Core, Principal]:
    """Who calls, counted against the rate limits. Raises Unauthenticated, RateLimited, LimiterUnavailable."""
    core = core_of(request)
    if (token := bearer_of(request)) is None:
        raise Unauthenticated
    principal = await core.authentication.principal(token)
    # Before the permission: what a caller may not do counts against its limits too.
    await core.billing.admit(principal, declared.act)
    return core, principal


def _permitted(request: Request, core: Core, principal: Principal, permission: Permission) -> Calling:
    """Raises NotFoundError, NotAllowed, PersonNeeded."""
    named = request.path_params.get(_ORGANIZATION, principal.organization_id)
    if named != principal.organization_id and principal.role is not Role.SUPER_ADMIN:
        raise NotFoundError("organization")
    permission.check(principal)
    return Calling(core, principal, named)


def _refuse_nul(request: Request) -> None:
    """Nothing is called by a name with a NUL, and PostgreSQL takes none. Raises InputError, or answers 404."""
    if any(NUL in str(value) for value in request.path_params.values()):
        raise HTTPException(404)
    if any(NUL in value for _, value in request.query_params.multi_items()):
        raise InputError(f"What is asked for {NO_NUL}.")


def _bounded(request: Request, most: int) -> Request:
    """The request, whose body cannot be read past `most` bytes. Raises BodyTooLarge."""
    told = request.headers.get("content-length", "0")
    if told.isascii() and told.isdigit() and int(told) > most:
        raise BodyTooLarge(most)
    read = 0

    async def receive() -> Message:
        nonlocal read
        message = await request.receive()
        read += len(message.get("body", b""))
        if read > most:
            raise BodyTooLarge(most)
        return message

    bounded = Request if most == MAX_BODY_BYTES else _LargeRequest
    return bounded(request.scope, receive)


class _LargeRequest(Request):
    """One whose body may be large: it is read in a thread, and only if it can be one of ours."""

    async def json(self) -> Any:
        body = await self.body()
        if body.count(b",") > _MOST_COMMAS:
            raise InputError("There are more values in the body than any request has. Nothing was changed.")
        return await anyio.to_thread.run_sync(json.loads, body, limiter=LARGE_BODIES)


def _refusals(path: str, methods: set[str], permission: Permission) -> list[int]:
    statuses = [401, 422, 429, 500, 503]
    if not permission.public:
        statuses.append(403)
    if "{" in path or permission.public:
        statuses.append(404)
    if methods & _WITH_BODY:
        statuses += [400, 409, 413]
    return sorted(statuses)
