"""Sealing: every committed entry gets one place in one chain, whoever writes, seals or dies meanwhile."""

import subprocess
import sys
from datetime import datetime, timedelta

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import delete, text, update
from sqlalchemy.exc import IntegrityError

from mpesa_mcp.audit import AuditSeal, AuditUnsealed
from mpesa_mcp.audit.chain import START
from mpesa_mcp.audit.sealing import BATCH, seal, seal_batch
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.crossings import unsealed_organizations
from mpesa_mcp.store.engine import Store, StoreUnavailable, open_store
from mpesa_mcp.values import FrozenClock, SystemClock

from .factories import ORG, OTHER, act, entries_of, is_one_chain, seals_of, subjects_in_order, tamper

pytestmark = pytest.mark.anyio

DIES_AFTER_ITS_COMMIT = """
import os, signal, sys, anyio
from mpesa_mcp import audit
from mpesa_mcp.store.engine import open_store
from mpesa_mcp.values import SystemClock

async def main():
    async with open_store(sys.argv[1]).session("org_a") as session:
        audit.record(session, SystemClock(), actor="key:key_a", action="payment.opened", subject="pay_last_words")
    os.kill(os.getpid(), signal.SIGKILL)

anyio.run(main)
"""


class TellingClock(FrozenClock):
    """Tells when the time is asked for: a sealer does that once it has read, before it writes."""

    def __init__(self, at: datetime) -> None:
        super().__init__(at)
        self.asked = anyio.Event()
        self.times = 0

    def now(self) -> datetime:
        self.times += 1
        self.asked.set()
        return super().now()


async def test_entries_are_linked_in_the_order_of_their_time_and_id(store: Store, clock: FrozenClock) -> None:
    await act(store, clock, "second", "third")
    clock.advance(timedelta(seconds=-5))
    await act(store, clock, "first")
    assert await seal(store, clock, ORG) == 3
    assert await subjects_in_order(store) == ["first", "second", "third"]
    assert await is_one_chain(store)
    assert {each.sealed_at for each in await seals_of(store)} == {clock.now()}


async def test_an_entry_that_is_committed_late_comes_later_in_the_chain(store: Store, clock: FrozenClock) -> None:
    await act(store, clock, "sealed already")
    await seal(store, clock, ORG)
    clock.advance(timedelta(hours=-1))
    await act(store, clock, "from an hour ago")
    await seal(store, clock, ORG)
    assert await subjects_in_order(store) == ["sealed already", "from an hour ago"]
    assert await is_one_chain(store)


async def test_each_organization_has_a_chain_of_its_own(store: Store, clock: FrozenClock) -> None:
    await act(store, clock, "ours")
    await act(store, clock, "theirs", organization_id=OTHER)
    assert await unsealed_organizations(store, limit=10) == [ORG, OTHER]
    assert await unsealed_organizations(store, limit=1) == [ORG]
    await seal(store, clock, ORG)
    assert await unsealed_organizations(store, limit=10) == [OTHER]
    assert (len(await seals_of(store, ORG)), len(await seals_of(store, OTHER))) == (1, 0)
    await seal(store, clock, OTHER)
    assert await is_one_chain(store, OTHER)
    assert await unsealed_organizations(store, limit=10) == []


async def test_a_batch_is_bounded_and_the_next_goes_on_behind_it(store: Store, clock: FrozenClock) -> None:
    await act(store, clock, *(f"pay_{number:04}" for number in range(BATCH + 1)))
    assert [await seal_batch(store, clock, ORG) for _ in range(3)] == [BATCH, 1, 0]
    assert await is_one_chain(store)


async def test_sealing_what_is_sealed_changes_nothing(store: Store, clock: FrozenClock) -> None:
    await act(store, clock, "once")
    await seal(store, clock, ORG)
    [first] = await seals_of(store)
    assert await seal(store, clock, ORG) == 0
    async with store.session(ORG) as session:
        session.add(AuditUnsealed(organization_id=ORG, at=clock.now(), entry_id=first.entry_id))
    assert await seal(store, clock, ORG) == 0
    assert [each.hash for each in await seals_of(store)] == [first.hash]
    assert await unsealed_organizations(store, limit=10) == []


async def test_what_waits_for_a_seal_and_is_gone_is_not_waited_for(
    store: Store, settings: Settings, clock: FrozenClock
) -> None:
    await act(store, clock, "removed", "kept")
    await tamper(settings, "DELETE FROM audit_entries WHERE subject = 'removed'")
    await seal(store, clock, ORG)
    assert await subjects_in_order(store) == ["kept"]
    assert await unsealed_organizations(store, limit=10) == []


