"""Every row of the outcome table for B2C payouts."""

import time
from typing import Any

import httpx2
import pytest

from .conftest import Daraja, parameters, payload
from .shapes import shape

pytestmark = pytest.mark.anyio


def phone(digits: int) -> str:
    return f"2547000000{digits:02d}"


async def nothing_more_comes(daraja: Daraja) -> None:
    """A later payout's result arrives, so whatever was due before it would have arrived too."""
    received = len(daraja.receiver.received)
    await daraja.pay(phone(1), ResultURL=f"{daraja.receiver.base_url}/cb/marker")
    await daraja.receiver.wait_for(1, "/cb/marker")
    others = [one for one in daraja.receiver.received if one.path != "/cb/marker"]
    assert len(others) == received


async def result(daraja: Daraja) -> Any:
    return (await daraja.receiver.wait_for(1, "/cb/result"))[0].body


@pytest.mark.parametrize("digits", [0, 7, 79, 99])
async def test_an_ordinary_payout_succeeds_with_one_result(daraja: Daraja, digits: int) -> None:
    answer = await daraja.pay(phone(digits), 1500)
    assert shape(answer.json()) == shape(payload("b2c_ack_v3"))
    assert answer.json()["ResponseDescription"] == payload("b2c_ack_v3")["ResponseDescription"]
    body = await result(daraja)
    assert shape(body) == shape(payload("b2c_result_success"))
    for one in ("OriginatorConversationID", "ConversationID"):
        assert body["Result"][one] == answer.json()[one]
    (movement,) = await daraja.ledger()
    assert movement["receipt"] == body["Result"]["TransactionID"] == parameters(body)["TransactionReceipt"]
    assert parameters(body)["B2CUtilityAccountAvailableFunds"] == 10_000_000 - 1500 == await daraja.utility()
    await nothing_more_comes(daraja)


@pytest.mark.parametrize(
    ("digits", "expected"),
    [
        (80, "b2c_result_1"),
        (81, "b2c_result_2040"),
        (82, "b2c_result_2001"),
        (83, "b2c_result_8"),
        (98, "b2c_result_8006"),
    ],
)
async def test_a_failed_payout_says_why_and_moves_nothing(daraja: Daraja, digits: int, expected: str) -> None:
    assert (await daraja.pay(phone(digits))).json()["ResponseCode"] == "0"
    body = (await result(daraja))["Result"]
    known = payload(expected)["Result"]
    assert shape(body) == shape(known)
    assert (body["ResultCode"], body["ResultDesc"]) == (known["ResultCode"], known["ResultDesc"])
    assert body["TransactionID"].endswith("0000000")
    assert await daraja.ledger() == []
    assert await daraja.status_of(OriginalConversationID=body["OriginatorConversationID"]) == "Declined"


@pytest.mark.parametrize(("digits", "status"), [(84, "Completed"), (85, "Declined"), (96, "Completed")])
async def test_a_lost_result_never_comes_but_transaction_status_knows(daraja: Daraja, digits: int, status: str) -> None:
    await daraja.pay(phone(digits), OriginatorConversationID="mine")
    assert await daraja.status_of(OriginalConversationID="mine") == status
    assert len(await daraja.ledger()) == (1 if status == "Completed" else 0)
    await nothing_more_comes(daraja)


async def test_what_was_accepted_is_decided_before_a_later_question_about_it_is_answered(daraja: Daraja) -> None:
    await daraja.pay(phone(85), OriginatorConversationID="mine")
    await daraja.status(OriginalConversationID="mine")
    time.sleep(0.1)  # noqa: ASYNC251 # the whole program is held up until both are due
    [told] = await daraja.receiver.wait_for(1, "/cb/status")
    assert parameters(told.body)["TransactionStatus"] == "Declined"


async def test_86_tells_the_same_success_three_times(daraja: Daraja) -> None:
    await daraja.pay(phone(86))
    first, second, third = await daraja.receiver.wait_for(3)
    assert first.body == second.body == third.body
    assert len(await daraja.ledger()) == 1
    await nothing_more_comes(daraja)


async def test_87_delivers_the_result_before_the_acknowledgement(daraja: Daraja) -> None:
    answer = await daraja.pay(phone(87))
    assert [one.body["Result"]["ConversationID"] for one in daraja.receiver.received] == [
        answer.json()["ConversationID"]
    ]


async def test_88_fails_first_and_then_succeeds_after_all(daraja: Daraja) -> None:
    await daraja.pay(phone(88), OriginatorConversationID="mine")
    failure, success = (one.body["Result"] for one in await daraja.receiver.wait_for(2))
    assert (failure["ResultCode"], success["ResultCode"]) == (1, 0)
    assert failure["ConversationID"] == success["ConversationID"]
    assert len(await daraja.ledger()) == 1
    assert await daraja.status_of(OriginalConversationID="mine") == "Completed"


async def test_89_is_preceded_by_a_forgery_with_the_right_ids_and_a_wrong_amount(daraja: Daraja) -> None:
    await daraja.pay(phone(89), 70)
    forged, true = (one.body for one in await daraja.receiver.wait_for(2))
    assert shape(forged) == shape(true)
    assert forged["Result"]["ConversationID"] == true["Result"]["ConversationID"]
    assert parameters(forged)["TransactionAmount"] == 700
    assert parameters(true)["TransactionAmount"] == 70
    assert [one["receipt"] for one in await daraja.ledger()] == [true["Result"]["TransactionID"]]
    assert forged["Result"]["TransactionID"] != true["Result"]["TransactionID"]


