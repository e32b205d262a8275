"""`/_sim` and `/phone` as a whole: reset, determinism by seed, deliveries, who may ask, and bounded memory."""

from datetime import UTC, datetime
from typing import Any, Literal

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from mpesa_mcp.simulator.accounts import MAX_MOVEMENTS, Kind, Ledger, Movement
from mpesa_mcp.simulator.app import create_simulator
from mpesa_mcp.simulator.bounded import Bounded
from mpesa_mcp.simulator.deliveries import MAX_REMEMBERED, is_loopback
from mpesa_mcp.simulator.simulation import Simulation
from mpesa_mcp.values import FrozenClock, SystemClock

from .conftest import Daraja, parameters, served, simulated

pytestmark = pytest.mark.anyio

PHONE = "254700000001"


async def a_run(daraja: Daraja) -> list[Any]:
    """Everything a short session hears, ids included."""
    await daraja.sign_in()
    heard: list[Any] = [daraja.token, (await daraja.push(PHONE)).json(), (await daraja.pay(PHONE)).json()]
    heard += [(await daraja.push("254700000097", Amount=0)).json()]
    callbacks = [one.body for one in await daraja.receiver.wait_for(2)]
    return [*heard, *callbacks, await daraja.ledger()]


async def test_the_same_seed_gives_the_same_run() -> None:
    runs = []
    for seed in (7, 7, 8):
        clock = FrozenClock(datetime(2026, 1, 15, 7, 15, tzinfo=UTC))
        async with simulated(create_simulator(seed=seed, delay_ms=5, clock=clock)) as daraja:
            runs.append(await a_run(daraja))
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[2][0]
    assert [one["receipt"] for one in runs[0][-1]] != [one["receipt"] for one in runs[2][-1]]


async def test_a_reset_begins_anew_but_receipts_do_not_come_again(daraja: Daraja) -> None:
    await daraja.push(PHONE)
    await daraja.receiver.wait_for(1)
    before = (await daraja.ledger())[0]["receipt"]
    await daraja.http.post("/_sim/faults", json={"operation": "balance", "status": 500})
    await daraja.http.post("/_sim/reset")
    daraja.receiver.forget()
    assert await daraja.ledger() == []
    assert (await daraja.push(PHONE)).status_code == 404, "the token is gone too"
    await daraja.sign_in("consumer-key", "another-secret")
    assert await daraja.utility() == 10_000_000
    await daraja.push(PHONE)
    await daraja.receiver.wait_for(1, "/cb/stk")
    assert (await daraja.ledger())[0]["receipt"] != before


async def test_a_reset_with_a_seed_begins_its_ids_again(daraja: Daraja) -> None:
    tokens = []
    for _ in range(2):
        assert (await daraja.http.post("/_sim/reset", json={"seed": 5})).json() == {"reset": True}
        await daraja.sign_in()
        tokens.append(daraja.token)
    assert tokens[0] == tokens[1]
    await daraja.http.post("/_sim/reset", json={"seed": 1})


@pytest.mark.parametrize("body", [{"seed": -1}, {"seed": "1"}, {"sed": 1}])
async def test_a_reset_with_nonsense_is_422_and_resets_nothing(daraja: Daraja, body: dict[str, object]) -> None:
    assert (await daraja.http.post("/_sim/reset", json=body)).status_code == 422
    assert (await daraja.push(PHONE)).status_code == 200


async def test_callbacks_due_before_a_reset_do_not_come_after_it(daraja: Daraja) -> None:
    await daraja.push(PHONE, CallBackURL=f"{daraja.receiver.base_url}/cb/old")
    await daraja.http.post("/_sim/reset")
    await daraja.sign_in()
    await daraja.push(PHONE, CallBackURL=f"{daraja.receiver.base_url}/cb/new")
    await daraja.receiver.wait_for(1, "/cb/new")
    assert [one.path for one in daraja.receiver.received] == ["/cb/new"]
    assert len(await daraja.ledger()) == 1


async def test_a_reset_unlocks_the_operator(daraja: Daraja) -> None:
    wrong = {"SecurityCredential": await daraja.credential("guess")}
    for _ in range(4):
        await daraja.balance(**wrong)
    assert 8006 in [one.body["Result"]["ResultCode"] for one in await daraja.receiver.wait_for(4)]
    await daraja.http.post("/_sim/reset")
    daraja.receiver.forget()
    await daraja.sign_in()
    await daraja.balance()
    assert (await daraja.receiver.wait_for(1))[0].body["Result"]["ResultCode"] == 0


async def test_the_certificate_is_x509_in_pem_and_survives_a_reset(daraja: Daraja) -> None:
    first = await daraja.http.get("/_sim/certificate")
    await daraja.http.post("/_sim/reset")
    assert (await daraja.http.get("/_sim/certificate")).content == first.content
    assert isinstance(x509.load_pem_x509_certificate(first.content).public_key(), rsa.RSAPublicKey)


