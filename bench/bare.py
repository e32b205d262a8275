"""The yardstick: a Starlette endpoint that only reads the body, behind the same server and loop as the sidecar."""

import asyncio
import sys

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.loops.auto import auto_loop_factory

from mpesa_mcp.app.http import listen, serving, until_stopped


async def _read(request: Request) -> Response:
    await request.body()
    return JSONResponse({"ResultCode": 0, "ResultDesc": "Accepted"})


async def _serve(port: int) -> None:
    app = Starlette(routes=[Route("/cb/{rest:path}", _read, methods=["POST"])])
    async with serving(app, listen("127.0.0.1", port)):
        await until_stopped()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(_serve(int(sys.argv[1])))
