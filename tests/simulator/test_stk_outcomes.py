"""Every row of the outcome table for STK push, seen as a program of a Daraja user sees it."""

from typing import Any

import anyio
import httpx2
import pytest

from .conftest import SHORTCODE, Daraja, items, payload
from .shapes import shape

pytestmark = pytest.mark.anyio


def phone(digits: int) -> str:
    return f"2547000000{digits:02d}"


def checkout(answer: httpx2.Response) -> str:
    assert answer.status_code == 200
    return str(answer.json()["CheckoutRequestID"])


def codes(daraja: Daraja) -> list[Any]:
    return [one.body["Body"]["stkCallback"]["ResultCode"] for one in daraja.receiver.received]


async def nothing_more_comes(daraja: Daraja) -> None:
    """A later payment's callback arrives, so whatever was due before it would have arrived too."""
    received = len(daraja.receiver.received)
    await daraja.push(phone(1), CallBackURL=f"{daraja.receiver.base_url}/cb/marker")
    await daraja.receiver.wait_for(1, "/cb/marker")
    others = [one for one in daraja.receiver.received if one.path != "/cb/marker"]
    assert len(others) == received


@pytest.mark.parametrize("digits", [0, 1, 42, 79])
async def test_an_ordinary_push_succeeds_with_one_callback(daraja: Daraja, digits: int) -> None:
    answer = await daraja.push(phone(digits), 1500)
    assert shape(answer.json()) == shape(payload("stk_push_response_success"))
    (callback,) = await daraja.receiver.wait_for(1)
    assert shape(callback.body) == shape(payload("stk_callback_success_balance_no_value"))
    assert callback.headers["content-type"] == "application/json;charset=UTF-8"
    assert callback.headers["businessshortcode"] == SHORTCODE
    (movement,) = await daraja.ledger()
    told = items(callback.body)
    assert (told["Amount"], told["MpesaReceiptNumber"]) == (1500, movement["receipt"])
    assert told["PhoneNumber"] == int(phone(digits))
    assert movement["checkout_request_id"] == checkout(answer)
    assert await daraja.settled(checkout(answer)) == "0"
    await nothing_more_comes(daraja)


@pytest.mark.parametrize(
    ("digits", "code", "callback", "query"),
    [
        (80, "1", "stk_callback_1", "stk_query_response_1"),
        (81, "1032", "stk_callback_1032", "stk_query_response_1032"),
        (82, "2001", "stk_callback_2001", "stk_query_response_2001"),
        (83, "1037", "stk_callback_1037_no_response", "stk_query_response_1037_ds_timeout"),
    ],
)
async def test_a_failed_push_says_so_in_callback_and_query_and_moves_nothing(
    daraja: Daraja, digits: int, code: str, callback: str, query: str
) -> None:
    asked = checkout(await daraja.push(phone(digits)))
    (told,) = await daraja.receiver.wait_for(1)
    expected = payload(callback)["Body"]["stkCallback"]
    body = told.body["Body"]["stkCallback"]
    assert body.keys() == expected.keys()
    assert (body["ResultCode"], body["ResultDesc"]) == (expected["ResultCode"], expected["ResultDesc"])
    assert await daraja.settled(asked) == code
    answered = (await daraja.query(asked)).json()
    assert shape(answered) == shape(payload(query))
    assert answered["ResultDesc"] == payload(query)["ResultDesc"]
    assert await daraja.ledger() == []


@pytest.mark.parametrize(("digits", "code", "moved"), [(84, "0", 1), (85, "1032", 0), (93, "0", 1), (94, "1032", 0)])
async def test_a_lost_callback_never_comes_but_the_query_knows(
    daraja: Daraja, digits: int, code: str, moved: int
) -> None:
    asked = checkout(await daraja.push(phone(digits)))
    assert await daraja.settled(asked) == code
    assert len(await daraja.ledger()) == moved
    await nothing_more_comes(daraja)


async def test_86_tells_the_same_success_three_times(daraja: Daraja) -> None:
    await daraja.push(phone(86))
    first, second, third = await daraja.receiver.wait_for(3)
    assert first.body == second.body == third.body
    assert len(await daraja.ledger()) == 1
    await nothing_more_comes(daraja)


async def test_87_delivers_the_callback_before_the_answer(daraja: Daraja) -> None:
    answer = await daraja.push(phone(87))
    assert [one.body["Body"]["stkCallback"]["CheckoutRequestID"] for one in daraja.receiver.received] == [
        checkout(answer)
    ]
    assert codes(daraja) == [0]


async def test_88_fails_first_and_then_succeeds_after_all(daraja: Daraja) -> None:
    asked = checkout(await daraja.push(phone(88)))
    failure, success = await daraja.receiver.wait_for(2)
    assert codes(daraja) == [1037, 0]
    for one in (failure, success):
        assert one.body["Body"]["stkCallback"]["CheckoutRequestID"] == asked
    assert len(await daraja.ledger()) == 1
    assert await daraja.settled(asked) == "0"


async def test_89_is_preceded_by_a_forgery_with_the_right_ids_and_a_wrong_amount(daraja: Daraja) -> None:
    await daraja.push(phone(89), 70)
    forged, true = await daraja.receiver.wait_for(2)
    assert shape(forged.body) == shape(true.body)
    assert items(forged.body)["Amount"] == 700
    assert items(true.body)["Amount"] == 70
    assert (
        forged.body["Body"]["stkCallback"]["CheckoutRequestID"] == true.body["Body"]["stkCallback"]["CheckoutRequestID"]
    )
    (movement,) = await daraja.ledger()
    assert movement["receipt"] == items(true.body)["MpesaReceiptNumber"] != items(forged.body)["MpesaReceiptNumber"]


