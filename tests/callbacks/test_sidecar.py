"""The sidecar over real HTTP: what strangers see, what is stored before the 200, and what never is."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import httpx2
import pytest
from sqlmodel import select

from mpesa_mcp.app.http import listen, serving
from mpesa_mcp.callbacks.models import Callback
from mpesa_mcp.callbacks.sidecar import MAX_BODY_BYTES, SAFARICOM_ADDRESSES, can_store, create_sidecar
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.core import Core
from mpesa_mcp.settings import Deployment
from mpesa_mcp.store.engine import open_store

from .factories import (
    Sent,
    a_payout,
    accepted,
    apply_due,
    as_owner,
    callbacks_stored,
    make_merchant,
    result_body,
    run_sql,
    send,
    stk_body,
)

pytestmark = pytest.mark.anyio

SHORT_PATIENCE = 0.2


@pytest.fixture
async def port(core: Core) -> AsyncIterator[int]:
    app = create_sidecar(core.store, core.settings, core.clock, body_seconds=SHORT_PATIENCE)
    async with serving(app, listen("127.0.0.1", 0)) as taken:
        yield taken


@pytest.fixture
async def http(port: int) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        yield client


@pytest.fixture
async def sent(core: Core, merchant: Principal) -> Sent:
    return await send(core, merchant, a_payout(), accepted())


async def bytes_answered(port: int, request: bytes) -> bytes:
    """Everything the server says to these bytes, but for the date, until it closes."""
    answer = b""
    with anyio.fail_after(5):
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(request)
            try:
                while True:
                    answer += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass
    return b"\r\n".join(line for line in answer.split(b"\r\n") if not line.startswith(b"date:"))


def request_bytes(method: str, path: str, *, body: bytes = b"", announced: int | None = None) -> bytes:
    length = len(body) if announced is None else announced
    head = f"{method} {path} HTTP/1.1\r\nHost: callbacks\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    return head.encode() + body


async def test_strangers_get_the_same_bytes_whatever_they_try(port: int, core: Core, sent: Sent) -> None:
    other = await make_merchant(core, "globex")
    their_path = (await send(core, other, a_payout(), accepted(2))).path
    organization, token = sent.path.split("/")[2:]
    unknown = "0" * 32
    reference = await bytes_answered(port, request_bytes("POST", f"/cb/{organization}/{unknown}"))
    assert reference.startswith(b"HTTP/1.1 404")
    paths = [
        f"/cb/{unknown}/{token}",
        f"/cb/{their_path.split('/')[2]}/{token}",
        f"/cb/{organization}/{unknown}/timeout",
        f"/cb/{organization}/{token.upper()}",
        f"/cb/{organization}/{token}/",
        f"/cb/{organization}/{token}/timeout/",
        f"/cb/{organization}/{token}/other",
        f"/cb/{organization}//{token}",
        f"/cb/{organization}/{token}%00",
        f"/cb/%00/{token}",
        f"/cb/{organization}/{'a' * 8000}",
        f"/cb/{organization}/%ff%fe",
        f"/cb/{organization}",
        "/cb/",
        "/cb",
    ]
    for path in paths:
        assert await bytes_answered(port, request_bytes("POST", path)) == reference, path
    for method in ("GET", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND"):
        for path in (f"/cb/{organization}/{unknown}", sent.path):
            assert await bytes_answered(port, request_bytes(method, path)) == reference, method
    # HEAD has no body by definition; its head is the same.
    head = await bytes_answered(port, request_bytes("HEAD", sent.path))
    assert head == reference.split(b"\r\n\r\n")[0] + b"\r\n\r\n"


async def test_a_strangers_body_is_not_waited_for(port: int, sent: Sent) -> None:
    path = f"/cb/{'0' * 32}/{'0' * 32}"
    small = await bytes_answered(port, request_bytes("POST", path, body=b"{}"))
    huge = await bytes_answered(port, request_bytes("POST", path, body=b"{", announced=10**9))
    assert huge == small


async def test_a_body_that_comes_after_its_head_is_stored_once(core: Core, merchant: Principal, sent: Sent) -> None:
    body = json.dumps(result_body()).encode()
    head = request_bytes("POST", sent.path, announced=len(body))
    async with serving(create_sidecar(core.store, core.settings, core.clock), listen("127.0.0.1", 0)) as port:
        with anyio.fail_after(5):
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                for part in (head, body[:10], body[10:20], body[20:]):
                    await stream.send(part)
                    # It has read that much when it has answered somebody who came later.
                    await bytes_answered(port, request_bytes("GET", "/healthz"))
                assert (await stream.receive()).startswith(b"HTTP/1.1 200")
    assert [callback.body for callback in await callbacks_stored(core, merchant)] == [body.decode()]


async def test_a_callback_is_in_the_database_before_it_is_answered(
    core: Core, http: httpx2.AsyncClient, merchant: Principal, sent: Sent
) -> None:
    """Read through another connection as soon as the first byte of the 200 is there."""
    body = json.dumps(result_body())
    other = open_store(core.settings.effective_database_url)
    try:
        async with http.stream("POST", sent.path, content=body) as answer:
            async with other.reading(merchant.organization_id) as session:
                [stored] = await session.all(select(Callback))
            assert answer.status_code == 200
            assert json.loads(await answer.aread()) == {"ResultCode": 0, "ResultDesc": "Accepted"}
    finally:
        await other.close()
    assert (stored.body, stored.attempt_id, stored.channel) == (body, sent.attempt_id, "result")
    assert (stored.status, stored.received_at, stored.source_address) == ("stored", core.clock.now(), "127.0.0.1")


async def test_the_timeout_path_is_another_channel_of_the_same_attempt(
    core: Core, http: httpx2.AsyncClient, merchant: Principal, sent: Sent
) -> None:
    assert (await http.post(sent.path + "/timeout", content=b"")).status_code == 200
    [stored] = await callbacks_stored(core, merchant)
    assert (stored.channel, stored.attempt_id, stored.body) == ("timeout", sent.attempt_id, "")


async def test_the_same_callback_three_times_is_stored_three_times(
    core: Core, http: httpx2.AsyncClient, merchant: Principal, sent: Sent
) -> None:
    for _ in range(3):
        assert (await http.post(sent.path, json=result_body())).status_code == 200
    assert len(await callbacks_stored(core, merchant)) == 3


@pytest.mark.parametrize(("size", "status", "stored"), [(MAX_BODY_BYTES, 200, 1), (MAX_BODY_BYTES + 1, 413, 0)])
async def test_a_body_of_up_to_64_kib_is_taken(
    core: Core, http: httpx2.AsyncClient, merchant: Principal, sent: Sent, size: int, status: int, stored: int
) -> None:
    assert (await http.post(sent.path, content=b" " * size)).status_code == status
    assert len(await callbacks_stored(core, merchant)) == stored


async def test_a_body_without_a_length_is_cut_off_at_64_kib_too(
    core: Core, http: httpx2.AsyncClient, merchant: Principal, sent: Sent
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * (MAX_BODY_BYTES // 2)

    assert (await http.post(sent.path, content=chunks())).status_code == 413
    assert await callbacks_stored(core, merchant) == []


async def test_a_body_that_does_not_come_is_given_up(core: Core, port: int, merchant: Principal, sent: Sent) -> None:
    answer = await bytes_answered(port, request_bytes("POST", sent.path, body=b"{", announced=100))
    assert answer.startswith(b"HTTP/1.1 408")
    assert await callbacks_stored(core, merchant) == []


async def test_a_sender_that_goes_away_in_the_middle_leaves_nothing(
    core: Core, http: httpx2.AsyncClient, port: int, merchant: Principal, sent: Sent
) -> None:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(request_bytes("POST", sent.path, body=b"{", announced=100))
    # The server is still there for the next.
    assert (await http.post(sent.path, json=result_body())).status_code == 200
    assert len(await callbacks_stored(core, merchant)) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b'{"Result": ',
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b'{"Result": "\\ud800"}',
        b'{"Remarks": "Bearer abcdefghijkl \\ud800"}',
        b"[" * 60_000,
    ],
    ids=["empty", "text", "cut off", "list", "null", "bytes", "surrogate", "surrogate beside a secret", "deep"],
)
async def test_a_body_that_makes_no_sense_is_taken_and_marked(
    core: Core, http: httpx2.AsyncClient, merchant: Principal, sent: Sent, body: bytes
) -> None:
    assert (await http.post(sent.path, content=body)).status_code == 200
    await apply_due(core)
    assert [callback.status for callback in await callbacks_stored(core, merchant)] == ["malformed"]


async def test_an_echoed_request_is_stored_without_its_secrets(
    core: Core, http: httpx2.AsyncClient, merchant: Principal, sent: Sent
) -> None:
    """Quirk 28: a QueueTimeOut may be our own request, SecurityCredential and addresses included."""
    credential = "Ab3+/" * 68 + "Ab3="
    echo: dict[str, Any] = {
        "InitiatorName": "the-initiator",
        "SecurityCredential": credential,
        "CommandID": "BusinessPayment",
        "Amount": "100",
        "PartyB": "254700000001",
        "QueueTimeOutURL": f"https://pay.example{sent.path}/timeout",
        "ResultURL": f"https://pay.example{sent.path}",
        "OriginatorConversationID": "originator-1",
    }
    assert (await http.post(sent.path + "/timeout", json=echo)).status_code == 200
    [stored] = await callbacks_stored(core, merchant)
    organization, token = sent.path.split("/")[2:]
    for secret in (credential, credential[:40], organization, token, "the-initiator"):
        assert secret not in stored.body
    assert "originator-1" in stored.body
    path = core.settings.sqlite_path
    if path is None:
        return
    run_sql(core, "PRAGMA wal_checkpoint(TRUNCATE)")
    on_disk = await anyio.Path(path).read_bytes()
    assert b"originator-1" in on_disk
    for secret in (credential[:40], token):
        assert secret.encode() not in on_disk


@pytest.mark.parametrize("table", ["callbacks", "attempts"])
@pytest.mark.own_database
async def test_a_store_that_fails_is_a_503(core: Core, http: httpx2.AsyncClient, sent: Sent, table: str) -> None:
    await as_owner(core, f"ALTER TABLE {table} RENAME TO gone")
    answer = await http.post(sent.path, json=result_body())
    assert (answer.status_code, answer.json()["ResultCode"]) == (503, 1)
    await as_owner(core, f"ALTER TABLE gone RENAME TO {table}")
    assert (await http.post(sent.path, json=result_body())).status_code == 200


async def answers_from(core: Core, sources: Sequence[str], path: str) -> list[tuple[int, bytes]]:
    production = core.settings.model_copy(update={"environment": Deployment.PRODUCTION})
    app = create_sidecar(core.store, production, core.clock)
    answers = []
    for source in sources:
        transport = httpx2.ASGITransport(app, client=(source, 40000))
        async with httpx2.AsyncClient(transport=transport, base_url="http://callbacks") as client:
            answer = await client.post(path, json=stk_body())
        answers.append((answer.status_code, answer.content))
    return answers


async def test_in_production_only_safaricoms_addresses_are_answered(
    core: Core, merchant: Principal, sent: Sent
) -> None:
    assert {status for status, _ in await answers_from(core, sorted(SAFARICOM_ADDRESSES), sent.path)} == {200}
    unknown = await answers_from(core, ["196.201.214.200"], f"/cb/{'0' * 32}/{'0' * 32}")
    strangers = ["127.0.0.1", "196.201.214.201", "10.0.0.1", "::1", "::ffff:10.0.0.1", "not an address"]
    assert set(await answers_from(core, strangers, sent.path)) == set(unknown)
    assert unknown[0][0] == 404
    assert len(await callbacks_stored(core, merchant)) == len(SAFARICOM_ADDRESSES)


@pytest.mark.own_database
async def test_a_sidecar_that_could_store_nothing_knows_it_before_anybody_posts(core: Core) -> None:
    assert await can_store(core.store, core.clock)
    await as_owner(core, "ALTER TABLE attempts RENAME TO gone")
    assert not await can_store(core.store, core.clock)


@pytest.mark.postgresql
@pytest.mark.own_database
async def test_a_database_of_an_older_program_is_seen_by_the_functions_that_it_lacks(core: Core) -> None:
    await as_owner(core, "ALTER FUNCTION store_callbacks RENAME TO of_another_shape")
    assert not await can_store(core.store, core.clock)


async def test_health_is_answered_beside_the_callbacks(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"ok": True})
