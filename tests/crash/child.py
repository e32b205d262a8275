"""The processes that die, and those that come after them: `python -m tests.crash.child DELAY_MS`.

A warm template that has imported everything forks a simulator once, and for each job, a line of JSON on stdin, one
process after the other: all but the last are to be killed, the last one recovers and reports. All of them listen on one
socket, which the template keeps open: a callback in between waits to be taken.

A job without deaths is a rehearsal: the template plays the stories itself, on a database of their own, so that the
statements of a payment are compiled in what it forks from then on: a third of what each process would do.
"""

import asyncio
import gc
import importlib
import json
import os
import signal
import socket
import ssl
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any, NoReturn

import structlog
import uvloop
from sqlalchemy.orm import configure_mappers

from mpesa_mcp.app.http import listen, port_of, serving
from mpesa_mcp.simulator.app import create_simulator
from tests.compiled import compiled_once

from .deaths import Death, Reaper, Side
from .facts import collect, standing
from .places import by_file
from .scene import LeapingClock, Scene, playing
from .stories import STORIES

# Each process starts this much later than the one before died: its leases are over, and a push is not too old yet.
_LATER_SECONDS = 100
_HANGS_AFTER_SECONDS = 200
_THREAD_ENDS_SECONDS = 5
# Between them they say nearly every statement.
_REHEARSED = ("payout without its callback", "reversal", "batch")
Report = Callable[[Mapping[str, Any]], NoReturn]


@dataclass(frozen=True)
class Job:
    """A story, and where the processes that play it are killed, one after the other."""

    settings: Mapping[str, Any]
    story: str
    deaths: Sequence[Death]


async def _play(job: Job, number: int, scene: Scene, reaper: Reaper, report: Report) -> None:
    """Process `number` of the job; the last one reports. Nobody closes anything in good order."""
    story = STORIES[job.story]
    before = await standing(scene)
    if number == 0:
        await _simulator_is_reset(scene)
        await story.prepare(scene)
        scene.answers.clear()
    reaper.arm(job.deaths[number] if number < len(job.deaths) else None)
    await story.act(scene)
    if number == 0:
        scene.clock.ahead += story.waits
    await scene.work()
    if number < len(job.deaths):
        report({"failed": "the point was never reached"})
    await story.act(scene)
    await scene.work()
    report(await collect(scene, before))


def _rehearse(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Plays as nobody who dies, and leaves neither a loop nor a thread to those who are forked."""

    async def rehearsed() -> None:
        opened = listen("127.0.0.1", 0)
        clock = LeapingClock()
        # Whatever is on its way to us is waited for, whether we called Daraja or not.
        async with playing(settings, opened, clock, count().__next__) as scene:
            await _simulator_is_reset(scene)
            for name in _REHEARSED:
                await STORIES[name].prepare(scene)
                await STORIES[name].act(scene)
                await scene.work()
            await collect(scene, await standing(scene))

    structlog.configure(processors=[_silent])
    uvloop.run(rehearsed())
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(_THREAD_ENDS_SECONDS)
    assert threading.active_count() == 1, threading.enumerate()
    gc.collect()
    gc.freeze()
    return {}


async def _simulator_is_reset(scene: Scene) -> None:
    assert (await scene.simulator.post("/_sim/reset")).status_code == 200


def _run(job: Job) -> Mapping[str, Any]:
    opened = listen("127.0.0.1", 0)
    opened.listen(16)
    ahead, died = 0.0, []
    with opened:
        for number in range(len(job.deaths) + 1):
            status, told = _forked(partial(_child, job, number, opened, ahead))
            words: Mapping[str, Any] = json.loads(told or "{}") | {"ended": status}
            if "died" not in words or not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
                break
            died.append(words["died"])
            ahead = words["ahead"] + _LATER_SECONDS
    return {**words, "died": died}


def _forked(child: Callable[[int], None]) -> tuple[int, bytes]:
    """Runs `child` in a process of its own; how that ended, and what it said before."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        gc.disable()
        signal.alarm(_HANGS_AFTER_SECONDS)
        child(writing)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    return os.waitpid(pid, 0)[1], told


def _child(job: Job, number: int, opened: socket.socket, ahead: float, told: int) -> None:
    """Plays and reports, `ahead` seconds after the present; says why, if it could not."""
    complaints: list[str] = []
    clock = LeapingClock(timedelta(seconds=ahead))

    def collecting(_: Any, level: str, event: MutableMapping[str, Any]) -> NoReturn:
        if level in {"error", "exception", "critical"}:
            trace = "".join(traceback.format_exception(*sys.exc_info())) if event.get("exc_info") else ""
            complaints.append(f"{event} {trace}")
        raise structlog.DropEvent

    def last_words(death: Death) -> str:
        return json.dumps({"died": str(death), "ahead": (clock.now() - datetime.now(UTC)).total_seconds()})

    def report(said: Mapping[str, Any]) -> NoReturn:
        with os.fdopen(told, "w") as pipe:
            json.dump({**said, "complaints": complaints}, pipe)
        os._exit(0)

    async def played() -> None:
        async with playing(job.settings, opened.dup(), clock, lambda: reaper.exchanges) as scene:
            await _play(job, number, scene, reaper, report)

    structlog.configure(processors=[collecting])
    reaper = Reaper(told, last_words)
    reaper.attach()
    try:
        uvloop.run(played())
    except BaseException:
        report({"failed": traceback.format_exc()})


async def _simulate(opened: socket.socket, delay_ms: int, parent: int) -> None:
    """A simulator until the template is gone."""
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(parent, gone.set)
    structlog.configure(processors=[_silent])
    async with serving(create_simulator(delay_ms=delay_ms), opened):
        await gone.wait()


def _silent(_: Any, __: str, ___: MutableMapping[str, Any]) -> NoReturn:
    raise structlog.DropEvent


def _start_simulator(delay_ms: int) -> str:
    """Forks a simulator that ends with this process; its address."""
    opened = listen("127.0.0.1", 0)
    opened.listen()
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(writing)
        uvloop.run(_simulate(opened, delay_ms, reading))
        os._exit(0)
    os.close(reading)
    return f"http://127.0.0.1:{port_of(opened)}"


# What a process loads only when it needs it.
_LATER_IMPORTS = ("aiosqlite", "anyio._backends._asyncio", "asyncpg", "h11", "httpcore2", "uvicorn.lifespan.on")


def _warm_up() -> None:
    """Does once what every process would do again. No loop, no thread: what is forked must have none."""
    for name in _LATER_IMPORTS:
        importlib.import_module(name)
    configure_mappers()
    by_file()
    # Nobody here speaks TLS, and reading the certificates takes as long as a payment.
    setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)  # noqa: B010
    gc.freeze()  # or each process would copy all of this by looking through it


def main() -> None:
    answering = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints does not get between the answers
    _warm_up()
    simulator_url = _start_simulator(int(sys.argv[1]))
    with compiled_once():
        for line in sys.stdin:
            asked = json.loads(line)
            deaths = [Death(each["point"], Side(each["side"]), each["nth"]) for each in asked["deaths"]]
            job = Job(asked["settings"] | {"simulator_url": simulator_url}, asked["story"], deaths)
            answering.write(json.dumps(_run(job) if deaths else _rehearse(job.settings)) + "\n")
            answering.flush()


if __name__ == "__main__":
    main()
