"""What we send has the keys, the types and, where the inputs agree, the values of Safaricom's recorded requests."""

import base64
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mpesa_mcp.daraja.oauth import TOKEN_PATH, authorization
from mpesa_mcp.daraja.operations import (
    B2cPayment,
    BalanceInquiry,
    Body,
    DarajaApp,
    Initiator,
    Purpose,
    Reversal,
    StatusInquiry,
    StkPush,
    StkQuery,
)
from mpesa_mcp.values import EAT, Environment, Kes, Msisdn, Secret, ShortcodeType

PAYLOADS = Path(__file__).parent / "payloads"
INDEX: dict[str, dict[str, Any]] = json.loads((PAYLOADS / "_index.json").read_text("utf-8"))

AT = datetime(2026, 1, 15, 10, 15, 30, tzinfo=EAT)
SANDBOX_PASSKEY = Secret("bfb279f9aa9bdbcf158e97dd71a467cd2e0c893059b10f78e6b72ada1ed2c919")
CREDENTIAL = base64.b64encode(bytes(range(256))).decode()
INITIATOR = Initiator("testapi", Secret("not-sent-in-the-clear"))
PHONE = Msisdn("254700000012")

# Not sent by us: v1 has no OriginatorConversationID, b2cvalidate wants identity documents. The numbers variant is
# the paybill request with JSON numbers, which Daraja takes as well (daraja/api.md §0).
NOT_OURS = {"b2c_request_v1.json", "b2c_request_validate_v2.json", "stk_push_request_paybill_numbers.json"}


def push(*, shortcode: str, party_b: str, shortcode_type: ShortcodeType, passkey: Secret) -> Body:
    return StkPush(
        shortcode=shortcode,
        party_b=party_b,
        shortcode_type=shortcode_type,
        passkey=passkey,
        phone=PHONE,
        amount=Kes.from_shillings(1),
        reference="INV-1042",
        description="Invoice 1042",
        callback_url=Secret("https://example.com/cb/stk/3f6b2c"),
    ).body(AT)


def status(**asked: str) -> Body:
    return StatusInquiry(
        shortcode="600782",
        shortcode_type=ShortcodeType.PAYBILL,
        initiator=INITIATOR,
        remarks="OK",
        occasion="OK",
        result_url=Secret("https://example.com/cb/ts/result/aa"),
        timeout_url=Secret("https://example.com/cb/ts/timeout/aa"),
        receipt=asked.get("receipt"),
        original_conversation_id=asked.get("conversation"),
    ).body(CREDENTIAL)


def our_bodies() -> dict[str, tuple[str, Body]]:
    b2c = B2cPayment(
        shortcode="600992",
        initiator=INITIATOR,
        originator_conversation_id="600997_Test_32et3241ed8yu",
        purpose=Purpose.BUSINESS,
        phone=PHONE,
        amount=Kes.from_shillings(10),
        remarks="remarked",
        occasion="ChristmasPay",
        result_url=Secret("https://example.com/cb/b2c/result/7ab1"),
        timeout_url=Secret("https://example.com/cb/b2c/timeout/7ab1"),
    )
    balance = BalanceInquiry(
        shortcode="600000",
        shortcode_type=ShortcodeType.PAYBILL,
        initiator=INITIATOR,
        remarks="ok",
        result_url=Secret("https://example.com/cb/bal/result/5d"),
        timeout_url=Secret("https://example.com/cb/bal/timeout/5d"),
    )
    reversal = Reversal(
        shortcode="603021",
        initiator=INITIATOR,
        receipt="PDU91HIVIT",
        amount=Kes.from_shillings(200),
        remarks="Payment reversal",
        result_url=Secret("https://example.com/cb/rev/result/c3"),
        timeout_url=Secret("https://example.com/cb/rev/timeout/c3"),
    )
    query = StkQuery(
        shortcode="174379", passkey=SANDBOX_PASSKEY, checkout_request_id="ws_CO_15012026101530123700000012"
    )
    paybill = push(shortcode="174379", party_b="174379", shortcode_type=ShortcodeType.PAYBILL, passkey=SANDBOX_PASSKEY)
    till = push(shortcode="600100", party_b="5000123", shortcode_type=ShortcodeType.TILL, passkey=Secret("0" * 64))
    by_conversation = status(conversation="7071-4170-a0e5-8345632bad442144258")
    return {
        "stk_push_request_paybill.json": (StkPush.path, paybill),
        "stk_push_request_till.json": (StkPush.path, till),
        "stk_query_request.json": (StkQuery.path, query.body(AT)),
        "b2c_request_v3.json": (B2cPayment.path, b2c.body(CREDENTIAL)),
        "balance_request.json": (BalanceInquiry.path, balance.body(CREDENTIAL)),
        "status_request_by_receipt.json": (StatusInquiry.path, status(receipt="NEF61H8J60")),
        "status_request_by_original_conversation_id.json": (StatusInquiry.path, by_conversation),
        "reversal_request.json": (Reversal.path, reversal.body(CREDENTIAL)),
    }


@pytest.mark.parametrize("name", our_bodies())
def test_our_body_is_the_recorded_one(name: str) -> None:
    path, body = our_bodies()[name]
    recorded: dict[str, object] = json.loads((PAYLOADS / name).read_text("utf-8"))
    if recorded.get("Occasion") == "":
        del recorded["Occasion"]  # optional, so an empty one is left out
    assert path == INDEX[name]["path"]
    assert body == recorded


def test_the_token_is_asked_for_as_recorded() -> None:
    recorded = json.loads((PAYLOADS / "oauth_request.json").read_text("utf-8"))
    app = DarajaApp(
        Environment.SANDBOX,
        "https://sandbox.safaricom.co.ke/",
        "EXAMPLE_CONSUMER_KEY",
        Secret("EXAMPLE_CONSUMER_SECRET"),
    )
    assert recorded["path"] == TOKEN_PATH
    assert recorded["headers"]["Authorization"] == authorization(app)


def test_every_recorded_request_is_compared() -> None:
    recorded = {name for name, entry in INDEX.items() if entry["kind"] == "request"}
    assert recorded == set(our_bodies()) | NOT_OURS | {"oauth_request.json"}
