"""`mpesa-mcp` for tests, without waiting for its imports: a process that has imported everything forks what is asked.

`program()` gives the words that start it: a small Python that hands over its arguments, its environment and its three
streams, passes signals on, and ends as the program ends. What a real start does is tested where that is the point.
`python -m tests.warm PATH` is the process that forks; it listens at PATH until its stdin is closed.
"""

import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

# Runs without `site`, and imports next to nothing: that is the point of it.
_CLIENT = """
import json, os, signal, socket, sys
there = socket.socket(socket.AF_UNIX)
there.connect(sys.argv[1])
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda sent, _: there.send(bytes([sent])))
job = json.dumps({"words": sys.argv[2:], "env": dict(os.environ), "at": os.getcwd()}).encode()
socket.send_fds(there, [len(job).to_bytes(4, "big")], [0, 1, 2])
there.sendall(job)
ended = int.from_bytes(there.recv(4), "big", signed=True)
if ended < 0:
    signal.signal(-ended, signal.SIG_DFL) if -ended != signal.SIGKILL else None
    os.kill(os.getpid(), -ended)
os._exit(ended)
"""
_IMPORTED = (
    "aiosqlite",
    "anyio._backends._asyncio",
    "asyncpg",
    "h11",
    "httptools",
    "httpcore2",
    "mcp.client.streamable_http",
    "mpesa_mcp.app.bridge",
    "mpesa_mcp.app.desktop",
    "mpesa_mcp.app.local",
    "mpesa_mcp.app.web",
    "mpesa_mcp.app.worker",
    "mpesa_mcp.callbacks.sidecar",
    "mpesa_mcp.cli.main",
    "mpesa_mcp.simulator.app",
    "uvicorn.lifespan.on",
    "uvloop",
)


@cache
def program() -> tuple[str, ...]:
    """The words that start `mpesa-mcp`; its own words follow them."""
    directory = tempfile.TemporaryDirectory(prefix="warm-")  # a short path: it is the name of a socket
    path = Path(directory.name) / "socket"
    command = [sys.executable, "-m", f"{Path(__file__).parent.name}.{Path(__file__).stem}", str(path)]
    forks = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1], text=True
    )
    assert forks.stdin is not None
    assert forks.stdout is not None
    assert forks.stdout.readline() == "warm\n"

    def end() -> None:
        with forks:
            pass  # closes its stdin, and waits
        directory.cleanup()

    atexit.register(end)
    return sys.executable, "-S", "-E", "-c", _CLIENT, str(path)


def _become(job: dict[str, Any], streams: list[int]) -> NoReturn:
    """Turns a forked process into the program that was asked for."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(job["env"])
    os.chdir(job["at"])
    sys.argv = ["mpesa-mcp", *job["words"]]
    code: object = 0
    try:
        importlib.import_module("mpesa_mcp.cli.main").main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _keep(client: socket.socket) -> NoReturn:
    """Forks the program and stays between: signals come from the client, its end is told to it."""
    length, streams, _, _ = socket.recv_fds(client, 4, 3)
    job = json.loads(client.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL))
    pid = os.fork()
    if pid == 0:
        client.close()
        _become(job, streams)
    for stream in streams:
        os.close(stream)  # or nobody would hear that the program has closed them
    ending = os.pidfd_open(pid)
    while ending not in select.select([client.fileno(), ending], [], [])[0]:
        sent = client.recv(1)
        os.kill(pid, sent[0] if sent else signal.SIGKILL)
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(OSError):  # whoever asked was killed
        client.send(ended.to_bytes(4, "big", signed=True))
    os._exit(0)


def main() -> None:
    gc.disable()
    for name in _IMPORTED:
        importlib.import_module(name)
    importlib.import_module("sqlalchemy.orm").configure_mappers()
    gc.enable()
    gc.freeze()  # or each process would copy all of this by looking through it
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(sys.argv[1])
        listening.listen()
        os.write(1, b"warm\n")
        while sys.stdin not in (ready := select.select([listening, sys.stdin], [], [], 1)[0]):
            if listening in ready:
                client, _ = listening.accept()
                with client:
                    if os.fork() == 0:
                        listening.close()
                        _keep(client)
            _bury()


def _bury() -> None:
    """Takes note of whoever has ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    main()
