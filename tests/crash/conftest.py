"""The warm template from which the processes are forked that die, with a simulator beside it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from .cases import Case

pytest.register_assert_rewrite(f"{__package__}.verdicts")
_HERE = Path(__file__).parent
_SIMULATOR_DELAY_MS = 20
Crash = Callable[[Case], Mapping[str, Any]]


@pytest.fixture(scope="session")
def template() -> Iterator[subprocess.Popen[str]]:
    program = [sys.executable, "-m", f"{_HERE.parent.name}.{_HERE.name}.child", str(_SIMULATOR_DELAY_MS)]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_HERE.parents[1], text=True
    ) as process:
        yield process


@pytest.fixture
def crash(template: subprocess.Popen[str], database: dict[str, Any]) -> Crash:
    """Plays a case on a database of its own; gives what is to be seen when the last process is done."""

    def played(case: Case) -> Mapping[str, Any]:
        assert template.stdin is not None
        assert template.stdout is not None
        job = {
            "settings": {name: str(value) for name, value in database.items()},
            "story": case.story,
            "deaths": [{"point": death.point, "side": death.side, "nth": death.nth} for death in case.deaths],
        }
        template.stdin.write(json.dumps(job) + "\n")
        template.stdin.flush()
        facts: Mapping[str, Any] = json.loads(template.stdout.readline())
        assert "failed" not in facts, facts["failed"]
        assert facts["ended"] == 0
        assert facts["died"] == [str(death) for death in case.deaths]
        return facts

    return played
