"""Bodies in odd encodings and shapes: what cannot be read in one way settles nothing, and hides nothing."""

import json

import pytest

from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.core import Core

from .factories import a_payout, a_push, accepted, receive, result_body, send, status_of, stk_body

pytestmark = pytest.mark.anyio

TRUE = json.dumps(stk_body())


@pytest.mark.parametrize(
    "body",
    [
        TRUE.encode("utf-16"),
        TRUE.encode("utf-32"),
        TRUE.encode("utf-16-le"),
        TRUE.encode()[:-1],
        TRUE.encode()[: len(TRUE) // 2],
        b"\x00" + TRUE.encode(),
        TRUE.encode() + b"\x00",
        TRUE.encode() + TRUE.encode(),
        b"[" * 60_000,
        b'{"Body":' * 7_000 + b"1" + b"}" * 7_000,
        TRUE.replace('"ResultCode": 0', '"ResultCode": 1, "ResultCode": 0').encode(),
        TRUE.replace('"Body"', '"Body": {}, "Body"', 1).encode(),
        TRUE.replace('"stkCallback"', '"stkCallback": {}, "stkCallback"').encode(),
        TRUE.replace('"ResultCode": 0', '"ResultCode": 0\x00').encode(),
    ],
    ids=[
        "UTF-16",
        "UTF-32",
        "UTF-16 without mark",
        "last byte missing",
        "half",
        "NUL before",
        "NUL after",
        "twice",
        "deep list",
        "deep object",
        "two codes",
        "two bodies",
        "two callbacks",
        "NUL inside",
    ],
)
async def test_a_body_that_is_no_single_json_object_in_utf_8_proves_nothing(
    core: Core, merchant: Principal, body: bytes
) -> None:
    sent = await send(core, merchant, a_push(), accepted())
    assert (await receive(core, merchant, sent, body)).status == "malformed"
    assert await status_of(core, merchant, sent) == "pending"
    await receive(core, merchant, sent, stk_body())
    assert await status_of(core, merchant, sent) == "succeeded"


async def test_a_byte_order_mark_is_read_past(core: Core, merchant: Principal) -> None:
    sent = await send(core, merchant, a_push(), accepted())
    await receive(core, merchant, sent, b"\xef\xbb\xbf" + TRUE.encode())
    assert await status_of(core, merchant, sent) == "succeeded"


async def test_a_name_in_latin_1_costs_the_name_not_the_payment(core: Core, merchant: Principal) -> None:
    sent = await send(core, merchant, a_payout(), accepted())
    body = json.dumps(result_body(), ensure_ascii=False).replace("JANE", "JAN\u00c9").encode("latin-1")
    await receive(core, merchant, sent, body)
    assert await status_of(core, merchant, sent) == "succeeded"


@pytest.mark.parametrize("key", ["Amount", "MpesaReceiptNumber", "PhoneNumber"])
async def test_one_item_named_twice_with_two_values_is_malformed(core: Core, merchant: Principal, key: str) -> None:
    sent = await send(core, merchant, a_push(), accepted())
    body = stk_body()
    body["Body"]["stkCallback"]["CallbackMetadata"]["Item"].append({"Name": key, "Value": 254700000077})
    assert (await receive(core, merchant, sent, body)).status == "malformed"
    assert await status_of(core, merchant, sent) == "pending"
