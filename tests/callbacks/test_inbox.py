"""The inbox: the path selects the attempt, every known field must agree, and what cannot be read proves nothing."""

from typing import Any

import pytest

from mpesa_mcp.callbacks.models import Channel
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.core import Core

from .factories import (
    OTHER_PHONE,
    PHONE,
    UNCLEAR,
    Sent,
    a_payout,
    a_push,
    accepted,
    hints_of,
    last_event,
    make_merchant,
    payment_of,
    receive,
    result_body,
    send,
    status_of,
    stk_body,
)

pytestmark = pytest.mark.anyio


async def a_pending_payout(core: Core, merchant: Principal) -> Sent:
    return await send(core, merchant, a_payout(), accepted())


async def a_pending_push(core: Core, merchant: Principal) -> Sent:
    return await send(core, merchant, a_push(), accepted())


async def test_a_push_callback_that_agrees_settles_with_its_receipt(core: Core, merchant: Principal) -> None:
    sent = await a_pending_push(core, merchant)
    callback = await receive(core, merchant, sent, stk_body())
    payment = await payment_of(core, merchant, sent)
    assert (payment.status, payment.receipt, payment.result_code) == ("succeeded", "SKE0000AA1", "0")
    assert (callback.status, callback.applied_at, callback.next_action_at) == ("applied", core.clock.now(), None)


async def test_a_payout_result_that_agrees_settles_and_keeps_the_name_apart(core: Core, merchant: Principal) -> None:
    sent = await a_pending_payout(core, merchant)
    await receive(
        core, merchant, sent, result_body(parameters={"ReceiverPartyPublicName": f"{PHONE} - JANE\u200b\nDOE"})
    )
    payment = await payment_of(core, merchant, sent)
    assert (payment.status, payment.receipt) == ("succeeded", "SKE0000BB1")
    assert payment.untrusted_text is not None
    assert "\u200b" not in payment.untrusted_text
    assert "\n" not in payment.untrusted_text
    assert "prose of theirs" not in (payment.reason or "")


@pytest.mark.parametrize("code", [1, "1", " 1 ", 2040, "SFC_IC0003"])
async def test_failure_codes_count_as_numbers_and_as_text(core: Core, merchant: Principal, code: object) -> None:
    sent = await a_pending_payout(core, merchant)
    await receive(core, merchant, sent, result_body(code=code))
    payment = await payment_of(core, merchant, sent)
    assert (payment.status, payment.result_code) == ("failed", str(code).strip())
    # What stands where the receipt would be is none (quirk 34).
    assert payment.receipt is None


@pytest.mark.parametrize("code", ["0", " 0"])
async def test_a_success_code_may_be_text(core: Core, merchant: Principal, code: str) -> None:
    sent = await a_pending_payout(core, merchant)
    await receive(core, merchant, sent, result_body(code=code))
    assert await status_of(core, merchant, sent) == "succeeded"


@pytest.mark.parametrize("code", [4242, "NEVER-SEEN", "00", -1])
async def test_codes_that_are_not_listed_make_it_unknown(core: Core, merchant: Principal, code: object) -> None:
    sent = await a_pending_payout(core, merchant)
    callback = await receive(core, merchant, sent, result_body(code=code))
    payment = await payment_of(core, merchant, sent)
    assert (callback.status, payment.status, payment.receipt) == ("applied", "unknown", None)
    assert payment.next_action_at == core.clock.now()


@pytest.mark.parametrize("code", [None, True, False, 0.0, "", " ", [], {}, [0]], ids=repr)
async def test_a_result_code_that_is_none_is_malformed_and_never_success(
    core: Core, merchant: Principal, code: object
) -> None:
    payout = await send(core, merchant, a_payout(), accepted(1))
    push = await send(core, merchant, a_push(), accepted(2))
    body = result_body()
    body["Result"]["ResultCode"] = code
    pushed = stk_body(2)
    pushed["Body"]["stkCallback"]["ResultCode"] = code
    for sent, said in ((payout, body), (push, pushed)):
        assert (await receive(core, merchant, sent, said)).status == "malformed"
        assert await status_of(core, merchant, sent) == "pending"
        assert await last_event(core, merchant, sent) == ("callback_malformed", None)


