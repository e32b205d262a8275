"""The warm template from which the processes are forked that die, with a simulator beside it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from .cases import Case
from .deaths import Death

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


@pytest.fixture(scope="module")
def rehearsed(template: subprocess.Popen[str], module_database: dict[str, Any]) -> subprocess.Popen[str]:
    """The template, once it has played on a database of the test's kind that no test sees."""
    asked(template, module_database)
    return template


def asked(
    template: subprocess.Popen[str], settings: Mapping[str, Any], story: str = "", deaths: Sequence[Death] = ()
) -> Mapping[str, Any]:
    """What came of a job; without deaths it is a rehearsal."""
    assert template.stdin is not None
    assert template.stdout is not None
    job = {
        "settings": {name: str(value) for name, value in settings.items()},
        "story": story,
        "deaths": [{"point": death.point, "side": death.side, "nth": death.nth} for death in deaths],
    }
    template.stdin.write(json.dumps(job) + "\n")
    template.stdin.flush()
    facts: Mapping[str, Any] = json.loads(template.stdout.readline())
    return facts


@pytest.fixture
def crash(rehearsed: subprocess.Popen[str], database: dict[str, Any]) -> Crash:
    """Plays a case on a database of its own; gives what is to be seen when the last process is done."""

    def played(case: Case) -> Mapping[str, Any]:
        facts = asked(rehearsed, database, case.story, case.deaths)
        assert "failed" not in facts, facts["failed"]
        assert facts["ended"] == 0
        assert facts["died"] == [str(death) for death in case.deaths]
        return facts

    return played
