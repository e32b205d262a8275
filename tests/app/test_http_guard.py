"""What a connection may cost: requests that never come whole, endless heads, answers nobody reads, too many at once."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import SocketStream
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from mpesa_mcp.app import http_guard
from mpesa_mcp.app.http import listen, serving
from mpesa_mcp.app.http_guard import HEAD_BYTES, GuardedProtocol

pytestmark = pytest.mark.anyio

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
ENDLESS = b"GET /endless HTTP/1.1\r\nHost: here\r\n\r\n"
QUIET = b"GET /quiet HTTP/1.1\r\nHost: here\r\n\r\n"
LARGE = b"GET /large HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
LARGE_BYTES = 60_000
CHUNKED = b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class Streams:
    """Two answers: one that never ends, and one that is quiet until it is told to go on."""

    endless_is_over: anyio.Event = field(default_factory=anyio.Event)
    go_on: anyio.Event = field(default_factory=anyio.Event)

    async def endless(self, _request: Request) -> Response:
        async def lines() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 65536
                    await anyio.lowlevel.checkpoint()
            finally:
                self.endless_is_over.set()

        return StreamingResponse(lines())

    async def quiet(self, _request: Request) -> Response:
        async def lines() -> AsyncIterator[bytes]:
            yield b"first"
            await self.go_on.wait()
            yield b"second"

        return StreamingResponse(lines())


async def _answer(request: Request) -> Response:
    return PlainTextResponse(f"here {len(await request.body())}")


async def _large(_request: Request) -> Response:
    return PlainTextResponse("x" * LARGE_BYTES)


@pytest.fixture
def streams() -> Streams:
    return Streams()


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch, streams: Streams) -> AsyncIterator[int]:
    monkeypatch.setattr(GuardedProtocol, "request_seconds", 0.2)
    monkeypatch.setattr(http_guard, "CONNECTIONS", 8)
    routes = [
        Route("/", _answer, methods=["GET", "POST"]),
        Route("/endless", streams.endless),
        Route("/quiet", streams.quiet),
        Route("/large", _large),
    ]
    opened = listen("127.0.0.1", 0)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)  # so that little is enough to be read by nobody
    async with serving(Starlette(routes=routes), opened) as taken:
        yield taken


async def until_said(stream: SocketStream, words: bytes) -> None:
    said = b""
    with anyio.fail_after(5):
        while words not in said:
            said += await stream.receive()


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
        REQUEST + b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\nhalf",
    ],
    ids=["nothing", "an empty line", "half a head", "half a body", "half of the next", "half of the next one's body"],
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


@pytest.mark.parametrize("line", [b"x: 1\r\n" * 1000, b"x" * 6000], ids=["many lines", "one endless line"])
async def test_what_follows_a_body_without_end_is_cut_off(
    port: int, monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    monkeypatch.setattr(GuardedProtocol, "request_seconds", 60)
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(CHUNKED + b"1\r\nx\r\n0\r\nx: ")
        with pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)), anyio.fail_after(5):
            for _ in range(1000):
                await stream.send(line)
            await stream.receive()


async def test_trailers_are_not_kept_and_a_body_in_small_pieces_is_not_taken_for_a_head(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GuardedProtocol, "request_seconds", 60)
    body = b"1\r\nx\r\n" * 2 * HEAD_BYTES
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(CHUNKED + body + b"0\r\nx: 1\r\n\r\n")
        await until_said(stream, b"here %d" % (2 * HEAD_BYTES))


async def test_who_does_not_read_the_answer_is_given_up(port: int, streams: Streams) -> None:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(ENDLESS)
        with anyio.fail_after(5):
            await streams.endless_is_over.wait()


async def test_who_closes_without_reading_the_answers_is_given_up(port: int) -> None:
    """The last answer is written and the connection closed, with less unsent than would hold an application up."""
    loop = asyncio.get_running_loop()
    with socket.socket() as stream:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        stream.connect(("127.0.0.1", port))
        stream.setblocking(False)
        await loop.sock_sendall(stream, LARGE)
        read = len(await loop.sock_recv(stream, 10))
        async with await anyio.connect_tcp("127.0.0.1", port) as idle:  # connected later, and given up
            assert await until_closed(idle) == b""
        with anyio.fail_after(5), contextlib.suppress(ConnectionResetError):
            while more := await loop.sock_recv(stream, 65536):
                read += len(more)
    assert read < LARGE_BYTES


async def test_a_quiet_answer_is_not_given_up(port: int, streams: Streams) -> None:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(QUIET)
        await until_said(stream, b"first")
        async with await anyio.connect_tcp("127.0.0.1", port) as idle:  # connected later, and given up
            assert await until_closed(idle) == b""
        streams.go_on.set()
        await until_said(stream, b"second")


async def test_a_newcomer_takes_the_place_of_who_has_waited_longest(
    port: int, monkeypatch: pytest.MonkeyPatch, streams: Streams
) -> None:
    monkeypatch.setattr(GuardedProtocol, "request_seconds", 60)
    served = await anyio.connect_tcp("127.0.0.1", port)
    await served.send(QUIET)
    await until_said(served, b"first")
    waiting = [await anyio.connect_tcp("127.0.0.1", port) for _ in range(7)]
    newcomers = [await anyio.connect_tcp("127.0.0.1", port) for _ in range(3)]
    for given_up in waiting[:3]:
        assert await until_closed(given_up) == b""
    for stream in (*waiting[3:], *newcomers):
        await stream.send(REQUEST)
        await until_said(stream, b"here")
    streams.go_on.set()
    await until_said(served, b"second")
    for stream in (served, *waiting, *newcomers):
        await stream.aclose()


async def test_who_is_served_keeps_the_place(port: int, streams: Streams) -> None:
    all_served = [await anyio.connect_tcp("127.0.0.1", port) for _ in range(8)]
    for stream in all_served:
        await stream.send(QUIET)
        await until_said(stream, b"first")
    async with await anyio.connect_tcp("127.0.0.1", port) as refused:
        assert await until_closed(refused) == b""
    streams.go_on.set()
    for stream in all_served:
        await until_said(stream, b"second")
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