async def test_each_delivery_is_remembered_with_its_fate(daraja: Daraja) -> None:
    await daraja.push(PHONE)
    await daraja.receiver.wait_for(1)
    daraja.receiver.status = 500
    await daraja.push(PHONE)
    await daraja.receiver.wait_for(2)
    await daraja.push(PHONE, CallBackURL="http://127.0.0.1:1/cb")
    await daraja.push(PHONE, CallBackURL="https://example.com/cb")
    assert await daraja.settled((await daraja.push(PHONE)).json()["CheckoutRequestID"]) == "0"
    await daraja.receiver.wait_for(3)
    remembered = (await daraja.http.get("/_sim/deliveries")).json()
    fates = [(one["outcome"], one["http_status"], one["reason"]) for one in remembered]
    assert fates[:2] == [("delivered", 200, None), ("rejected", 500, None)]
    assert ("failed", None, "ConnectError") in fates
    assert ("refused", None, "the simulator calls loopback hosts only") in fates
    assert len(await daraja.ledger()) == 5, "one attempt each, and the payments stand whatever became of it"
    assert {one["about"] for one in remembered} == {"stk result 0"}


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:80@example.com/cb", "http://example.com\\@10.0.0.1/cb", "http://[::ffff:10.0.0.1]/cb"]
)
async def test_an_address_that_only_looks_like_loopback_is_not_called(daraja: Daraja, url: str) -> None:
    await daraja.push(PHONE, CallBackURL=url)
    await daraja.push(PHONE)
    await daraja.receiver.wait_for(1)
    assert (await daraja.http.get("/_sim/deliveries")).json()[0]["outcome"] == "refused"


@pytest.mark.parametrize("status", [301, 307])
async def test_a_redirect_is_not_followed(daraja: Daraja, status: int) -> None:
    daraja.receiver.status = status
    await daraja.push(PHONE)
    await daraja.receiver.wait_for(1)
    daraja.receiver.status = 200
    await daraja.push(PHONE)
    await daraja.receiver.wait_for(2)
    assert (await daraja.http.get("/_sim/deliveries")).json()[0]["outcome"] == "rejected"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),  # noqa: S104 - asked about, not bound
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("localhost.example.com", False),
        ("example.com", False),
        (None, False),
    ],
)
async def test_what_counts_as_loopback(host: str | None, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize("path", ["/phone", "/phone/254700000099", "/_sim/ledger", "/_sim/certificate"])
async def test_other_machines_see_neither_phones_nor_controls(path: str) -> None:
    app = create_simulator()
    for client, host in ((("10.0.0.9", 4000), "127.0.0.1"), (("127.0.0.1", 4000), "evil.example.com")):
        transport = httpx2.ASGITransport(app, client=client)
        async with httpx2.AsyncClient(transport=transport, base_url=f"http://{host}") as stranger:
            assert (await stranger.get(path)).status_code == 403
            oauth = await stranger.get("/oauth/v1/generate?grant_type=client_credentials", auth=("key", "secret"))
            assert oauth.status_code == 200, "Daraja's own paths are open"


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example.com"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
)
async def test_pages_of_other_sites_change_nothing(daraja: Daraja, headers: dict[str, str]) -> None:
    asked = (await daraja.push("254700000099")).json()["CheckoutRequestID"]
    for path in ("/_sim/reset", "/_sim/faults", f"/phone/254700000099/{asked}/pay"):
        assert (await daraja.http.post(path, headers=headers)).status_code == 403
    assert await daraja.ledger() == []


async def test_in_a_process_without_a_server_a_dropped_connection_is_an_exception() -> None:
    app = create_simulator()
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1") as http:
        await http.post("/_sim/faults", json={"operation": "oauth", "drop": True})
        with pytest.raises(ConnectionResetError):
            await http.get("/oauth/v1/generate?grant_type=client_credentials", auth=("key", "secret"))


@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_both_http_parsers_of_uvicorn_can_drop_a_connection(
    http: Literal["h11", "httptools"], caplog: pytest.LogCaptureFixture
) -> None:
    async with served(create_simulator(), http=http) as url, httpx2.AsyncClient(base_url=url) as client:
        await client.post("/_sim/faults", json={"operation": "oauth", "drop": True})
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.get("/oauth/v1/generate?grant_type=client_credentials", auth=("key", "secret"))
        answer = await client.get("/oauth/v1/generate?grant_type=client_credentials", auth=("key", "secret"))
    assert answer.status_code == 200
    assert caplog.records == []


async def test_two_simulators_know_nothing_of_each_other(daraja: Daraja) -> None:
    async with simulated(create_simulator(delay_ms=0)) as other:
        await other.push(PHONE)
        await other.receiver.wait_for(1)
        assert len(await other.ledger()) == 1
    assert await daraja.ledger() == []


async def test_stopping_cancels_what_was_still_due() -> None:
    async with simulated(create_simulator(delay_ms=600_000)) as daraja:
        assert (await daraja.push(PHONE)).status_code == 200
    assert daraja.receiver.received == []


def test_a_bounded_mapping_forgets_its_oldest_entries() -> None:
    kept: Bounded[str, int] = Bounded(2)
    for number, key in enumerate("abac"):
        kept[key] = number
    assert dict(kept) == {"b": 1, "c": 3}


def test_the_ledger_and_the_deliveries_are_bounded() -> None:
    ledger = Ledger()
    movement = Movement(Kind.STK, "174379", PHONE, 1, "UAF4K7Q2ZX", None, "ws_CO_1", datetime(2026, 1, 15, tzinfo=UTC))
    for _ in range(MAX_MOVEMENTS + 5):
        ledger.record(movement)
    assert len(ledger.movements) == MAX_MOVEMENTS
    assert ledger.accounts("174379").utility == 10_000_000 + MAX_MOVEMENTS + 5, "forgotten, but not undone"
    assert Simulation(seed=1, delay_ms=0, clock=SystemClock()).deliveries.remembered.maxlen == MAX_REMEMBERED


def test_a_negative_delay_is_refused() -> None:
    with pytest.raises(ValueError, match="delay_ms"):
        create_simulator(delay_ms=-1)


async def test_charges_are_not_taken(daraja: Daraja) -> None:
    await daraja.pay(PHONE)
    await daraja.receiver.wait_for(1)
    daraja.receiver.forget()
    await daraja.balance()
    balances = parameters((await daraja.receiver.wait_for(1))[0].body)["AccountBalance"]
    assert "Charges Paid Account|KES|0.00" in balances
