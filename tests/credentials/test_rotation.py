"""Rotating the master key: killed anywhere and resumed, while others read; afterwards the old key opens nothing."""

import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import anyio.lowlevel
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from pydantic import SecretStr
from sqlmodel import select

from mpesa_mcp.audit import AuditEntry
from mpesa_mcp.credentials.rotation import KeyNotEverywhere, WrappedKeys, count_wrapped, rotate_master_key
from mpesa_mcp.credentials.shortcodes import open_shortcode
from mpesa_mcp.identity import access_tokens
from mpesa_mcp.identity.api_keys import create_key
from mpesa_mcp.identity.authentication import Authentication
from mpesa_mcp.identity.models import PLATFORM
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store, open_store
from mpesa_mcp.store.keyring import DARAJA_TOKENS, Keyring, open_keyring
from mpesa_mcp.store.traces import BEAT, ProcessTrace, leave_trace
from mpesa_mcp.values import Environment, FrozenClock, Role
from mpesa_mcp.values.sealing import SealBroken
from tests.conftest import MASTER_KEY
from tests.shortcodes import OPERATOR

from .factories import make_organization, make_shortcode

pytestmark = pytest.mark.anyio
NEWEST = "ffeeddccbbaa99887766554433221100fedcba98765432100123456789abcdef"

