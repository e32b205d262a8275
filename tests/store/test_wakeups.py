"""Wake-ups: a commit wakes who waits for it, in this process at once and in another within a second."""

import asyncio
import subprocess
import sys

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import update

from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.wakeups import Wakeups
from mpesa_mcp.values import FrozenClock

from .factories import OURS, THEIRS, make_ours_and_theirs, names_of_keys
from .statements import ApiKey

pytestmark = pytest.mark.anyio

# Longer than any wake-up may take, far shorter than the wait that would go on without one.
SOON = 5.0
LONG = 60.0

RENAME = """
import sys, anyio
from sqlalchemy import update
from mpesa_mcp.identity.models import ApiKey
from mpesa_mcp.store.engine import open_store

async def main() -> None:
    store = open_store(sys.argv[1])
    async with store.session("org_ours") as session:
        await session.change(update(ApiKey).values(name="renamed elsewhere"))
    await store.close()

anyio.run(main)
"""


@pytest.mark.sqlite  # on PostgreSQL beginning to listen wakes everybody once
async def test_a_commit_wakes_who_waits_for_its_topic(store: Store, clock: FrozenClock) -> None:
    await make_ours_and_theirs(store, clock)
    token = store.wakeups.token("pay_1")
    async with store.session(OURS) as session:
        await session.change(update(ApiKey).values(name="renamed"))
        session.wake("pay_1", "payments")
        assert not token.is_set()
    assert token.is_set()
    assert await names_of_keys(store, OURS) == ["renamed"]


@pytest.mark.sqlite  # on PostgreSQL beginning to listen wakes everybody once
async def test_a_commit_does_not_wake_who_waits_for_something_else() -> None:
    wakeups = Wakeups()
    token = wakeups.token("pay_2")
    wakeups.notify(["pay_1", "payments"])
    assert not token.is_set()


@pytest.mark.sqlite  # on PostgreSQL beginning to listen wakes everybody once
async def test_what_is_rolled_back_wakes_nobody(store: Store) -> None:
    token = store.wakeups.token("pay_1")
    with pytest.raises(RuntimeError):
        async with store.session(OURS) as session:
            session.wake("pay_1")
            raise RuntimeError("it went wrong")
    assert not token.is_set()


async def test_a_commit_between_the_look_and_the_wait_is_not_missed(store: Store) -> None:
    token = store.wakeups.token("pay_1")
    async with store.session(OURS) as session:
        session.wake("pay_1")
    with anyio.fail_after(SOON):
        await store.wakeups.wait(token, LONG)


async def test_everybody_who_waits_for_a_topic_is_woken() -> None:
    wakeups = Wakeups()
    woken = 0

    async def wait(token: asyncio.Event) -> None:
        nonlocal woken
        await wakeups.wait(token, LONG)
        woken += 1

    with anyio.fail_after(SOON):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(wait, wakeups.token("pay_1"))
            await anyio.wait_all_tasks_blocked()
            wakeups.notify(["pay_1"])
    assert woken == 3


async def test_waiting_ends_without_a_commit_too() -> None:
    wakeups = Wakeups()
    with anyio.fail_after(SOON):
        await wakeups.wait(wakeups.token("pay_1"), 0.01)


async def test_a_topic_nobody_waits_for_any_more_is_forgotten() -> None:
    wakeups = Wakeups()
    for number in range(100):
        wakeups.token(f"pay_{number}")
        wakeups.forget(f"pay_{number}")
    wakeups.forget("pay_nobodys")
    assert wakeups._events == {}


async def test_a_commit_of_another_process_wakes_within_a_second(
    store: Store, clock: FrozenClock, settings: Settings
) -> None:
    await make_ours_and_theirs(store, clock)
    token = store.wakeups.token("any row")
    # The watch has looked at the file before the other process writes.
    with anyio.fail_after(SOON):
        await store.wakeups.wait(store.wakeups.token("nothing"), 0.05)
    command = [sys.executable, "-c", RENAME, settings.effective_database_url]
    await anyio.to_thread.run_sync(lambda: subprocess.run(command, check=True, timeout=60))
    with anyio.fail_after(1):
        await store.wakeups.wait(token, LONG)
    assert await names_of_keys(store, OURS) == ["renamed elsewhere"]
    assert await names_of_keys(store, THEIRS) == ["secret of theirs"]


async def test_closing_ends_the_watch(store: Store) -> None:
    store.wakeups.token("any row")
    watch = store.wakeups._watching
    assert watch is not None
    await store.close()
    assert watch.done()
