"""Failures on order: instead of the call, or after it."""

from typing import Any

import httpx2
import pytest

from .conftest import Daraja

pytestmark = pytest.mark.anyio

PHONE = "254700000001"


async def order(daraja: Daraja, **fault: object) -> httpx2.Response:
    return await daraja.http.post("/_sim/faults", json=fault)


async def call(daraja: Daraja, operation: str) -> httpx2.Response:
    match operation:
        case "oauth":
            return await daraja.sign_in()
        case "stk_push":
            return await daraja.push(PHONE)
        case "stk_query":
            return await daraja.query("ws_CO_1")
        case "b2c":
            return await daraja.pay(PHONE)
        case "balance":
            return await daraja.balance()
        case "transaction_status":
            return await daraja.status(TransactionID="UAF4K7Q2ZX")
        case _:
            return await daraja.reverse("UAF4K7Q2ZX", 10)


@pytest.mark.parametrize(
    "operation", ["oauth", "stk_push", "stk_query", "b2c", "balance", "transaction_status", "reversal"]
)
async def test_a_fault_answers_the_next_calls_of_its_operation_and_then_is_gone(daraja: Daraja, operation: str) -> None:
    usual = (await call(daraja, operation)).status_code
    ordered = await order(daraja, operation=operation, status=503, body={"made": "up"}, count=2)
    assert (ordered.status_code, ordered.json()) == (200, {"operation": operation, "count": 2})
    for _ in range(2):
        answer = await call(daraja, operation)
        assert (answer.status_code, answer.json()) == (503, {"made": "up"})
    assert (await call(daraja, operation)).status_code == usual


async def test_a_fault_answers_instead_of_carrying_the_call_out(daraja: Daraja) -> None:
    await order(daraja, operation="b2c", status=500)
    answer = await daraja.pay(PHONE, OriginatorConversationID="mine")
    assert (answer.status_code, answer.content) == (500, b"")
    assert await daraja.status_of(OriginalConversationID="mine") == "2032"


async def test_a_fault_with_after_answers_once_the_call_has_been_carried_out(daraja: Daraja) -> None:
    await order(daraja, operation="b2c", status=504, body="<html>Gateway</html>", after=True)
    answer = await daraja.pay(PHONE, OriginatorConversationID="mine")
    assert (answer.status_code, answer.text) == (504, "<html>Gateway</html>")
    assert answer.headers["content-type"].startswith("text/html")
    await daraja.receiver.wait_for(1)
    assert [one["originator_conversation_id"] for one in await daraja.ledger()] == ["mine"]


@pytest.mark.parametrize("after", [False, True])
async def test_a_dropped_call_gets_no_answer(daraja: Daraja, after: bool, caplog: pytest.LogCaptureFixture) -> None:
    await order(daraja, operation="reversal", drop=True, after=after)
    with pytest.raises(httpx2.RemoteProtocolError):
        await daraja.reverse("UAF4K7Q2ZX", 10)
    if after:
        (told,) = await daraja.receiver.wait_for(1)
        assert told.body["Result"]["ResultCode"] == "R000002"
    assert (await daraja.reverse("UAF4K7Q2ZX", 10)).status_code == 200
    assert caplog.records == []


@pytest.mark.parametrize("after", [False, True])
async def test_a_delay_alone_only_delays(daraja: Daraja, after: bool) -> None:
    await order(daraja, operation="stk_push", delay_ms=300, after=after)
    with pytest.raises(httpx2.ReadTimeout):
        await daraja.http.post(
            "/mpesa/stkpush/v1/processrequest",
            json=daraja.push_body(PHONE),
            headers={"Authorization": f"Bearer {daraja.token}"},
            timeout=0.1,
        )
    await daraja.receiver.wait_for(1)
    assert len(await daraja.ledger()) == 1, "the client gave up, the payment did not"


async def test_faults_of_one_operation_apply_in_the_order_of_ordering(daraja: Daraja) -> None:
    await order(daraja, operation="balance", status=500)
    await order(daraja, operation="b2c", status=418)
    await order(daraja, operation="balance", status=429)
    waiting: list[dict[str, Any]] = (await daraja.http.get("/_sim/faults")).json()
    assert [(one["operation"], one["status"]) for one in waiting] == [("balance", 500), ("b2c", 418), ("balance", 429)]
    assert [(await daraja.balance()).status_code for _ in range(3)] == [500, 429, 200]


@pytest.mark.parametrize(
    "nonsense",
    [
        {},
        {"operation": "b2c"},
        {"operation": "b2b", "status": 500},
        {"operation": "b2c", "status": 100},
        {"operation": "b2c", "status": 600},
        {"operation": "b2c", "status": "500"},
        {"operation": "b2c", "status": 204, "body": "x"},
        {"operation": "b2c", "status": 500, "drop": True},
        {"operation": "b2c", "status": 500, "count": 0},
        {"operation": "b2c", "status": 500, "count": True},
        {"operation": "b2c", "delay_ms": -1},
        {"operation": "b2c", "body": 7},
        {"operation": "b2c", "status": 500, "cuont": 2},
    ],
)
async def test_nonsense_is_422_and_orders_nothing(daraja: Daraja, nonsense: dict[str, object]) -> None:
    answer = await order(daraja, **nonsense)
    assert answer.status_code == 422
    assert answer.json()["error"]
    assert (await daraja.http.get("/_sim/faults")).json() == []


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"x" * 70_000, b'{"\\ud800": 1}'])
async def test_an_unreadable_order_is_422(daraja: Daraja, content: bytes) -> None:
    assert (await daraja.http.post("/_sim/faults", content=content)).status_code == 422


async def test_there_is_an_end_to_ordering(daraja: Daraja) -> None:
    statuses = {(await order(daraja, operation="b2c", status=500)).status_code for _ in range(1000)}
    assert statuses == {200}
    assert (await order(daraja, operation="b2c", status=500)).status_code == 422