# For each number a process of its own rotates and is killed right after its commit of this number; the one that forks
# them has imported everything, and says of each how it ended.
ROTATE = """
import os, signal, sys, aiosqlite, anyio, anyio._backends._asyncio, asyncpg
from contextlib import asynccontextmanager
from mpesa_mcp.credentials.rotation import rotate_master_key
from mpesa_mcp.settings import load_settings
from mpesa_mcp.store.engine import Store, open_store
from mpesa_mcp.store.keyring import open_keyring
from mpesa_mcp.values import SystemClock

commits = 0

def deadly(opened):
    @asynccontextmanager
    async def within(*arguments):
        global commits
        async with opened(*arguments) as session:
            yield session
        commits += 1
        if commits == number:
            os.kill(os.getpid(), signal.SIGKILL)
    return within

async def main():
    settings = load_settings()
    store = open_store(settings.effective_database_url)
    Store.session, Store.platform = deadly(Store.session), deadly(Store.platform)
    await rotate_master_key(store, open_keyring(store, settings), SystemClock(), actor="operator:tester")

print("ready", flush=True)
for number in map(int, sys.stdin):
    if (forked := os.fork()) == 0:
        anyio.run(main)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Sealed:
    """What was made before, and must go on working."""

    settings: Settings
    clock: FrozenClock
    key: str
    token: str
    shortcodes: dict[str, str]

    def under(self, newest: str, previous: str | None = None) -> Settings:
        keys = {"master_key": SecretStr(newest), "master_key_previous": SecretStr(previous) if previous else None}
        return self.settings.model_copy(update=keys)

    async def opens(self, settings: Settings) -> None:
        """As a process that has just started would."""
        async with a_process(settings) as (store, keyring):
            await Authentication(store, keyring, settings, self.clock).principal(self.key)
            await access_tokens.verify(keyring, settings, self.clock, self.token)
            for organization_id, shortcode_id in self.shortcodes.items():
                opened = await open_shortcode(store, keyring, settings, organization_id, shortcode_id)
                assert opened.passkey is not None


@asynccontextmanager
async def a_process(settings: Settings) -> AsyncIterator[tuple[Store, Keyring]]:
    store = open_store(settings.effective_database_url)
    try:
        yield store, open_keyring(store, settings)
    finally:
        with anyio.CancelScope(shield=True):
            await store.close()


@pytest.fixture
async def sealed(store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings) -> Sealed:
    shortcodes = {}
    for slug in ("acme", "other"):
        organization_id = await make_organization(store, clock, slug)
        shortcodes[organization_id] = (
            await make_shortcode(store, keyring, clock, settings, organization_id)
        ).shortcode_id
    acme = next(iter(shortcodes))
    key = await create_key(
        store,
        keyring,
        clock,
        organization_id=acme,
        name="assistant",
        role=Role.USER,
        environment=Environment.SANDBOX,
        expires_at=None,
        tools=None,
        actor=OPERATOR,
    )
    named = {"organization_id": acme, "user_id": "usr_jane", "session_id": "ses_one", "role": "user"}
    token = await access_tokens.issue(keyring, settings, clock, **named, generation=1)
    await keyring.platform_key(DARAJA_TOKENS)
    return Sealed(settings, clock, key.key.reveal(), token.reveal(), shortcodes)


async def test_a_rotation_that_is_killed_again_and_again_is_resumed_while_others_read(sealed: Sealed) -> None:
    both = sealed.under(NEWEST, previous=MASTER_KEY)
    done = anyio.Event()

    async def keep_reading() -> None:
        while not done.is_set():
            await sealed.opens(both)
            await anyio.lowlevel.checkpoint()

    async with _rotating(both) as killed_after, anyio.create_task_group() as tasks:
        tasks.start_soon(keep_reading)
        left = []
        for commits in (1, 3, 5):
            assert await killed_after(commits) == -signal.SIGKILL
            async with a_process(both) as (store, keyring):
                left.append((await count_wrapped(store, keyring)).previous)
        assert 0 < left[-1] < left[0]
        async with a_process(both) as (store, keyring):
            told = await rotate_master_key(store, keyring, sealed.clock, actor="operator:tester")
            again = await rotate_master_key(store, keyring, sealed.clock, actor="operator:tester")
        done.set()
    assert told.platform_keys + told.data_keys == left[-1]
    # The marker, three keys of the installation, a data key for each organization.
    assert told.after == again.after == WrappedKeys(newest=6, previous=0, unopened=0)
    assert (again.platform_keys, again.data_keys) == (0, 0)
    await sealed.opens(sealed.under(NEWEST))
    with pytest.raises(SealBroken):
        await sealed.opens(sealed.under(MASTER_KEY))
    async with a_process(both) as (store, _), store.reading(PLATFORM) as session:
        audited = await session.all(select(AuditEntry).where(AuditEntry.action == "master_key.rotated"))
    assert [entry.actor for entry in audited] == ["operator:tester"]


@asynccontextmanager
async def _rotating(settings: Settings) -> AsyncIterator[Callable[[int], Awaitable[int]]]:
    """Gives what starts a process that is killed after so many commits, and says how it ended."""
    assert settings.master_key is not None
    assert settings.master_key_previous is not None
    env = {
        "MPESA_MCP_DATA_DIR": str(settings.data_dir),
        "MPESA_MCP_DATABASE_URL": settings.effective_database_url,
        "MPESA_MCP_MASTER_KEY": settings.master_key.get_secret_value(),
        "MPESA_MCP_MASTER_KEY_PREVIOUS": settings.master_key_previous.get_secret_value(),
    }
    async with await anyio.open_process([sys.executable, "-c", ROTATE], env=env, stderr=None) as forks:
        assert forks.stdin is not None
        assert forks.stdout is not None
        told = BufferedByteReceiveStream(forks.stdout)

        async def killed_after(commits: int) -> int:
            assert forks.stdin is not None
            await forks.stdin.send(f"{commits}\n".encode())
            return int(await told.receive_until(b"\n", 10))

        assert await told.receive_until(b"\n", 10) == b"ready"
        yield killed_after


async def test_until_somebody_rotates_what_is_new_opens_for_processes_that_have_only_the_old_key(
    sealed: Sealed,
) -> None:
    async with a_process(sealed.under(NEWEST, previous=MASTER_KEY)) as (store, keyring):
        third = await make_organization(store, sealed.clock, "third")
        made = await make_shortcode(store, keyring, sealed.clock, sealed.settings, third)
        await keyring.platform_key("something_new")
        for each in (sealed.settings, sealed.under(NEWEST, previous=MASTER_KEY)):
            async with a_process(each) as (store_of_each, keyring_of_each):
                await open_shortcode(store_of_each, keyring_of_each, each, third, made.shortcode_id)
                await keyring_of_each.platform_key("something_new")
        await rotate_master_key(store, keyring, sealed.clock, actor="operator:tester")
        await keyring.platform_key("something_newer")
        assert (await count_wrapped(store, keyring)).previous == 0


async def test_a_rotation_waits_for_processes_that_lack_the_newest_key(sealed: Sealed) -> None:
    async with a_process(sealed.under(NEWEST, previous=MASTER_KEY)) as (store, keyring):
        now = sealed.clock.now()
        old, _ = reversed(keyring.keys.ids)
        trace = ProcessTrace(
            id="prc_1", kind="worker", works=True, place="worker 7 on x", master_keys=old, started_at=now, seen_at=now
        )
        await leave_trace(store, trace, now)
        with pytest.raises(KeyNotEverywhere) as refused:
            await rotate_master_key(store, keyring, sealed.clock, actor="operator:tester")
        assert "worker 7 on x" in refused.value.message
        assert (await count_wrapped(store, keyring)).newest == 0
        trace.master_keys = " ".join(keyring.keys.ids)
        sealed.clock.advance(BEAT)
        await leave_trace(store, trace, sealed.clock.now())
        assert (await rotate_master_key(store, keyring, sealed.clock, actor="operator:tester")).after.previous == 0


async def test_a_key_file_is_taken_up_by_processes_that_run(
    store: Store, clock: FrozenClock, settings: Settings
) -> None:
    path = settings.data_dir / "keys"
    path.write_text(f"{MASTER_KEY}\n")
    path.chmod(0o600)
    by_file = settings.model_copy(update={"master_key": None, "master_key_file": path})
    running = open_keyring(store, by_file)
    acme = await make_organization(store, clock)
    made = await make_shortcode(store, running, clock, settings, acme)
    path.write_text(f"{NEWEST}\n{MASTER_KEY}\n")
    await rotate_master_key(store, open_keyring(store, by_file), clock, actor="operator:tester")
    path.write_text(f"{NEWEST}\n")
    assert (await open_shortcode(store, running, settings, acme, made.shortcode_id)).passkey is not None
    assert len(running.keys.ids) == 1


async def test_the_key_of_another_database_rotates_nothing(sealed: Sealed) -> None:
    strange = "89" + NEWEST[2:]
    async with a_process(sealed.under(strange, previous=NEWEST)) as (store, keyring):
        with pytest.raises(SealBroken):
            await rotate_master_key(store, keyring, sealed.clock, actor="operator:tester")
    await sealed.opens(sealed.settings)
