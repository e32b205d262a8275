"""What a connection may cost before anybody is asked about it.

uvicorn has no time-out for a request's head, no bound on its size and none on connections. Here a request must have
come whole within REQUEST_SECONDS (from the connection, or from the answer before), its head may have HEAD_BYTES, and
more than CONNECTIONS at once are not taken. A proxy in front does the same earlier; nobody is obliged to have one.
"""

import asyncio
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

    _head_bytes = 0
    _head_is_whole = False
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn does
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
        else:
            self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._head_bytes = 0 if self._head_is_whole else self._head_bytes + len(data)
        super().data_received(data)
        if not self._head_is_whole and self._head_bytes > HEAD_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        self._head_is_whole = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_is_whole = True
        if len(self.pipeline) >= _SENT_AHEAD:
            raise ValueError("too many requests sent ahead")  # the parser stops and uvicorn answers 400
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        # Of a request that was answered before its end, the rest is over only now: the next is still expected.
        if not self.cycle.response_complete:
            self._rest()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and self.cycle.response_complete:
            self._expect_request()

    def _unsupported_upgrade_warning(self) -> None:
        """No words about strangers who ask for a WebSocket."""

    def _expect_request(self) -> None:
        self._rest()
        self._deadline = self.loop.call_later(self.request_seconds, self.transport.abort)

    def _rest(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
