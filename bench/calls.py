"""Calls of a tool at an even pace over keep-alive connections, as one organization's programs make them.

As a program: `python -m bench.calls PORT PER_SECOND SECONDS CONNECTIONS`, the key in MPESA_MCP_API_KEY; prints how many
calls were answered, how many of them refused by the rate limit, and the latencies in milliseconds, as JSON. A call
begins at some moment of its turn, whether the one before is answered or not, as long as a connection is free: two loads
whose paces are multiples of each other would else meet in every call of a run, or in none.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from random import random
from typing import Any

VERSION = "2026-07-28"


def call(number: int, port: int, key: str) -> bytes:
    """A call of list_payments, in the newest form of the protocol."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
    }
    body = json.dumps(
        {
            "jsonrpc": "2.0",
            "id": number,
            "method": "tools/call",
            "params": {"name": "list_payments", "arguments": {"limit": 5}, "_meta": meta},
        }
    ).encode()
    head = (
        f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
        f"MCP-Protocol-Version: {VERSION}\r\nMcp-Method: tools/call\r\nMcp-Name: list_payments\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def answer_of(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The status line and the body of one answer, be it of known length or in chunks."""
    head = await reader.readuntil(b"\r\n\r\n")
    told = head.lower()
    if b"content-length:" in told:
        length = int(told.split(b"content-length:")[1].split(b"\r\n")[0])
        return head, await reader.readexactly(length)
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return head, body


async def load(port: int, per_second: float, seconds: float, connections: int, key: str) -> dict[str, Any]:
    turns = range(int(per_second * seconds))
    moments = enumerate([(turn + random()) / per_second for turn in turns])  # noqa: S311 - no secret
    # By then another load that was started at the same moment is up, too: starting it takes a core for some time.
    begun = time.perf_counter() + 0.5
    took: list[float] = []
    refused = 0

    async def client() -> None:
        nonlocal refused
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number, moment in moments:
            await asyncio.sleep(max(0.0, begun + moment - time.perf_counter()))
            since = time.perf_counter()
            writer.write(call(number, port, key))
            head, body = await answer_of(reader)
            took.append(1000 * (time.perf_counter() - since))
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"answered {head.decode()!r} {body.decode()!r}")
            refused += b"rate_limited" in body
        writer.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    took.sort()
    return {
        "calls": len(took),
        "refused": refused,
        "per_second": len(took) / (time.perf_counter() - begun),
        "mean_ms": statistics.fmean(took),
        "p50_ms": took[len(took) // 2],
        "p95_ms": took[len(took) * 95 // 100],
    }


if __name__ == "__main__":
    # The generator must not be what is measured.
    import uvloop

    port, per_second, seconds, connections = sys.argv[1:]
    given = os.environ["MPESA_MCP_API_KEY"]
    measured = uvloop.run(load(int(port), float(per_second), float(seconds), int(connections), given))
    sys.stdout.write(json.dumps(measured))
