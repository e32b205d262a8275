"""1,000 payments over the simulator's whole table, while a worker is killed each second; then the books are compared.

`make storm` runs the long one on each database and prints its figures; here are forty payments. The seed can be
given as STORM_SEED.
"""

import os
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from .figures import complaint, figures
from .verdicts import broken_promises
from .weather import Plan, storm

pytestmark = pytest.mark.anyio

SHORT = Plan(
    payments=40,
    seconds=4,
    organizations=2,
    waits_for_leases=False,
    seed=0,
    rests_within_seconds=150,
)
FULL = Plan(
    payments=1000,
    seconds=40,
    organizations=5,
    waits_for_leases=True,
    seed=0,
    rests_within_seconds=500,
)


@pytest.mark.own_database
async def test_a_short_storm_leaves_the_books_in_order(
    database: dict[str, Any], tmp_path: Path, held_port: Callable[[], int]
) -> None:
    await _storm(SHORT, database, tmp_path, held_port)


@pytest.mark.slow
@pytest.mark.own_database
async def test_a_storm_leaves_the_books_in_order(
    database: dict[str, Any], tmp_path: Path, held_port: Callable[[], int]
) -> None:
    await _storm(FULL, database, tmp_path, held_port)


async def _storm(plan: Plan, database: dict[str, Any], directory: Path, held_port: Callable[[], int]) -> None:
    seed = int(os.environ.get("STORM_SEED") or secrets.randbelow(1_000_000))
    plan = replace(plan, seed=seed)
    async with storm(plan, database, directory, simulator_port=held_port(), callback_port=held_port()) as raging:
        facts = await raging.rage()
    kind = "PostgreSQL" if "database_url" in database else "SQLite"
    print(f"\n{figures(kind, raging.plan, facts, raging.figures)}")  # noqa: T201
    broken = list(broken_promises(facts))
    assert not broken, complaint(broken)
