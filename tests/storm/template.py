"""A process that has imported everything and forks the others: `python -m storm.template`, in `tests`.

Each runs a real command line of `mpesa-mcp`, only that it need not import first, which takes longer than a worker lives
in this storm. A line of JSON on stdin starts one; the answer is its process id.
"""

import asyncio
import gc
import importlib
import json
import mmap
import os
import signal
import ssl
import struct
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from sqlalchemy.orm import configure_mappers

from mpesa_mcp.cli.main import main as mpesa_mcp
from mpesa_mcp.values import SystemClock

from .submitting import submit

_LATER_IMPORTS = (
    "aiosqlite",
    "alembic.runtime.migration",
    "alembic.script",
    "anyio._backends._asyncio",
    "asyncpg",
    "h11",
    "httptools",
    "httpcore2",
    "mpesa_mcp.app.worker",
    "mpesa_mcp.callbacks.sidecar",
    "mpesa_mcp.payments.comparison",
    "mpesa_mcp.payments.desk",
    "mpesa_mcp.simulator.app",
    "rich.console",
    "uvicorn.lifespan.on",
    "uvloop",
)


def _share_clock(path: Path) -> None:
    """The present, and so many seconds more as stand in the file at this moment."""
    with path.open("rb") as file:
        ahead = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)

    def now(_: SystemClock) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=struct.unpack("d", ahead[:])[0])

    setattr(SystemClock, "now", now)  # noqa: B010


def _become(job: Mapping[str, Any]) -> NoReturn:
    """Turns a forked process into what the job says; its exit code is left in a file."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for name in [name for name in os.environ if name.startswith("MPESA_MCP_")]:
        del os.environ[name]
    os.environ.update(job["env"])
    path = Path(job["files"])
    for stream, suffix in ((1, ".out"), (2, ".log")):
        opened = os.open(path.with_suffix(suffix), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["mpesa-mcp", *job["words"]]
    code: object = 0
    try:
        _share_clock(Path(job["clock"]))
        if job["words"][0] == "submit":
            asyncio.run(submit(json.loads(Path(job["words"][1]).read_text())))
        else:
            mpesa_mcp()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    path.with_suffix(".exit").write_text(str(code or 0))
    os._exit(0)


def main() -> None:
    with os.fdopen(os.dup(1), "w") as answering:
        os.dup2(2, 1)
        for name in _LATER_IMPORTS:
            importlib.import_module(name)
        configure_mappers()
        # Nobody here speaks TLS, and reading the certificates takes as long as a payment.
        setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)  # noqa: B010
        gc.freeze()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the dead
        started = []
        for line in sys.stdin:
            pid = os.fork()
            if pid == 0:
                _become(json.loads(line))
            started.append(pid)
            answering.write(f"{pid}\n")
            answering.flush()
    for pid in started:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
