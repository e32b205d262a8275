"""Callbacks that arrive together: all stored or none acknowledged, on a full path, a locked store, a lonely process."""

import contextlib
import json
import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from datetime import timedelta

import anyio
import httpx2
import pytest

from mpesa_mcp.app.http import listen, serving
from mpesa_mcp.callbacks.sidecar import create_sidecar
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.core import Core
from mpesa_mcp.store.callback_log import MAX_CALLBACKS, CallbackPath, NewCallback, store_callbacks
from mpesa_mcp.values import FrozenClock, sha256_hex

from .factories import Sent, a_payout, accepted, apply_due, as_owner, callbacks_stored, result_body, send, status_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def http(core: Core) -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        serving(create_sidecar(core.store, core.settings, core.clock), listen("127.0.0.1", 0)) as port,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client,
    ):
        yield client


@pytest.fixture
async def sent(core: Core, merchant: Principal) -> Sent:
    return await send(core, merchant, a_payout(), accepted())


async def post_together(http: httpx2.AsyncClient, paths: list[str], body: object) -> list[int]:
    statuses = []

    async def post(path: str) -> None:
        statuses.append((await http.post(path, json=body)).status_code)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for path in paths:
                tasks.start_soon(post, path)
    return statuses


async def test_sixty_four_at_once_are_all_there(core: Core, http: httpx2.AsyncClient, merchant: Principal) -> None:
    paths = [
        (await send(core, merchant, a_payout(key=f"payout-{number}"), accepted(number))).path for number in range(8)
    ]
    assert await post_together(http, paths * 8, result_body()) == [200] * 64
    assert len(await callbacks_stored(core, merchant)) == 64


@pytest.mark.own_database
async def test_a_commit_that_fails_acknowledges_nobody(
    core: Core, http: httpx2.AsyncClient, merchant: Principal, sent: Sent
) -> None:
    await as_owner(core, "ALTER TABLE callbacks RENAME TO gone")
    assert set(await post_together(http, [sent.path] * 10, result_body())) == {503}
    await as_owner(core, "ALTER TABLE gone RENAME TO callbacks")
    assert await callbacks_stored(core, merchant) == []
    assert set(await post_together(http, [sent.path] * 10, result_body())) == {200}
    assert len(await callbacks_stored(core, merchant)) == 10


async def test_what_nobody_has_looked_at_stays_and_what_has_no_room_is_not_acknowledged(
    core: Core, http: httpx2.AsyncClient, merchant: Principal, sent: Sent
) -> None:
    other = await send(core, merchant, a_payout(key="payout-2"), accepted(2))
    statuses = await post_together(http, [sent.path] * (MAX_CALLBACKS + 12) + [other.path], result_body())
    assert (statuses.count(200), statuses.count(429)) == (MAX_CALLBACKS + 1, 12)
    # The other address of the same attempt, and other attempts, have their own room.
    assert await post_together(http, [sent.path + "/timeout", other.path], result_body()) == [200, 200]
    assert len(await callbacks_stored(core, merchant)) == MAX_CALLBACKS + 3


@pytest.mark.parametrize("code", ["no such code", 0], ids=["concludes nothing", "is refused"])
async def test_who_knows_the_path_cannot_keep_the_truth_out(
    core: Core, http: httpx2.AsyncClient, merchant: Principal, sent: Sent, code: object
) -> None:
    forged = result_body(code=code, parameters={"TransactionAmount": 999})
    assert set(await post_together(http, [sent.path] * MAX_CALLBACKS, forged)) == {200}
    await apply_due(core)
    assert (await http.post(sent.path, json=result_body())).status_code == 200
    await apply_due(core)
    assert await status_of(core, merchant, sent) == "succeeded"
    assert len(await callbacks_stored(core, merchant)) == MAX_CALLBACKS


async def test_refused_bodies_go_before_those_that_counted(
    core: Core, http: httpx2.AsyncClient, merchant: Principal, sent: Sent
) -> None:
    assert (await http.post(sent.path, json=result_body())).status_code == 200
    await apply_due(core)
    for _ in range(3):
        await post_together(http, [sent.path] * (MAX_CALLBACKS - 1), result_body(parameters={"TransactionAmount": 9}))
        await apply_due(core)
    statuses = [callback.status for callback in await callbacks_stored(core, merchant)]
    assert statuses == ["applied", *["mismatched"] * (MAX_CALLBACKS - 1)]


async def test_who_knows_one_path_cannot_hold_up_the_others(
    core: Core, http: httpx2.AsyncClient, merchant: Principal, sent: Sent
) -> None:
    """Bodies that take a third of a second each to look at, and a true one that needs a close look too."""
    other = await send(core, merchant, a_payout(key="payout-2"), accepted(2))
    slow = b'"' * 65_000 + b"\\"
    under_way = anyio.Event()

    async def flood() -> None:
        while True:
            await http.post(sent.path, content=slow)
            under_way.set()

    async with anyio.create_task_group() as tasks:
        for _ in range(40):
            tasks.start_soon(flood)
        with anyio.fail_after(10):
            await under_way.wait()
        true = json.dumps(result_body(2, parameters={"ReceiverPartyPublicName": "José"}), ensure_ascii=False)
        with anyio.fail_after(5):
            assert (await http.post(other.path, content=true.encode())).status_code == 200
        tasks.cancel_scope.cancel()
    stored = [callback for callback in await callbacks_stored(core, merchant) if callback.attempt_id != sent.attempt_id]
    assert [json.loads(callback.body) for callback in stored] == [json.loads(true)]


