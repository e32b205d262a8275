"""The processes of a storm, seen from outside: started by the template, killed, stopped, and what they logged."""

import itertools
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

_HERE = Path(__file__).parent
_LOOK_SECONDS = 0.05


@dataclass
class Member:
    """One process. `files` with .log, .out and .exit are what it left."""

    words: Sequence[str]
    pid: int
    files: Path

    @property
    def exit_code(self) -> int | None:
        """None while it runs, and for ever when it was killed."""
        written = self.files.with_suffix(".exit")
        return int(written.read_text() or 0) if written.exists() else None

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    @property
    def is_running(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    async def stop(self) -> None:
        """As an operator does it. One that was only just starting leaves no exit code."""
        os.kill(self.pid, signal.SIGTERM)
        await self.ended()

    async def ended(self, *, within_seconds: float = 60) -> int | None:
        with anyio.fail_after(within_seconds):
            while self.is_running:  # noqa: ASYNC110 - a process tells nobody but its parent
                await anyio.sleep(_LOOK_SECONDS)
        return self.exit_code

    @property
    def said(self) -> str:
        return self.files.with_suffix(".out").read_text()

    def logged(self) -> Iterator[dict[str, Any]]:
        """Its log; a line that is no JSON is an error of its own, unless the kill cut it off."""
        for line in self.files.with_suffix(".log").read_text().splitlines(keepends=True):
            try:
                yield json.loads(line)
            except ValueError:
                if line.startswith("{") and not line.endswith("\n"):
                    continue
                if not line.startswith("Note: "):
                    yield {"level": "error", "event": line.strip()}


@dataclass
class Crew:
    """Everybody who was started, the dead included."""

    template: subprocess.Popen[str]
    directory: Path
    members: list[Member] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.set_clock(0)

    @property
    def _clock(self) -> Path:
        return self.directory / "clock"

    def set_clock(self, ahead: float) -> None:
        """Everybody's clock is ahead by so many seconds, from now on."""
        with self._clock.open("r+b" if self._clock.exists() else "wb") as file:
            file.write(struct.pack("d", ahead))

    def start(self, *words: str, env: Mapping[str, str]) -> Member:
        """Starts `mpesa-mcp` with these words."""
        files = self.directory / f"{next(self._numbers):03d}-{words[0]}"
        job = {"words": words, "env": dict(env), "files": str(files), "clock": str(self._clock)}
        assert self.template.stdin is not None
        assert self.template.stdout is not None
        self.template.stdin.write(json.dumps(job) + "\n")
        self.template.stdin.flush()
        member = Member(words, int(self.template.stdout.readline()), files)
        self.members.append(member)
        return member

    async def ask(self, *words: str, env: Mapping[str, str]) -> Any:
        """Runs a command with --json; its value."""
        asked = self.start(*words, "--json", env=env)
        await asked.ended()
        return json.loads(asked.said)


@contextmanager
def crew(directory: Path) -> Iterator[Crew]:
    """A crew whose members all end with the block."""
    program = [sys.executable, "-m", f"{_HERE.name}.template"]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_HERE.parent, text=True
    ) as process:
        yield Crew(process, directory)