@pytest.mark.parametrize(
    "body",
    [
        b'{"Result": {"ResultCode": 1, "ResultCode": 0, "ConversationID": "AG_1"}}',
        b'{"Result": {"ResultCode": 0, "ResultCode": 0, "ConversationID": "AG_1"}}',
        b'{"Result": {"ConversationID": "AG_1"}}',
        b'{"Result": [{"ResultCode": 0}]}',
        b'{"Result": "0"}',
        b'{"ResultCode": 0}',
        b'{"Body": {"stkCallback": {"ResultCode": 0}}}',
        b'[{"Result": {"ResultCode": 0}}]',
        b'{"Result": {"ResultCode": NaN}}',
        b"{}",
        b"",
    ],
    ids=[
        "two codes",
        "one code twice",
        "no code",
        "list",
        "text",
        "no envelope",
        "other envelope",
        "list of all",
        "NaN",
        "nothing",
        "empty",
    ],
)
async def test_a_body_that_can_be_read_in_two_ways_or_in_none_proves_nothing(
    core: Core, merchant: Principal, body: bytes
) -> None:
    sent = await a_pending_payout(core, merchant)
    assert (await receive(core, merchant, sent, body)).status == "malformed"
    assert await status_of(core, merchant, sent) == "pending"
    # The true result still counts.
    await receive(core, merchant, sent, result_body())
    assert await status_of(core, merchant, sent) == "succeeded"


async def test_two_amounts_in_one_body_are_malformed(core: Core, merchant: Principal) -> None:
    sent = await a_pending_payout(core, merchant)
    body = result_body()
    body["Result"]["ResultParameters"]["ResultParameter"].append({"Key": "TransactionAmount", "Value": 1000})
    assert (await receive(core, merchant, sent, body)).status == "malformed"
    assert await status_of(core, merchant, sent) == "pending"


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"Amount": 101}, "amount"),
        ({"Amount": 1.0}, "amount"),
        ({"Amount": "1.0E7"}, "amount"),
        ({"PhoneNumber": int(OTHER_PHONE)}, "phone"),
        ({"CheckoutRequestID": "ws_CO_9"}, "checkout_request_id"),
        ({"MerchantRequestID": "merchant-9"}, "merchant_request_id"),
    ],
)
@pytest.mark.parametrize("code", [0, 1032])
async def test_a_push_callback_that_disagrees_changes_nothing(
    core: Core, merchant: Principal, changed: dict[str, Any], field: str, code: int
) -> None:
    sent = await a_pending_push(core, merchant)
    body = stk_body(code=0, **changed)
    body["Body"]["stkCallback"]["ResultCode"] = code
    callback = await receive(core, merchant, sent, body)
    assert (callback.status, callback.note) == ("mismatched", f"disagrees in: {field}")
    assert await status_of(core, merchant, sent) == "pending"
    assert await last_event(core, merchant, sent) == ("callback_mismatch", None)
    await receive(core, merchant, sent, stk_body())
    assert await status_of(core, merchant, sent) == "succeeded"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (result_body(parameters={"TransactionAmount": 1000}), "amount"),
        (result_body(parameters={"ReceiverPartyPublicName": f"{OTHER_PHONE} - JANE DOE"}), "phone"),
        (result_body(parameters={"ReceiverPartyPublicName": "0700000002 - JANE DOE"}), "phone"),
        (result_body(ConversationID="AG_9"), "conversation_id"),
    ],
    ids=["amount", "phone", "local phone", "conversation"],
)
async def test_a_payout_result_that_disagrees_changes_nothing(
    core: Core, merchant: Principal, body: dict[str, Any], field: str
) -> None:
    sent = await a_pending_payout(core, merchant)
    callback = await receive(core, merchant, sent, body)
    assert (callback.status, callback.note) == ("mismatched", f"disagrees in: {field}")
    assert await status_of(core, merchant, sent) == "pending"


@pytest.mark.parametrize("originator", ["another-one", None])
async def test_another_originator_id_alone_is_no_disagreement(
    core: Core, merchant: Principal, originator: str | None
) -> None:
    """Quirk 33: the sandbox's results carry an id of their own."""
    sent = await a_pending_payout(core, merchant)
    await receive(core, merchant, sent, result_body(OriginatorConversationID=originator))
    assert await status_of(core, merchant, sent) == "succeeded"


async def test_masked_and_local_phones_do_not_disagree(core: Core, merchant: Principal) -> None:
    for number, name in enumerate((f"0{PHONE[3:]} - JANE DOE", "2547****001 - JANE DOE", "JANE DOE"), start=1):
        sent = await send(core, merchant, a_payout(key=f"payout-{number}"), accepted(number))
        await receive(core, merchant, sent, result_body(number, parameters={"ReceiverPartyPublicName": name}))
        assert await status_of(core, merchant, sent) == "succeeded"


