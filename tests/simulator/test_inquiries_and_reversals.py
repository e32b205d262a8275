"""Balance, transaction status and reversal: their shapes, and that they agree with the ledger."""

from typing import Any

import pytest

from .conftest import SHORTCODE, Daraja, parameters, payload
from .shapes import shape

pytestmark = pytest.mark.anyio

CUSTOMER = "254700000012"


async def received(daraja: Daraja, amount: int = 1500) -> str:
    """The receipt of a payment that a customer made."""
    await daraja.push(CUSTOMER, amount)
    await daraja.receiver.wait_for(1, "/cb/stk")
    daraja.receiver.forget()
    return str((await daraja.ledger())[-1]["receipt"])


async def result(daraja: Daraja, path: str = "/cb/result") -> Any:
    (callback,) = await daraja.receiver.wait_for(1, path)
    daraja.receiver.forget()
    return callback.body


def without_accounts_that_vary(body: Any) -> Any:
    return [account.split("|")[:2] for account in parameters(body)["AccountBalance"].split("&")]


async def test_a_balance_has_the_shape_captured_in_production(daraja: Daraja) -> None:
    answer = await daraja.balance()
    assert shape(answer.json()) == shape(payload("balance_ack"))
    body = await result(daraja)
    assert shape(body) == shape(payload("balance_result_success_production"))
    assert parameters(body)["AccountBalance"] == (
        "Working Account|KES|10000000.00|10000000.00|0.00|0.00&Utility Account|KES|10000000.00|10000000.00|0.00|0.00"
        "&Charges Paid Account|KES|0.00|0.00|0.00|0.00&Organization Settlement Account|KES|0.00|0.00|0.00|0.00"
    )
    assert body["Result"]["TransactionID"].endswith("0000000")


async def test_a_balance_asked_for_with_a_wrong_password_is_2001(daraja: Daraja) -> None:
    await daraja.balance(SecurityCredential=await daraja.credential("guess"))
    body = (await result(daraja))["Result"]
    known = payload("balance_result_21")["Result"]
    assert (body["ResultCode"], shape(body)) == (2001, shape(known))


async def test_balances_agree_with_the_ledger_after_all_kinds_of_movement(daraja: Daraja) -> None:
    receipt = await received(daraja, 4000)
    await received(daraja, 300)
    await daraja.pay(CUSTOMER, 1000)
    await result(daraja)
    await daraja.reverse(receipt, 4000)
    await result(daraja)
    movements = await daraja.ledger()
    assert [one["kind"] for one in movements] == ["stk", "stk", "b2c", "reversal"]
    change = sum(one["amount"] if one["kind"] == "stk" else -one["amount"] for one in movements)
    assert await daraja.utility() == 10_000_000 + change == 10_000_000 - 700


async def test_shortcodes_have_accounts_of_their_own(daraja: Daraja) -> None:
    await received(daraja)
    await daraja.balance(PartyA="600000")
    assert "Utility Account|KES|10000000.00" in parameters(await result(daraja))["AccountBalance"]


async def test_the_status_of_an_incoming_payment_has_the_production_shape(daraja: Daraja) -> None:
    receipt = await received(daraja)
    answer = await daraja.status(TransactionID=receipt)
    assert shape(answer.json()) == shape(payload("status_ack"))
    body = await result(daraja, "/cb/status")
    assert shape(body) == shape(payload("status_result_success_c2b_production"))
    found = parameters(body)
    assert (found["TransactionStatus"], found["Amount"], found["ReceiptNo"]) == ("Completed", 1500, receipt)


async def test_the_status_of_a_payout_names_the_debit_party_twice_as_the_official_sample(daraja: Daraja) -> None:
    await daraja.pay(CUSTOMER, OriginatorConversationID="mine")
    await result(daraja)
    await daraja.status(OriginalConversationID="mine")
    body = await result(daraja, "/cb/status")
    sample = payload("status_result_success")["Result"]["ResultParameters"]["ResultParameter"]
    found = body["Result"]["ResultParameters"]["ResultParameter"]
    assert [one["Key"] for one in found] == [one["Key"] for one in sample]
    assert ["Value" in one for one in found] == ["Value" in one for one in sample]
    assert [one["Value"] for one in found if one["Key"] == "DebitPartyName"] == [
        f"{SHORTCODE} - Simulated Organization",
        f"{CUSTOMER} - SIMULATED CUSTOMER",
    ]


async def test_an_undecided_payout_has_no_finalised_time(daraja: Daraja) -> None:
    await daraja.pay("254700000097", OriginatorConversationID="mine")
    await daraja.status(OriginalConversationID="mine")
    body = await result(daraja, "/cb/status")
    sample = payload("status_result_authorized")["Result"]["ResultParameters"]["ResultParameter"]
    found = body["Result"]["ResultParameters"]["ResultParameter"]
    assert [one["Key"] for one in found] == [one["Key"] for one in sample]