async def test_callbacks_of_one_path_keep_their_order(
    core: Core, http: httpx2.AsyncClient, merchant: Principal, sent: Sent, clock: FrozenClock
) -> None:
    for number in range(5):
        assert (await http.post(sent.path, json={"number": number})).status_code == 200
        clock.advance(timedelta(microseconds=1))
    stored = sorted(await callbacks_stored(core, merchant), key=lambda callback: callback.received_at)
    assert [json.loads(callback.body)["number"] for callback in stored] == list(range(5))


async def test_a_callback_whose_row_cannot_be_made_leaves_the_others(
    core: Core, http: httpx2.AsyncClient, merchant: Principal, sent: Sent
) -> None:
    """The attempt vanishes between the look-up and the commit, in the middle of a round."""
    organization, token = sent.path.split("/")[2:]
    there, gone = (CallbackPath(organization, sha256_hex(each)) for each in (token, "gone"))
    now = core.clock.now()
    new = [
        NewCallback(path, merchant.organization_id, f"cbk_{number}", attempt_id, "result", now, "127.0.0.1", "{}")
        for number, (path, attempt_id) in enumerate(
            [(there, sent.attempt_id), (gone, "att_gone"), (there, sent.attempt_id)]
        )
    ]
    assert await store_callbacks(core.store, new) == {"cbk_0", "cbk_2"}
    assert [callback.id for callback in await callbacks_stored(core, merchant)] == ["cbk_0", "cbk_2"]


async def test_a_forwarded_address_of_any_length_does_no_harm(core: Core, merchant: Principal, sent: Sent) -> None:
    transport = httpx2.ASGITransport(
        create_sidecar(core.store, core.settings, core.clock), client=("not an address " * 100, 1)
    )
    async with httpx2.AsyncClient(transport=transport, base_url="http://callbacks") as client:
        assert (await client.post(sent.path, json=result_body())).status_code == 200
    [stored] = await callbacks_stored(core, merchant)
    assert len(stored.source_address) == 45


async def test_ten_megabytes_are_refused_without_being_read_whole(
    core: Core, http: httpx2.AsyncClient, merchant: Principal, sent: Sent
) -> None:
    with contextlib.suppress(httpx2.WriteError, httpx2.ReadError):
        assert (await http.post(sent.path, content=b" " * 10_000_000)).status_code == 413
    assert await callbacks_stored(core, merchant) == []
    assert (await http.post(sent.path, json=result_body())).status_code == 200


@pytest.mark.sqlite  # PostgreSQL has no lock on everything
async def test_a_store_held_by_another_process_is_a_503_within_seconds_and_comes_back(
    core: Core, http: httpx2.AsyncClient, merchant: Principal, sent: Sent
) -> None:
    path = core.settings.sqlite_path
    assert path is not None
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with anyio.fail_after(8):
            assert set(await post_together(http, [sent.path] * 3, result_body())) == {503}
        other.execute("ROLLBACK")
    with anyio.fail_after(8):
        while (await http.post(sent.path, json=result_body())).status_code != 200:
            pass


async def test_the_sidecar_stores_without_the_rest_of_the_program(core: Core, sent: Sent, merchant: Principal) -> None:
    """As `callbacks` runs it: no other module has loaded the tables that a callback's row refers to."""
    program = (
        "import asyncio, sys; from datetime import UTC, datetime; from mpesa_mcp.callbacks.sidecar import Sidecar\n"
        "from mpesa_mcp.store.engine import open_store\n"
        "from mpesa_mcp.store.callback_log import CallbackPath, NewCallback, store_callbacks\n"
        "async def main(url, callback_id, hash, organization, attempt):\n"
        "    store, path = open_store(url), CallbackPath(callback_id, hash)\n"
        "    new = NewCallback(path, organization, 'cbk_1', attempt, 'result', datetime.now(UTC), '127.0.0.1', '{}')\n"
        "    assert await store_callbacks(store, [new]) == {'cbk_1'}\n"
        "    await store.close()\n"
        "asyncio.run(main(*sys.argv[1:]))"
    )
    callback_id, token = sent.path.split("/")[2:]
    ids = [merchant.organization_id, sent.attempt_id]
    words = [core.settings.effective_database_url, callback_id, sha256_hex(token), *ids]
    done = await anyio.run_process([sys.executable, "-c", program, *words], check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert [callback.id for callback in await callbacks_stored(core, merchant)] == ["cbk_1"]
