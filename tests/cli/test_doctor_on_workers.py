"""`doctor` on what runs: a worker that lives, work that lies undone, clocks that differ."""

import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from mpesa_mcp.app.alive import leaving_traces
from mpesa_mcp.app.core import open_core
from mpesa_mcp.cli.doctor.database import time_apart
from mpesa_mcp.cli.doctor.workers import workers
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.values import FrozenClock, SystemClock

from .conftest import Terminal
from .test_database_and_doctor import diagnosis


async def statuses(settings: Settings, clock: FrozenClock) -> list[tuple[str, str]]:
    async with open_core(settings, clock=clock) as core:
        return [(each.name, each.status) for each in await workers(core.store, clock.now())]


@pytest.mark.anyio
async def test_a_worker_is_alive_while_it_leaves_traces_and_until_it_ends(
    settings: Settings, clock: FrozenClock
) -> None:
    async with open_core(settings, clock=clock) as core:
        async with leaving_traces(core, "serve", works=False):
            assert await statuses(settings, clock) == [("worker", "warning")]
            async with leaving_traces(core, "worker", works=True):
                assert await statuses(settings, clock) == [("worker", "ok")]
                clock.advance(timedelta(seconds=45))
                assert await statuses(settings, clock) == [("worker", "warning")]
        clock.advance(timedelta(seconds=-45))
        assert await statuses(settings, clock) == [("worker", "warning")]


def test_work_that_has_been_due_for_long_is_told(terminal: Terminal) -> None:
    made = terminal.ask("org", "create", "Acme Ltd", "--slug", "acme")
    now = SystemClock().now()
    long_ago = (now - timedelta(minutes=20)).strftime("%Y-%m-%d %H:%M:%S.%f")
    with closing(sqlite3.connect(terminal.data_dir / "mpesa-mcp.db")) as connection, connection:
        connection.execute(
            "INSERT INTO inquiries (organization_id, id, kind, status, environment, shortcode_id, shortcode, "
            "created_by, created_at, updated_at, next_action_at, fence, not_sent_count) "
            "VALUES (?, 'inq_1', 'balance', 'queued', 'simulator', 'sc_1', '174379', 'key:x', ?, ?, ?, 0, 0)",
            (made["organization_id"], long_ago, long_ago, long_ago),
        )
    code, found = diagnosis(terminal)
    assert (code, found["worker"]["status"], found["undone_inquiries"]["status"]) == (0, "warning", "warning")
    assert "20 minutes" in found["undone_inquiries"]["message"]
    assert "mpesa-mcp worker" in found["undone_inquiries"]["fix"]


@pytest.mark.anyio
@pytest.mark.postgresql
async def test_clocks_that_differ_are_told(store: Store) -> None:
    async def told(seconds: float) -> list[str]:
        clock = FrozenClock(SystemClock().now() + timedelta(seconds=seconds))
        return [finding.status for finding in await time_apart(store, clock)]

    assert [await told(0), await told(10), await told(-3600)] == [["ok"], ["warning"], ["problem"]]
