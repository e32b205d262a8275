"""Every route, asked with what belongs to somebody else: callback paths of two organizations, keys that are no keys."""

from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from sqlalchemy import func
from sqlmodel import select
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from mpesa_mcp.api.app import API_PATH
from mpesa_mcp.app.http import listen, serving
from mpesa_mcp.app.local import LocalPlatform
from mpesa_mcp.app.web import create_web
from mpesa_mcp.callbacks.models import Callback
from mpesa_mcp.callbacks.sidecar import create_sidecar
from mpesa_mcp.payments.models import Attempt
from mpesa_mcp.payments.states import PaymentStatus
from mpesa_mcp.store.crossings import find_organization
from mpesa_mcp.values import sha256_hex
from tests.clients import TLS

from .factories import (
    CALLBACK_TOKEN,
    OWN_CALLBACK_TOKEN,
    Theirs,
    make_key,
    marks_in,
    own_payment,
    rows_of,
    unlike,
)

pytestmark = pytest.mark.anyio

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE")
# Every route of the server and of the sidecar, and what this file asks of it. A new one fails until it is here.
CALLBACKS = {"/cb", "/cb/{rest:path}"}
HEALTH = {"/", "/healthz", "/readyz"}
# Asked page by page in tests/console.
CONSOLE = "/console"
MCP = {"/mcp"}
METADATA = {"/.well-known/oauth-protected-resource/mcp"}
PUSH = {"Body": {"stkCallback": {"ResultCode": 0}}}


@pytest.fixture
async def http(platform: LocalPlatform) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(verify=TLS, base_url=platform.url, timeout=10) as client:
        yield client


@pytest.fixture
async def sidecar(platform: LocalPlatform) -> AsyncIterator[httpx2.AsyncClient]:
    core = platform.core
    async with (
        serving(create_sidecar(core.store, core.settings, core.clock), listen("127.0.0.1", 0)) as port,
        httpx2.AsyncClient(verify=TLS, base_url=f"http://127.0.0.1:{port}", timeout=10) as client,
    ):
        yield client


@pytest.fixture(scope="module")
async def own_callback_id(platform: LocalPlatform) -> str:
    """Our own organization's half of a callback path, for an attempt whose token is OWN_CALLBACK_TOKEN."""
    payment = await own_payment(platform, PaymentStatus.PENDING)
    now = platform.core.clock.now()
    async with platform.core.store.session(platform.organization.organization_id) as session:
        session.add(
            Attempt(
                organization_id=platform.organization.organization_id,
                id="att_of_ours",
                payment_id=payment.id,
                operation="stk_push",
                callback_token_sha256=sha256_hex(OWN_CALLBACK_TOKEN),
                sent_at=now,
                in_flight_until=now,
            )
        )
    return platform.organization.callback_id


def paths_of(app: Starlette) -> Iterator[str]:
    for route in app.routes:
        if isinstance(route, Mount):
            if route.path in {API_PATH, CONSOLE}:
                continue  # asked route by route in tests/api and tests/console
            assert isinstance(route.app, Starlette)
            yield from (route.path + below for below in paths_of(route.app))
        else:
            assert isinstance(route, Route)
            yield route.path