async def test_90_answers_500_and_pays_once_all_the_same(daraja: Daraja) -> None:
    answer = await daraja.pay(phone(90), OriginatorConversationID="mine")
    expected = payload("b2c_error_500_002_1001_system_internal_error")
    assert (answer.status_code, answer.json() | {"requestId": ""}) == (500, expected | {"requestId": ""})
    again = await daraja.pay(phone(90), OriginatorConversationID="mine")
    assert again.json()["errorMessage"] == "Duplicate OriginatorConversationID."
    await result(daraja)
    await nothing_more_comes(daraja)
    assert (await daraja.ledger())[0]["originator_conversation_id"] == "mine"
    assert sum(one["party"] == phone(90) for one in await daraja.ledger()) == 1


async def test_91_meets_the_firewall_and_transaction_status_does_not_know_it(daraja: Daraja) -> None:
    page = payload("http_incapsula_503_html")
    answer = await daraja.pay(phone(91), OriginatorConversationID="mine")
    assert (answer.status_code, answer.text) == (page["status"], page["body"])
    assert await daraja.status_of(OriginalConversationID="mine") == "2032"
    assert await daraja.ledger() == []


async def test_92_closes_the_connection_and_pays_all_the_same(daraja: Daraja, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        await daraja.pay(phone(92), OriginatorConversationID="mine")
    await result(daraja)
    assert [one["party"] for one in await daraja.ledger()] == [phone(92)]
    assert await daraja.status_of(OriginalConversationID="mine") == "Completed"
    assert caplog.records == []


async def test_93_times_out_with_its_own_request_and_then_succeeds(daraja: Daraja) -> None:
    asked = await daraja.pay_body(phone(93))
    await daraja.call("b2c", asked)
    timeout, done = await daraja.receiver.wait_for(2)
    assert (timeout.path, timeout.body) == ("/cb/timeout", asked)
    assert (done.path, done.body["Result"]["ResultCode"]) == ("/cb/result", 0)
    assert len(await daraja.ledger()) == 1


async def test_94_times_out_with_a_result_envelope_and_then_fails(daraja: Daraja) -> None:
    await daraja.pay(phone(94))
    timeout, done = await daraja.receiver.wait_for(2)
    assert timeout.path == "/cb/timeout"
    assert shape(timeout.body) == shape(payload("b2c_timeout_result_envelope"))
    assert done.path == "/cb/result"
    assert done.body["Result"]["ResultCode"] != 0
    assert timeout.body["Result"]["ConversationID"] == done.body["Result"]["ConversationID"]
    assert await daraja.ledger() == []


async def test_95_is_arrested_once_and_the_same_id_is_then_accepted(daraja: Daraja) -> None:
    asked = await daraja.pay_body(phone(95))
    refused = await daraja.call("b2c", asked)
    assert (refused.status_code, refused.json()) == (429, payload("error_fault_spike_arrest"))
    assert (await daraja.call("b2c", asked)).status_code == 200
    assert (await result(daraja))["Result"]["ResultCode"] == 0
    assert (await daraja.push(phone(95))).status_code == 429, "once per phone and operation"


async def test_97_stays_pending(daraja: Daraja) -> None:
    await daraja.pay(phone(97), OriginatorConversationID="mine")
    await nothing_more_comes(daraja)
    assert await daraja.status_of(OriginalConversationID="mine") == "Pending Authorized"


async def test_a_second_payout_with_the_same_originator_id_is_a_duplicate(daraja: Daraja) -> None:
    await daraja.pay(phone(1), OriginatorConversationID="mine")
    answer = await daraja.pay(phone(2), OriginatorConversationID="mine")
    expected = payload("b2c_error_500_002_1001_duplicate")
    assert (answer.status_code, answer.json() | {"requestId": ""}) == (500, expected | {"requestId": ""})
    await result(daraja)
    await nothing_more_comes(daraja)
    assert [one["party"] for one in await daraja.ledger()] == [phone(1), phone(1)]


async def test_a_payout_above_the_utility_balance_is_insufficient(daraja: Daraja) -> None:
    for _ in range(40):
        await daraja.pay(phone(1), 250_000)
    await daraja.receiver.wait_for(40)
    assert await daraja.utility() == 0
    daraja.receiver.forget()
    await daraja.pay(phone(1), 10)
    assert (await result(daraja))["Result"]["ResultCode"] == 1
    assert len(await daraja.ledger()) == 40


async def test_a_wrong_operator_is_acknowledged_refused_in_the_result_and_locked_after_three_tries(
    daraja: Daraja,
) -> None:
    wrong = {"SecurityCredential": await daraja.credential("guess")}
    for _ in range(3):
        assert (await daraja.pay(phone(1), **wrong)).json()["ResponseCode"] == "0"
    await daraja.pay(phone(1))
    results = [one.body["Result"]["ResultCode"] for one in await daraja.receiver.wait_for(4)]
    assert results == [2001, 2001, 2001, 8006]
    await daraja.pay(phone(1), PartyA="600000", ResultURL=f"{daraja.receiver.base_url}/cb/other")
    (other,) = await daraja.receiver.wait_for(1, "/cb/other")
    assert other.body["Result"]["ResultCode"] == 0, "another shortcode is not locked"
    assert len(await daraja.ledger()) == 1


@pytest.mark.parametrize(
    "changes", [{"InitiatorName": "somebody"}, {"SecurityCredential": "not base64!"}, {"SecurityCredential": "QUJD"}]
)
async def test_a_wrong_name_or_an_unreadable_credential_is_2001(daraja: Daraja, changes: dict[str, object]) -> None:
    await daraja.pay(phone(1), **changes)
    assert (await result(daraja))["Result"]["ResultCode"] == 2001
    assert await daraja.ledger() == []