async def test_an_unknown_receipt_is_2032(daraja: Daraja) -> None:
    await daraja.status(TransactionID="UAF4K7Q2ZX")
    body = await result(daraja, "/cb/status")
    known = payload("status_result_2032_not_found")
    assert shape(body) == shape(known)
    assert body["Result"]["ResultDesc"] == known["Result"]["ResultDesc"]


async def test_another_shortcodes_receipt_is_unknown(daraja: Daraja) -> None:
    receipt = await received(daraja)
    assert await daraja.status_of(TransactionID=receipt, PartyA="600000") == "2032"
    assert await daraja.status_of(TransactionID=receipt) == "Completed"


async def test_a_status_question_without_any_id_is_25(daraja: Daraja) -> None:
    assert await daraja.status_of(TransactionID="", OriginalConversationID="") == "25"


async def test_a_status_question_without_occasion_has_a_reference_without_value(daraja: Daraja) -> None:
    await daraja.status(TransactionID="UAF4K7Q2ZX", Occasion="")
    body = await result(daraja, "/cb/status")
    assert body["Result"]["ReferenceData"] == payload("status_result_2001")["Result"]["ReferenceData"]


async def test_a_reversal_returns_the_money_with_a_receipt_of_its_own(daraja: Daraja) -> None:
    receipt = await received(daraja)
    answer = await daraja.reverse(receipt, 1500)
    assert shape(answer.json()) == shape(payload("reversal_ack"))
    body = await result(daraja)
    assert shape(body) == shape(payload("reversal_result_success"))
    movement = (await daraja.ledger())[-1]
    assert movement | {"at": ""} == {
        "kind": "reversal",
        "shortcode": SHORTCODE,
        "party": CUSTOMER,
        "amount": 1500,
        "receipt": body["Result"]["TransactionID"],
        "originator_conversation_id": answer.json()["OriginatorConversationID"],
        "checkout_request_id": None,
        "at": "",
    }
    assert movement["receipt"] != receipt == parameters(body)["OriginalTransactionID"]
    assert await daraja.utility() == 10_000_000


async def test_reversed_money_cannot_be_reversed_again_even_at_the_same_time(daraja: Daraja) -> None:
    receipt = await received(daraja)
    await daraja.reverse(receipt, 1500)
    await daraja.reverse(receipt, 1500)
    first, second = (one.body["Result"] for one in await daraja.receiver.wait_for(2))
    known = payload("reversal_result_R000001")["Result"]
    assert first["ResultCode"] == 0
    assert (second["ResultCode"], second["ResultDesc"]) == (known["ResultCode"], known["ResultDesc"])
    assert shape(second) == shape(known)
    assert await daraja.utility() == 10_000_000


async def test_only_whole_incoming_payments_of_this_shortcode_are_reversible(daraja: Daraja) -> None:
    receipt = await received(daraja)
    await daraja.pay(CUSTOMER)
    await result(daraja)
    payout = (await daraja.ledger())[-1]
    refused = [
        (receipt, 1499, {}),
        (receipt, 1500, {"ReceiverParty": "600000"}),
        (payout["receipt"], payout["amount"], {}),
        ("UAF4K7Q2ZX", 10, {}),
    ]
    for asked, amount, changes in refused:
        await daraja.reverse(asked, amount, **changes)
        body = await result(daraja)
        known = payload("reversal_result_R000002")
        assert shape(body) == shape(known)
        assert body["Result"]["ResultCode"] == known["Result"]["ResultCode"]
    assert len(await daraja.ledger()) == 2


async def test_money_that_was_paid_out_meanwhile_cannot_be_reversed(daraja: Daraja) -> None:
    receipt = await received(daraja, 10)
    for _ in range(40):
        await daraja.pay(CUSTOMER, 250_000)
    await daraja.receiver.wait_for(40)
    daraja.receiver.forget()
    await daraja.pay(CUSTOMER, 10)
    await result(daraja)
    await daraja.reverse(receipt, 10)
    assert (await result(daraja))["Result"]["ResultCode"] == 1


async def test_a_reversed_payment_stays_completed_and_the_reversal_can_be_asked_about(daraja: Daraja) -> None:
    receipt = await received(daraja)
    conversation = (await daraja.reverse(receipt, 1500)).json()["ConversationID"]
    own_receipt = (await result(daraja))["Result"]["TransactionID"]
    assert await daraja.status_of(TransactionID=receipt) == "Completed"
    assert await daraja.status_of(OriginalConversationID=conversation) == "Completed"
    assert await daraja.status_of(TransactionID=own_receipt) == "Completed"
