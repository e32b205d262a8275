"""The load: keep-alive connections that each post a callback as soon as the one before is answered.

As a program: `python -m bench.load PORT CONNECTIONS FIRST COUNT PATHS` posts callbacks FIRST to FIRST + COUNT, the n-th
to path n modulo PATHS, and prints what became of them as JSON. It knows nothing of the server but HTTP.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import cast

ORGANIZATIONS = 50


def callback_id(path: int) -> str:
    """The organization's segment of a path."""
    return f"{path % ORGANIZATIONS:032x}"


def token(path: int) -> str:
    """The attempt's segment of a path."""
    return f"{path:032x}"


def body(number: int) -> bytes:
    """A success of a push, as Safaricom posts it."""
    items = {
        "Amount": 100,
        "MpesaReceiptNumber": f"SK{number:08d}",
        "TransactionDate": 20261116113000,
        "PhoneNumber": 254700000001,
    }
    callback = {
        "MerchantRequestID": f"29115-34620561-{number}",
        "CheckoutRequestID": f"ws_CO_16112026113000{number:09d}",
        "ResultCode": 0,
        "ResultDesc": "The service request is processed successfully.",
        "CallbackMetadata": {"Item": [{"Name": name, "Value": value} for name, value in items.items()]},
    }
    return json.dumps({"Body": {"stkCallback": callback}}).encode()


def requests(first: int, count: int, paths: int) -> Iterator[bytes]:
    for number in range(first, first + count):
        path, content = number % paths, body(number)
        head = (
            f"POST /cb/{callback_id(path)}/{token(path)} HTTP/1.1\r\nHost: bench\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        yield head.encode() + content


class _Client(asyncio.Protocol):
    """One connection. An answer is whole when as much has come as its head announces."""

    def __init__(self, waiting: Iterator[bytes], statuses: Counter[str], seconds: list[float]) -> None:
        self._waiting = waiting
        self._statuses = statuses
        self._seconds = seconds
        self._answer = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._post()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, content = self._answer.partition(b"\r\n\r\n")
        if not found or len(content) < int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
            return
        self._seconds.append(time.perf_counter() - self._since)
        self._statuses[head[9:12].decode()] += 1
        self._answer = b""
        self._post()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.done.done():
            self._statuses["lost"] += 1
            self.done.set_result(None)

    def _post(self) -> None:
        request = next(self._waiting, None)
        if request is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._since = time.perf_counter()
        self._transport.write(request)


async def load(port: int, connections: int, first: int, count: int, paths: int) -> dict[str, object]:
    """Posts the callbacks; gives the statuses answered, callbacks per second and the latencies in milliseconds."""
    waiting, statuses, seconds = iter(list(requests(first, count, paths))), Counter[str](), list[float]()
    loop = asyncio.get_running_loop()
    begun = time.perf_counter()
    clients = [
        (await loop.create_connection(lambda: _Client(waiting, statuses, seconds), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.done for client in clients))
    took = time.perf_counter() - begun
    seconds.sort()
    return {
        "statuses": statuses,
        "per_second": len(seconds) / took,
        "p50_ms": 1000 * seconds[len(seconds) // 2],
        "p99_ms": 1000 * seconds[len(seconds) * 99 // 100],
    }


if __name__ == "__main__":
    # The generator must not be what is measured.
    import uvloop

    sys.stdout.write(json.dumps(uvloop.run(load(*map(int, sys.argv[1:])))))
