"""What a connection may cost before anybody is asked about it.

uvicorn has no time-out for a request's head, no bound on its size and none on connections. Here a request must have
come whole within REQUEST_SECONDS (from the connection, or from the answer before), and whoever reads nothing of an
answer for as long is given up too. Between a request's pieces of body, before and after them, HEAD_BYTES may come.
Beyond CONNECTIONS, a newcomer takes the place of the one that has waited longest without a whole request. A proxy in
front does the same earlier; nobody is obliged to have one.
"""

import asyncio
import time
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

REQUEST_SECONDS: Final = 20.0
HEAD_BYTES: Final = 64 * 1024
# Below the usual limit of 1024 open files, so that some are left for the database and for calls to Safaricom.
CONNECTIONS: Final = 800
# Requests sent ahead on one connection, before the first is answered. Clients that do this send a few.
_SENT_AHEAD: Final = 16


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with these bounds. It says nothing to those who pass them, and closes."""

    request_seconds = REQUEST_SECONDS

    # What came since the request began, or since the last piece of its body: a head, trailers, the framing of chunks.
    _bytes_beside_body = 0
    _head_is_whole = False
    _expected_since = 0.0
    _deadline: asyncio.TimerHandle | None = None
    _unread_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn does
        super().connection_made(transport)
        # Writing is paused as soon as anything stays unsent, and resumed when all is sent: the time of `pause_writing`.
        transport.set_write_buffer_limits(high=0)
        self._expect_request()
        if len(self.connections) > CONNECTIONS:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        self._all_is_read()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_deadline = self.loop.call_later(self.request_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._all_is_read()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        self._bytes_beside_body += len(data)
        super().data_received(data)
        if self._bytes_beside_body > HEAD_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        self._bytes_beside_body = 0
        self._head_is_whole = False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_is_whole:  # trailers are of no use to anybody here
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_is_whole = True
        if len(self.pipeline) >= _SENT_AHEAD:
            raise ValueError("too many requests sent ahead")  # the parser stops and uvicorn answers 400
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._bytes_beside_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        # Of a request that was answered before its end, the rest is over only now: the next is still expected.
        if not self.cycle.response_complete:
            self._rest()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # The newest request may be another, sent ahead; the rest of it is expected as well.
        if not self.transport.is_closing() and (self.cycle.response_complete or self.cycle.more_body):
            self._expect_request()

    def _unsupported_upgrade_warning(self) -> None:
        """No words about strangers who ask for a WebSocket."""

    def _expect_request(self) -> None:
        self._rest()
        # Not the loop's own time: some count it in milliseconds, and who came first would be a matter of chance.
        self._expected_since = time.monotonic()
        self._deadline = self.loop.call_later(self.request_seconds, self.transport.abort)

    def _rest(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _all_is_read(self) -> None:
        if self._unread_deadline is not None:
            self._unread_deadline.cancel()
            self._unread_deadline = None

    def _make_room(self) -> None:
        """Gives up whoever is expected to send a request and has waited longest: the newcomer if no other."""
        waiting = [
            each for each in self.connections if isinstance(each, GuardedProtocol) and each._deadline is not None
        ]
        longest = min(waiting, key=lambda each: each._expected_since)
        self.connections.discard(longest)  # now, since more newcomers may come before it is told
        longest.transport.abort()