async def test_90_answers_500_and_pays_all_the_same(daraja: Daraja) -> None:
    answer = await daraja.push(phone(90))
    assert answer.status_code == 500
    assert answer.json() | {"requestId": ""} == payload("error_500_003_1001_internal") | {"requestId": ""}
    (callback,) = await daraja.receiver.wait_for(1)
    (movement,) = await daraja.ledger()
    assert items(callback.body)["MpesaReceiptNumber"] == movement["receipt"]
    await nothing_more_comes(daraja)


async def test_91_meets_the_firewall_and_is_not_accepted(daraja: Daraja) -> None:
    page = payload("http_incapsula_503_html")
    answer = await daraja.push(phone(91))
    assert (answer.status_code, answer.text) == (page["status"], page["body"])
    assert answer.headers["content-type"].startswith("text/html")
    await nothing_more_comes(daraja)
    assert [one["party"] for one in await daraja.ledger()] == [phone(1)]


async def test_92_closes_the_connection_and_pays_all_the_same(daraja: Daraja, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        await daraja.push(phone(92))
    await daraja.receiver.wait_for(1)
    assert [one["party"] for one in await daraja.ledger()] == [phone(92)]
    await nothing_more_comes(daraja)
    assert caplog.records == []


async def test_95_is_arrested_once_per_phone(daraja: Daraja) -> None:
    refused = await daraja.push(phone(95))
    assert (refused.status_code, refused.json()) == (429, payload("error_fault_spike_arrest"))
    assert (await daraja.push("254711111195")).status_code == 429
    for _ in range(2):
        assert (await daraja.push(phone(95))).status_code == 200
    await daraja.receiver.wait_for(2)
    assert len(await daraja.ledger()) == 2


async def test_96_keeps_the_query_guessing_long_after_the_money_moved(daraja: Daraja) -> None:
    asked = checkout(await daraja.push(phone(96)))
    answers: list[str] = []
    with anyio.fail_after(5):
        while not answers or answers[-1] != "0":
            body = (await daraja.query(asked)).json()
            answers.append(str(body.get("ResultCode", body.get("errorMessage"))))
    pending = answers[:-1]
    assert len(pending) >= 2
    assert pending == [
        "4999" if turn % 2 == 0 else "The transaction is being processed" for turn in range(len(pending))
    ]
    assert [one["checkout_request_id"] for one in await daraja.ledger()] == [asked]
    await nothing_more_comes(daraja)


async def test_97_is_accepted_and_never_resolves(daraja: Daraja) -> None:
    asked = checkout(await daraja.push(phone(97)))
    await nothing_more_comes(daraja)
    body = (await daraja.query(asked)).json()
    assert body.get("ResultCode", body.get("errorCode")) in {"4999", "500.001.1001"}
    assert [one["party"] for one in await daraja.ledger()] == [phone(1)]


async def test_98_cannot_lock_the_subscriber(daraja: Daraja) -> None:
    answer = await daraja.push(phone(98))
    expected = payload("stk_push_error_500_001_1001_unable_to_lock_subscriber")
    assert (answer.status_code, answer.json() | {"requestId": ""}) == (500, expected | {"requestId": ""})
    await nothing_more_comes(daraja)


@pytest.mark.parametrize(("decision", "code", "moved"), [("pay", "0", 1), ("cancel", "1032", 0)])
async def test_99_waits_for_a_person(daraja: Daraja, decision: str, code: str, moved: int) -> None:
    asked = checkout(await daraja.push(phone(99)))
    await nothing_more_comes(daraja)
    daraja.receiver.received.clear()
    await daraja.http.post(f"/phone/{phone(99)}/{asked}/{decision}")
    await daraja.receiver.wait_for(1)
    assert codes(daraja) == [int(code)]
    assert await daraja.settled(asked) == code
    assert sum(one["party"] == phone(99) for one in await daraja.ledger()) == moved


async def test_an_undecided_push_is_pending_in_each_of_the_three_ways(daraja: Daraja) -> None:
    asked = checkout(await daraja.push(phone(97)))
    seen = set()
    for _ in range(40):
        answer = await daraja.query(asked)
        body = answer.json()
        if answer.status_code == 200:
            assert shape(body) == shape(payload("stk_query_response_4999_still_processing"))
        seen.add((answer.status_code, body.get("ResultCode"), body.get("errorCode"), body.get("errorMessage")))
    assert seen == {
        (200, "4999", None, None),
        (500, None, "500.001.1001", "The transaction is being processed"),
        (500, None, "500.001.1001", ""),
    }


async def test_an_unknown_checkout_does_not_exist(daraja: Daraja) -> None:
    expected = payload("stk_query_error_500_001_1001_does_not_exist")
    asked = checkout(await daraja.push(phone(1)))
    for answer in (
        await daraja.query("ws_CO_15012026101530123700000012"),
        await daraja.query(asked, **daraja.password("600000")),
    ):
        assert answer.status_code == 500
        assert answer.json() | {"requestId": ""} == expected | {"requestId": ""}


async def test_two_pushes_are_two_payments(daraja: Daraja) -> None:
    await daraja.push(phone(1))
    await daraja.push(phone(1))
    await daraja.receiver.wait_for(2)
    assert len(await daraja.ledger()) == 2
    assert await daraja.utility() == 10_000_200