def told(answer: httpx2.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    """An answer as its receiver sees it, to the byte; the date and the request's id are no part of it."""
    headers = [each for each in answer.headers.multi_items() if each[0] not in {"date", "x-request-id"}]
    request_id = answer.headers.get("x-request-id", "").encode()
    return answer.status_code, headers, answer.content.replace(request_id, b"") if request_id else answer.content


async def test_the_routes_are_these(platform: LocalPlatform) -> None:
    core = platform.core
    assert set(paths_of(create_web(core))) == CALLBACKS | HEALTH | MCP | METADATA | {CONSOLE}
    assert set(paths_of(create_sidecar(core.store, core.settings, core.clock))) == CALLBACKS | {"/healthz"}


async def test_half_a_callback_path_of_each_is_no_path(
    platform: LocalPlatform,
    theirs: Theirs,
    own_callback_id: str,
    http: httpx2.AsyncClient,
    sidecar: httpx2.AsyncClient,
) -> None:
    their_id = theirs.organization.callback_id
    assert await find_organization(platform.core.store, "zebra") == theirs.organization.organization_id
    before = await rows_of(platform.core, theirs.organization.organization_id)
    crossed = (
        (own_callback_id, CALLBACK_TOKEN),
        (their_id, OWN_CALLBACK_TOKEN),
        (own_callback_id, unlike(CALLBACK_TOKEN)),
        (their_id, unlike(CALLBACK_TOKEN)),
        (theirs.organization.organization_id, CALLBACK_TOKEN),
        ("zebra", CALLBACK_TOKEN),
    )
    paths = ["/cb", *(f"/cb/{one}/{other}{end}" for one, other in crossed for end in ("", "/timeout"))]
    for client in (http, sidecar):
        for method in METHODS:
            body = None if method == "GET" else PUSH
            answers = {str(told(await client.request(method, path, json=body))) for path in paths}
            assert len(answers) == 1, (method, answers)
            assert "(404" in answers.pop()
    assert await rows_of(platform.core, theirs.organization.organization_id) == before
    assert await _callbacks(platform) == 0


async def test_each_path_whole_is_taken_for_its_own_organization_alone(
    platform: LocalPlatform, theirs: Theirs, own_callback_id: str, http: httpx2.AsyncClient
) -> None:
    before = await rows_of(platform.core, theirs.organization.organization_id)
    assert (await http.post(f"/cb/{own_callback_id}/{OWN_CALLBACK_TOKEN}", json=PUSH)).status_code == 200
    assert await rows_of(platform.core, theirs.organization.organization_id) == before
    assert await _callbacks(platform) == 1


async def test_a_key_that_is_none_any_more_is_answered_as_one_that_never_was(
    platform: LocalPlatform, theirs: Theirs, http: httpx2.AsyncClient
) -> None:
    core = platform.core
    never = await make_key(core, platform.organization.organization_id)
    presented = [
        theirs.revoked.key.reveal(),
        theirs.expired.key.reveal(),
        _without_a_row(never.key.reveal()),
        "mpk_sim_short",
        theirs.organization.organization_id,
    ]
    for path in (*MCP, *METADATA):
        for method in METHODS:
            answers = {
                str(told(await http.request(method, path, json={}, headers={"Authorization": f"Bearer {key}"})))
                for key in presented
            }
            assert len(answers) == 1, (path, method, answers)
            said = answers.pop()
            assert not marks_in(said, theirs)
            if path in MCP:
                assert "(401" in said


async def test_a_session_of_theirs_is_no_session_to_us(
    platform: LocalPlatform, theirs: Theirs, http: httpx2.AsyncClient
) -> None:
    """Older clients hold a session by an id in a header; with another key it is as unknown as any."""
    accept = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}
    opening = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "zebra", "version": "1"},
        },
    }
    as_them = accept | {"Authorization": f"Bearer {theirs.key.key.reveal()}"}
    opened = await http.post("/mcp", json=opening, headers=as_them)
    session = opened.headers["mcp-session-id"]
    listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}}
    for method in METHODS:
        answers = {
            str(
                told(
                    await http.request(
                        method,
                        "/mcp",
                        json=listing,
                        headers=accept
                        | {"Authorization": f"Bearer {platform.key.reveal()}", "Mcp-Session-Id": presented},
                    )
                )
            )
            for presented in (session, unlike(session))
        }
        assert len(answers) == 1, (method, answers)
    own = await http.post("/mcp", json=listing, headers=as_them | {"Mcp-Session-Id": session})
    assert own.status_code == 200


async def test_health_says_the_same_to_everybody(
    platform: LocalPlatform, theirs: Theirs, http: httpx2.AsyncClient, sidecar: httpx2.AsyncClient
) -> None:
    for client, paths in ((http, HEALTH | {CONSOLE}), (sidecar, {"/healthz"})):
        for path in paths:
            answers = {
                str(told(await client.get(path, headers=headers)))
                for headers in ({}, *({"Authorization": f"Bearer {key.key.reveal()}"} for key in (theirs.key,)))
            }
            assert len(answers) == 1
            assert not marks_in(answers.pop(), theirs)


async def _callbacks(platform: LocalPlatform) -> int:
    async with platform.core.store.reading(platform.organization.organization_id) as session:
        return await session.first(select(func.count()).select_from(Callback)) or 0


def _without_a_row(key: str) -> str:
    """A key whose checksum is right and that nobody was given."""
    import zlib

    from mpesa_mcp.values.ids import base62

    text = unlike(key[:-6])
    return text + base62(zlib.crc32(text.encode()), length=6)
