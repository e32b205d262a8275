"""Access tokens: one fetch at a time for all processes, sealed at rest, forgotten only when still the one refused."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from sqlalchemy import event, select

from mpesa_mcp.daraja.oauth import DarajaUnreachable, FetchedToken, KeysRefused
from mpesa_mcp.daraja.operations import DarajaApp
from mpesa_mcp.daraja.tokens import AccessTokens, DarajaToken
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store, open_store
from mpesa_mcp.store.keyring import Keyring, PlatformKey, load_master_key
from mpesa_mcp.values import Environment, FrozenClock, Secret

pytestmark = pytest.mark.anyio

BASE = "http://127.0.0.1:8766"
LEASE = timedelta(seconds=50)


def an_app(key: str = "key-one", secret: str = "secret-one", base_url: str = BASE) -> DarajaApp:
    return DarajaApp(Environment.SIMULATOR, base_url, key, Secret(secret))


class Gateway:
    """Hands out token-1, token-2 and so on; each call waits for the gate."""

    def __init__(self, *, life_seconds: int = 3600, closed: bool = False) -> None:
        self.calls = 0
        self.life_seconds = life_seconds
        self.asked = anyio.Event()
        self.gate = anyio.Event()
        self.failure: Exception | None = None
        if not closed:
            self.gate.set()

    async def fetch(self) -> FetchedToken:
        self.calls += 1
        number = self.calls
        self.asked.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return FetchedToken(Secret(f"plain-token-{number}"), self.life_seconds)


@pytest.fixture
def tokens(store: Store, keyring: Keyring, clock: FrozenClock) -> AccessTokens:
    return AccessTokens(store, keyring, clock)


@pytest.fixture
async def elsewhere(store: Store, settings: Settings, clock: FrozenClock) -> AsyncIterator[AccessTokens]:
    """The same database as another process has it: another store, keyring and memory."""
    other = open_store(settings.effective_database_url)
    yield AccessTokens(other, Keyring(other, load_master_key(settings)), clock)
    await other.close()


async def the_row(store: Store) -> DarajaToken:
    async with store.platform_reading() as session:
        return (await session.execute(select(DarajaToken))).scalars().one()


async def test_a_token_is_fetched_once_and_kept(tokens: AccessTokens) -> None:
    gateway = Gateway()
    for _ in range(3):
        assert await tokens.current(an_app(), gateway.fetch) == Secret("plain-token-1")
    assert gateway.calls == 1


async def test_callers_that_come_together_share_one_fetch(tokens: AccessTokens) -> None:
    gateway = Gateway(closed=True)
    got: list[str] = []

    async def ask() -> None:
        got.append((await tokens.current(an_app(), gateway.fetch)).reveal())

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(ask)
            await gateway.asked.wait()
            assert got == []
            gateway.gate.set()
    assert got == ["plain-token-1"] * 5
    assert gateway.calls == 1


async def test_processes_share_one_fetch(tokens: AccessTokens, elsewhere: AccessTokens) -> None:
    slow, never = Gateway(closed=True), Gateway()
    got: list[str] = []

    async def ask(asked: AccessTokens, gateway: Gateway) -> None:
        got.append((await asked.current(an_app(), gateway.fetch)).reveal())

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, tokens, slow)
            await slow.asked.wait()
            tasks.start_soon(ask, elsewhere, never)
            await anyio.wait_all_tasks_blocked()
            slow.gate.set()
    assert got == ["plain-token-1"] * 2
    assert (slow.calls, never.calls) == (1, 0)


@pytest.mark.sqlite
async def test_a_token_stored_between_the_look_and_the_lease_is_used(
    tokens: AccessTokens, elsewhere: AccessTokens, store: Store
) -> None:
    await elsewhere.current(an_app(key="key-two"), Gateway().fetch)
    looked, got = anyio.Event(), []
    event.listen(elsewhere._store._reader.sync_engine, "checkin", lambda *_: looked.set())

    async def ask() -> None:
        got.append(await elsewhere.current(an_app(), never.fetch))

    never = Gateway()
    with anyio.fail_after(10):
        # Its only writing connection is out: the other process has looked, and cannot take the lease yet.
        async with anyio.create_task_group() as tasks, elsewhere._store._writer.connect():
            tasks.start_soon(ask)
            await looked.wait()
            await tokens.current(an_app(), Gateway().fetch)
    assert got == [Secret("plain-token-1")]
    assert never.calls == 0
    async with store.platform_reading() as session:
        assert {row.lease_until for row in (await session.execute(select(DarajaToken))).scalars()} == {None}


async def test_another_process_finds_the_stored_token(tokens: AccessTokens, elsewhere: AccessTokens) -> None:
    gateway = Gateway()
    await tokens.current(an_app(), gateway.fetch)
    assert await elsewhere.current(an_app(), gateway.fetch) == Secret("plain-token-1")
    assert gateway.calls == 1


async def test_a_refused_token_is_forgotten_by_all_processes(tokens: AccessTokens, elsewhere: AccessTokens) -> None:
    gateway = Gateway()
    first = await tokens.current(an_app(), gateway.fetch)
    await tokens.forget(an_app(), first)
    second = await elsewhere.current(an_app(), gateway.fetch)
    assert second == Secret("plain-token-2")
    assert await tokens.current(an_app(), gateway.fetch) == second
    assert gateway.calls == 2


async def test_a_token_refused_to_many_is_replaced_once(tokens: AccessTokens) -> None:
    gateway = Gateway()
    first = await tokens.current(an_app(), gateway.fetch)
    got: list[str] = []

    async def replace() -> None:
        await tokens.forget(an_app(), first)
        got.append((await tokens.current(an_app(), gateway.fetch)).reveal())

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(replace)
    assert got == ["plain-token-2"] * 5
    assert gateway.calls == 2


async def test_a_token_another_process_has_replaced_is_neither_forgotten_nor_fetched_again(
    tokens: AccessTokens, elsewhere: AccessTokens
) -> None:
    gateway = Gateway()
    first = await tokens.current(an_app(), gateway.fetch)
    await elsewhere.current(an_app(), gateway.fetch)
    await elsewhere.forget(an_app(), first)
    second = await elsewhere.current(an_app(), gateway.fetch)
    await tokens.forget(an_app(), first)
    assert await tokens.current(an_app(), gateway.fetch) == second
    await elsewhere.forget(an_app(), first)
    assert await elsewhere.current(an_app(), gateway.fetch) == second
    assert gateway.calls == 2


@pytest.mark.parametrize("failure", [DarajaUnreachable("timeout"), KeysRefused(), RuntimeError("a fault of ours")])
async def test_a_fetch_that_fails_releases_the_lease(
    tokens: AccessTokens, elsewhere: AccessTokens, store: Store, failure: Exception
) -> None:
    broken, working = Gateway(), Gateway()
    broken.failure = failure
    with pytest.raises(type(failure)):
        await tokens.current(an_app(), broken.fetch)
    assert (await the_row(store)).lease_until is None
    with anyio.fail_after(5):
        assert await elsewhere.current(an_app(), working.fetch) == Secret("plain-token-1")


async def test_a_fetch_that_is_cancelled_releases_the_lease(tokens: AccessTokens, store: Store) -> None:
    slow = Gateway(closed=True)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tokens.current, an_app(), slow.fetch)
            await slow.asked.wait()
            assert (await the_row(store)).lease_until is not None
            tasks.cancel_scope.cancel()
    assert (await the_row(store)).lease_until is None
    with anyio.fail_after(5):
        assert await tokens.current(an_app(), Gateway().fetch) == Secret("plain-token-1")


async def test_a_lease_whose_holder_died_is_taken_over_when_it_ends(
    tokens: AccessTokens, elsewhere: AccessTokens, clock: FrozenClock, store: Store
) -> None:
    dead, working = Gateway(closed=True), Gateway()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tokens.current, an_app(), dead.fetch)
            await dead.asked.wait()
            with anyio.move_on_after(0.3):
                await elsewhere.current(an_app(), working.fetch)
            assert working.calls == 0, "the lease is still held"
            clock.advance(LEASE)
            assert await elsewhere.current(an_app(), working.fetch) == Secret("plain-token-1")
            assert (await the_row(store)).fence == 2
            taken = (await the_row(store)).sealed
            dead.gate.set()
    # What the late one fetched is not stored: its fence is gone.
    assert (await the_row(store)).sealed == taken


@pytest.mark.parametrize(("seconds", "calls"), [(3509, 1), (3510, 2), (3600, 2), (100_000, 2)])
async def test_a_token_is_not_used_in_its_last_minute_and_a_half(
    tokens: AccessTokens, elsewhere: AccessTokens, clock: FrozenClock, seconds: int, calls: int
) -> None:
    gateway = Gateway(life_seconds=3600)
    await tokens.current(an_app(), gateway.fetch)
    clock.advance(timedelta(seconds=seconds))
    assert await tokens.current(an_app(), gateway.fetch) == Secret(f"plain-token-{calls}")
    assert await elsewhere.current(an_app(), gateway.fetch) == Secret(f"plain-token-{calls}")
    assert gateway.calls == calls


@pytest.mark.sqlite
async def test_no_token_lies_in_the_file_and_no_key_names_its_row(
    tokens: AccessTokens, store: Store, settings: Settings
) -> None:
    token = await tokens.current(an_app(), Gateway().fetch)
    assert settings.sqlite_path is not None
    files = [file async for file in anyio.Path(settings.data_dir).glob("mpesa-mcp.db*")]
    content = b"".join([await file.read_bytes() for file in files])
    assert (await the_row(store)).app_id.encode() in content
    for secret in (token.reveal(), "key-one", "secret-one"):
        assert secret.encode() not in content


@pytest.mark.parametrize(
    "other",
    [an_app(secret="guessed"), an_app(key="key-two"), an_app(base_url="http://127.0.0.1:9999")],
    ids=["another secret", "another key", "another address"],
)
async def test_only_the_same_app_gets_its_token(
    tokens: AccessTokens, elsewhere: AccessTokens, other: DarajaApp
) -> None:
    mine, theirs = Gateway(), Gateway()
    theirs.failure = KeysRefused()
    await tokens.current(an_app(), mine.fetch)
    for asked in (tokens, elsewhere):
        with pytest.raises(KeysRefused):
            await asked.current(other, theirs.fetch)
    assert await tokens.current(an_app(), mine.fetch) == Secret("plain-token-1")


async def test_a_token_moved_to_another_apps_row_is_not_used(
    tokens: AccessTokens, elsewhere: AccessTokens, store: Store
) -> None:
    gateway = Gateway()
    await tokens.current(an_app(), gateway.fetch)
    mine = await the_row(store)
    await tokens.current(an_app(key="key-two"), gateway.fetch)
    async with store.platform() as session:
        for row in (await session.execute(select(DarajaToken))).scalars():
            if row.app_id != mine.app_id:
                row.sealed = mine.sealed
    assert await elsewhere.current(an_app(key="key-two"), gateway.fetch) == Secret("plain-token-3")


async def test_a_token_sealed_under_a_key_that_is_gone_costs_one_call(
    tokens: AccessTokens, store: Store, settings: Settings, clock: FrozenClock, tmp_path: Path
) -> None:
    async def the_keys() -> set[tuple[str, bytes]]:
        async with store.platform_reading() as session:
            return {(key.name, key.wrapped) for key in (await session.execute(select(PlatformKey))).scalars()}

    gateway = Gateway()
    await tokens.current(an_app(), gateway.fetch)
    row = await the_row(store)
    keys = await the_keys()
    async with store.platform() as session:
        (await session.execute(select(DarajaToken))).scalars().one().sealed = b"\x01" + bytes(60)
    fresh = AccessTokens(store, Keyring(store, load_master_key(settings)), clock)
    assert await fresh.current(an_app(), gateway.fetch) == Secret("plain-token-2")
    assert (await the_row(store)).app_id == row.app_id
    assert await the_keys() == keys