async def test_an_act_that_failed_leaves_nothing_to_seal(store: Store, clock: FrozenClock) -> None:
    with pytest.raises(RuntimeError):
        async with store.session(ORG) as session:
            session.add(AuditUnsealed(organization_id=ORG, at=clock.now(), entry_id="aud_1"))
            await session.flush()
            raise RuntimeError("the act failed")
    assert await unsealed_organizations(store, limit=10) == []


async def test_who_comes_second_starts_over_behind_the_first(
    store: Store, settings: Settings, clock: FrozenClock
) -> None:
    await act(store, clock, "first", "second")
    other = open_store(settings.effective_database_url)
    telling = TellingClock(clock.now())
    [first, _] = await entries_of(store)
    ahead = AuditSeal(
        organization_id=ORG, sequence=1, entry_id=first.id, entry_hash="e", hash="h", sealed_at=clock.now()
    )
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group, other.session(ORG) as session:
            session.add(ahead)
            await session.flush()
            group.start_soon(seal, store, telling, ORG)
            await telling.asked.wait()  # it has read a chain that is empty, and will claim the first place
    await other.close()
    assert telling.times == 2
    assert [(each.sequence, each.hash == "h") for each in await seals_of(store)] == [(1, True), (2, False)]
    assert await subjects_in_order(store) == ["first", "second"]


async def test_fifty_writers_and_two_sealers_in_two_stores_make_one_chain_without_a_gap(
    store: Store, settings: Settings
) -> None:
    other = open_store(settings.effective_database_url)
    clock = SystemClock()
    written = anyio.Event()

    async def write(number: int) -> None:
        for round_ in range(4):
            await act((store, other)[number % 2], clock, f"pay_{number:02}_{round_}")

    async def keep_sealing(its: Store) -> None:
        while not written.is_set():
            await seal(its, clock, ORG)
            await anyio.lowlevel.checkpoint()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as sealers:
            for its in (store, other):
                sealers.start_soon(keep_sealing, its)
            async with anyio.create_task_group() as writers:
                for number in range(50):
                    writers.start_soon(write, number)
            linked_meanwhile = len(await seals_of(store))
            written.set()
    await seal(other, clock, ORG)
    await other.close()
    assert linked_meanwhile > 0
    assert len(await seals_of(store)) == 200
    assert await is_one_chain(store)


async def test_a_process_that_dies_between_its_commit_and_the_seal_loses_nothing(
    store: Store, settings: Settings, clock: FrozenClock
) -> None:
    command = [sys.executable, "-c", DIES_AFTER_ITS_COMMIT, settings.effective_database_url]
    died = await anyio.to_thread.run_sync(lambda: subprocess.run(command, capture_output=True, timeout=60))
    assert died.returncode == -9, died.stderr
    assert await seals_of(store) == []
    assert await unsealed_organizations(store, limit=10) == [ORG]
    await seal(store, clock, ORG)
    assert await subjects_in_order(store) == ["pay_last_words"]
    assert await is_one_chain(store)


async def test_the_database_refuses_to_change_or_remove_a_link(store: Store, clock: FrozenClock) -> None:
    await act(store, clock, "linked")
    await seal(store, clock, ORG)
    for statement in (update(AuditSeal).values(hash=START), delete(AuditSeal)):
        # On PostgreSQL the application has not even the right to try.
        with pytest.raises((IntegrityError, StoreUnavailable)):
            async with store.session(ORG) as session:
                await session.change(statement)
    assert await is_one_chain(store)


@pytest.mark.postgresql
async def test_the_triggers_refuse_even_the_owner(settings: Settings, clock: FrozenClock) -> None:
    store = open_store(settings.owner_database_url)
    await act(store, clock, "linked")
    await seal(store, clock, ORG)
    for statement in (update(AuditSeal).values(hash=START), delete(AuditSeal)):
        with pytest.raises(IntegrityError, match="never changed or removed"):
            async with store.session(ORG) as session:
                await session.change(statement)
    await store.close()


@pytest.mark.postgresql
async def test_an_act_is_committed_while_a_sealer_stands_still(store: Store, clock: FrozenClock) -> None:
    """A sealer that hangs in the middle of its commit holds up the next sealer, and nobody else."""
    await act(store, clock, "first")
    [first] = await entries_of(store)
    hanging = AuditSeal(
        organization_id=ORG, sequence=1, entry_id=first.id, entry_hash="e", hash="h", sealed_at=clock.now()
    )
    telling = TellingClock(clock.now())
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'")
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group, store.session(ORG) as session:
            session.add(hanging)
            await session.flush()
            group.start_soon(seal, store, telling, ORG)
            await telling.asked.wait()
            stands = 0
            while not stands:
                async with store.unbound_reading() as watching:
                    stands = (await watching.execute(waiting)).scalar_one()
            await act(store, clock, "second")
            assert [entry.subject for entry in await entries_of(store)] == ["first", "second"]
    assert await subjects_in_order(store) == ["first", "second"]
