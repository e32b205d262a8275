"""Whatever happens, in any order: see `machine` for what can happen and `books` for what must hold.

MODEL_EXAMPLES=2000 runs as many, each time others, of twice the length (`make model`).
"""

import os
import shutil
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from mpesa_mcp.settings import Settings

from .machine import PaymentModel
from .office import office_settings

MASTER_KEY = "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210"
EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "0"))


def profile(examples: int) -> settings:
    """The same examples each time, unless more are asked for."""
    return settings(
        max_examples=EXAMPLES or examples,
        stateful_step_count=60 if EXAMPLES else 30,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        print_blob=bool(EXAMPLES),
        suppress_health_check=[*HealthCheck],
        phases=[Phase.generate, Phase.shrink],
    )


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a run can be repeated."""
    monkeypatch.setattr("secrets.randbelow", lambda most: most // 2)


def test_every_promise_is_kept_on_sqlite(migrated: Path, tmp_path: Path) -> None:
    numbers = count()

    class Model(PaymentModel):
        def fresh_database(self) -> Settings:
            data_dir = tmp_path / f"data-{next(numbers)}"
            data_dir.mkdir(mode=0o700)
            shutil.copy(migrated, data_dir / migrated.name)
            return office_settings(MASTER_KEY, data_dir=data_dir)

    run_state_machine_as_test(Model, settings=profile(10))


def test_every_promise_is_kept_on_postgresql(cluster: Any, tmp_path: Path) -> None:
    class Model(PaymentModel):
        def fresh_database(self) -> Settings:
            cluster.empty()
            return office_settings(MASTER_KEY, data_dir=tmp_path, **cluster.settings("shared"))

    run_state_machine_as_test(Model, settings=profile(4))
