"""What breaks on a real connection: whether anything was sent decides between "not sent" and "unknown"."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from mpesa_mcp.daraja.client import DarajaClient, FetchedToken, create_http_client
from mpesa_mcp.daraja.conclusions import Accepted, Conclusion, NotSent, Unknown
from mpesa_mcp.daraja.credential import Certificates
from mpesa_mcp.daraja.operations import DarajaApp, StkPush
from mpesa_mcp.values import Environment, FrozenClock, Kes, Msisdn, Secret, ShortcodeType

pytestmark = pytest.mark.anyio

PUSH = StkPush(
    shortcode="174379",
    party_b="174379",
    shortcode_type=ShortcodeType.PAYBILL,
    passkey=Secret("passkey"),
    phone=Msisdn("254700000012"),
    amount=Kes.from_shillings(10),
    reference="INV-1",
    callback_url=Secret("https://pay.example/cb/a1/b2"),
)
ACK = b'{"ResponseCode":"0","CheckoutRequestID":"ws_CO_1"}'


def http_answer(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


class HeldToken:
    """A token that is always good."""

    async def current(self, app: DarajaApp, fetch: Callable[[], Awaitable[FetchedToken]]) -> Secret:
        return Secret("held")

    async def forget(self, app: DarajaApp, refused: Secret) -> None:
        raise AssertionError("no token was refused")


Behave = Callable[[int, asyncio.StreamWriter], Awaitable[bool]]


@dataclass
class Server:
    """Reads whole requests and hands each to `behave` with its number; False closes the connection."""

    behave: Behave
    requests: int = 0
    connections: int = 0
    received: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.lower().split(b"\r\n")
                        if line.startswith(b"content-le")
                    ),
                    0,
                )
                await reader.readexactly(length)
                self.requests += 1
                self.received.set()
                if not await self.behave(self.requests, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()
            self.closed.set()


@asynccontextmanager
async def listening(server: Server) -> AsyncIterator[int]:
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=1024)
    async with listener:
        yield listener.sockets[0].getsockname()[1]
        server.released.set()


@asynccontextmanager
async def push_to(base_url: str, *, deadline_seconds: float = 5) -> AsyncIterator[Callable[[], Awaitable[Conclusion]]]:
    """One client, kept open between pushes as in earnest."""
    environment = Environment.SANDBOX if base_url.startswith("https") else Environment.SIMULATOR
    app = DarajaApp(environment, base_url, "key", Secret("secret"))
    async with create_http_client() as http:
        client = DarajaClient(
            http,
            HeldToken(),
            Certificates(production=None, http=http),
            FrozenClock(datetime(2026, 1, 15, tzinfo=UTC)),
            deadline_seconds=deadline_seconds,
        )
        yield lambda: client.stk_push(app, PUSH)


async def answer_well(_: int, writer: asyncio.StreamWriter) -> bool:
    writer.write(http_answer(ACK))
    await writer.drain()
    return True


async def test_a_server_that_answers_is_believed() -> None:
    async with listening(Server(answer_well)) as port, push_to(f"http://127.0.0.1:{port}") as push:
        assert await push() == Accepted(None, "ws_CO_1", None, None)


async def test_calls_at_once_each_have_a_connection_and_those_that_follow_use_the_first_again() -> None:
    """Else the slow calls of some organizations would keep the calls of others from connecting."""
    many = 300
    all_there = asyncio.Event()

    async def answer_when_all_are_there(number: int, writer: asyncio.StreamWriter) -> bool:
        if number == many:
            all_there.set()
        await all_there.wait()
        return await answer_well(number, writer)

    server = Server(answer_when_all_are_there)
    async with listening(server) as port, push_to(f"http://127.0.0.1:{port}", deadline_seconds=30) as push:
        answers = await asyncio.gather(*(push() for _ in range(many)))
        assert (set(map(type, answers)), server.connections) == ({Accepted}, many)
        for _ in range(5):
            assert isinstance(await push(), Accepted)
        assert server.connections == many


async def test_nobody_listening_means_not_sent(held_port: Callable[[], int]) -> None:
    async with push_to(f"http://127.0.0.1:{held_port()}") as push:
        concluded = await push()
    assert isinstance(concluded, NotSent)
    assert concluded.code == "not_connected"


async def test_a_failed_tls_handshake_means_not_sent() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"this is not TLS\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        async with push_to(f"https://127.0.0.1:{port}") as push:
            assert isinstance(await push(), NotSent)


async def test_a_connection_closed_without_an_answer_is_unknown_and_sent_once() -> None:
    async def close(_: int, __: asyncio.StreamWriter) -> bool:
        return False

    server = Server(close)
    async with listening(server) as port, push_to(f"http://127.0.0.1:{port}") as push:
        concluded = await push()
    assert isinstance(concluded, Unknown)
    assert concluded.code == "connection_lost"
    assert (server.connections, server.requests) == (1, 1)


async def test_an_answer_cut_short_is_unknown() -> None:
    async def cut(_: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(http_answer(ACK)[:-5])
        await writer.drain()
        return False

    async with listening(Server(cut)) as port, push_to(f"http://127.0.0.1:{port}") as push:
        assert isinstance(await push(), Unknown)


async def test_a_kept_connection_that_dies_under_the_request_is_unknown_and_not_tried_anew() -> None:
    async def answer_once(number: int, writer: asyncio.StreamWriter) -> bool:
        return number == 1 and await answer_well(number, writer)

    server = Server(answer_once)
    async with listening(server) as port, push_to(f"http://127.0.0.1:{port}") as push:
        assert isinstance(await push(), Accepted)
        assert isinstance(await push(), Unknown)
    assert (server.connections, server.requests) == (1, 2)


async def test_a_kept_connection_that_closed_while_idle_is_replaced_before_anything_is_sent() -> None:
    async def answer_and_close(number: int, writer: asyncio.StreamWriter) -> bool:
        await answer_well(number, writer)
        return False

    server = Server(answer_and_close)
    async with listening(server) as port, push_to(f"http://127.0.0.1:{port}") as push:
        assert isinstance(await push(), Accepted)
        await asyncio.wait_for(server.closed.wait(), 5)
        assert isinstance(await push(), Accepted)
    assert (server.connections, server.requests) == (2, 2)


async def test_silence_ends_at_the_deadline_as_unknown() -> None:
    async def stay_silent(_: int, __: asyncio.StreamWriter) -> bool:
        return await server.released.wait()

    server = Server(stay_silent)
    async with listening(server) as port, push_to(f"http://127.0.0.1:{port}", deadline_seconds=0.3) as push:
        concluded = await push()
    assert isinstance(concluded, Unknown)
    assert concluded.code == "timeout"
    assert server.requests == 1


async def test_a_dripping_answer_ends_at_the_deadline_too() -> None:
    async def drip(_: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not server.released.is_set():
            writer.write(b"1\r\n \r\n")
            await writer.drain()
            try:
                await asyncio.wait_for(server.released.wait(), 0.05)
            except TimeoutError:
                continue
        return False

    server = Server(drip)
    async with listening(server) as port, push_to(f"http://127.0.0.1:{port}", deadline_seconds=0.3) as push:
        concluded = await push()
    assert isinstance(concluded, Unknown)
    assert concluded.code == "timeout"


async def test_an_endless_answer_is_dropped() -> None:
    async def pour(_: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"2000\r\n" + b" " * 0x2000 + b"\r\n")
            await writer.drain()

    async with listening(Server(pour)) as port, push_to(f"http://127.0.0.1:{port}") as push:
        concluded = await push()
    assert isinstance(concluded, Unknown)
    assert concluded.code == "too_large"


async def test_a_redirect_to_a_working_server_is_not_followed() -> None:
    other = Server(answer_well)

    async with listening(other) as elsewhere:

        async def redirect(_: int, writer: asyncio.StreamWriter) -> bool:
            location = f"Location: http://127.0.0.1:{elsewhere}/\r\n"
            writer.write(http_answer(b"", status="307 Temporary Redirect", headers=location))
            await writer.drain()
            return True

        async with listening(Server(redirect)) as port, push_to(f"http://127.0.0.1:{port}") as push:
            assert isinstance(await push(), Unknown)
    assert other.connections == 0


async def test_no_proxy_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, daraja = Server(answer_well), Server(answer_well)
    async with listening(proxy) as proxy_port, listening(daraja) as port:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy_port}")
        async with push_to(f"http://127.0.0.1:{port}") as push:
            assert isinstance(await push(), Accepted)
    assert (proxy.connections, daraja.connections) == (0, 1)


async def test_cancelling_the_caller_is_not_swallowed() -> None:
    async def stay_silent(_: int, __: asyncio.StreamWriter) -> bool:
        return await server.released.wait()

    server = Server(stay_silent)
    async with listening(server) as port, push_to(f"http://127.0.0.1:{port}") as push:
        call = asyncio.ensure_future(push())
        await asyncio.wait_for(server.received.wait(), 5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