async def test_a_receipt_of_another_payment_is_refused(core: Core, merchant: Principal) -> None:
    first = await send(core, merchant, a_payout(key="payout-1"), accepted(1))
    await receive(core, merchant, first, result_body(1))
    second = await send(core, merchant, a_payout(key="payout-2"), accepted(2))
    callback = await receive(core, merchant, second, result_body(2, parameters={"TransactionReceipt": "SKE0000BB1"}))
    assert (callback.status, callback.note) == ("mismatched", "disagrees in: receipt")
    assert await status_of(core, merchant, second) == "pending"


async def test_a_callback_replayed_on_another_payments_path_is_refused(core: Core, merchant: Principal) -> None:
    first = await send(core, merchant, a_push(reference="INV-1"), accepted(1))
    second = await send(core, merchant, a_push(reference="INV-2"), accepted(2))
    assert (await receive(core, merchant, second, stk_body(1))).status == "mismatched"
    third = await send(core, merchant, a_push(reference="INV-3"), UNCLEAR)
    callback = await receive(core, merchant, third, stk_body(1))
    assert callback.status == "mismatched"
    assert callback.note is not None
    assert "checkout_request_id" in callback.note
    assert await hints_of(core, merchant, third) == []
    assert await status_of(core, merchant, first) == "pending"


async def test_the_receipt_of_another_organization_is_no_disagreement(core: Core, merchant: Principal) -> None:
    """One organization must not notice what another one received."""
    other = await make_merchant(core, "globex")
    theirs = await send(core, other, a_payout(), accepted())
    await receive(core, other, theirs, result_body())
    mine = await send(core, merchant, a_payout(), accepted())
    await receive(core, merchant, mine, result_body())
    assert await status_of(core, merchant, mine) == "succeeded"


async def test_another_receipt_for_what_has_one_is_refused(core: Core, merchant: Principal) -> None:
    sent = await a_pending_push(core, merchant)
    await receive(core, merchant, sent, stk_body())
    callback = await receive(core, merchant, sent, stk_body(MpesaReceiptNumber="SKE0000AA9"))
    assert (callback.status, callback.note) == ("mismatched", "disagrees in: receipt")
    assert (await payment_of(core, merchant, sent)).receipt == "SKE0000AA1"


async def test_a_single_parameter_may_be_an_object(core: Core, merchant: Principal) -> None:
    """Quirk 29."""
    sent = await a_pending_payout(core, merchant)
    body = result_body()
    body["Result"]["ResultParameters"]["ResultParameter"] = {"Key": "TransactionAmount", "Value": 100}
    await receive(core, merchant, sent, body)
    payment = await payment_of(core, merchant, sent)
    assert (payment.status, payment.receipt) == ("succeeded", "SKE0000BB1")


async def test_an_announcement_that_more_is_to_come_settles_nothing(core: Core, merchant: Principal) -> None:
    sent = await a_pending_payout(core, merchant)
    for code in (0, 1):
        await receive(core, merchant, sent, result_body(code=code, ResultType=1))
        assert await status_of(core, merchant, sent) == "unknown"
    await receive(core, merchant, sent, result_body())
    assert await status_of(core, merchant, sent) == "succeeded"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"Result": {"ResultType": 1, "ResultCode": "1", "ConversationID": "AG_1"}}',
        b'{"Result": {"ResultType": 0, "ResultCode": 0, "ConversationID": "AG_1", "TransactionID": "SKE0000BB1"}}',
        b'{"InitiatorName": "x", "CommandID": "BusinessPayment", "OriginatorConversationID": "originator-1"}',
        b'{"anything": ["else"]}',
        b"not json at all",
    ],
    ids=["empty", "envelope", "envelope of a success", "echo", "unrecognised", "text"],
)
async def test_a_queue_timeout_of_any_shape_means_unknown_and_the_result_may_still_come(
    core: Core, merchant: Principal, body: bytes
) -> None:
    sent = await a_pending_payout(core, merchant)
    callback = await receive(core, merchant, sent, body, channel=Channel.TIMEOUT)
    payment = await payment_of(core, merchant, sent)
    assert (callback.status, payment.status, payment.next_action_at) == ("applied", "unknown", core.clock.now())
    await receive(core, merchant, sent, result_body())
    assert await status_of(core, merchant, sent) == "succeeded"


async def test_a_queue_timeout_after_the_result_changes_nothing(core: Core, merchant: Principal) -> None:
    sent = await a_pending_payout(core, merchant)
    await receive(core, merchant, sent, result_body())
    await receive(core, merchant, sent, b"", channel=Channel.TIMEOUT)
    assert await status_of(core, merchant, sent) == "succeeded"
