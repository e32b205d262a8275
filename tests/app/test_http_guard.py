"""What a connection may cost: requests that never come whole, endless heads, too many connections, requests ahead."""

from collections.abc import AsyncIterator

import anyio
import pytest
from anyio.abc import SocketStream
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mpesa_mcp.app import http_guard
from mpesa_mcp.app.http import listen, serving
from mpesa_mcp.app.http_guard import HEAD_BYTES, GuardedProtocol

pytestmark = pytest.mark.anyio

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


async def _answer(request: Request) -> Response:
    await request.body()
    return PlainTextResponse("here")


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(GuardedProtocol, "request_seconds", 0.2)
    monkeypatch.setattr(http_guard, "CONNECTIONS", 8)
    app = Starlette(routes=[Route("/", _answer, methods=["GET", "POST"])])
    async with serving(app, listen("127.0.0.1", 0)) as taken:
        yield taken


async def until_closed(stream: SocketStream) -> bytes:
    """Everything that is said until the server closes, in bounded time."""
    said = b""
    with anyio.fail_after(5):
        try:
            while True:
                said += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return said


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"\r\n",
        REQUEST[:-2],
        b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\nhalf",
        REQUEST + REQUEST[:20],
    ],
    ids=["nothing", "an empty line", "half a head", "half a body", "one request and half of the next"],
)
async def test_a_request_that_does_not_come_whole_is_given_up(port: int, begun: bytes) -> None:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        if begun:
            await stream.send(begun)
        said = await until_closed(stream)
    assert said.count(b"HTTP/1.1 200") == begun.count(REQUEST)


async def test_a_head_that_does_not_end_is_cut_off(port: int) -> None:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"GET / HTTP/1.1\r\nHost: here\r\n")
        with pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)), anyio.fail_after(5):
            for _ in range(1000):
                await stream.send(b"X: " + b"x" * (HEAD_BYTES // 10) + b"\r\n")
            await stream.receive()


async def test_more_connections_than_are_taken_are_closed_and_others_are_served(port: int) -> None:
    streams = [await anyio.connect_tcp("127.0.0.1", port) for _ in range(8)]
    async with await anyio.connect_tcp("127.0.0.1", port) as refused:
        assert await until_closed(refused) == b""
    for stream in streams:
        await stream.send(REQUEST)
        with anyio.fail_after(5):
            assert b"HTTP/1.1 200" in await stream.receive()
        await stream.aclose()


async def test_requests_sent_ahead_are_bounded(port: int) -> None:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(REQUEST * 1000)
        said = await until_closed(stream)
    assert said.count(b"HTTP/1.1 200") < 1000


async def test_a_connection_serves_one_request_after_the_other(port: int) -> None:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        for _ in range(3):
            await stream.send(REQUEST)
            with anyio.fail_after(5):
                assert b"HTTP/1.1 200" in await stream.receive()
