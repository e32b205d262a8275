"""Requests refuse what Daraja would, hide their secrets, and write plain characters only."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from mpesa_mcp.daraja.operations import (
    B2cPayment,
    DarajaApp,
    Initiator,
    Purpose,
    Reversal,
    StatusInquiry,
    StkPush,
    StkQuery,
)
from mpesa_mcp.errors import InputError
from mpesa_mcp.values import Environment, Kes, Msisdn, Secret, ShortcodeType

AT = datetime(2026, 1, 15, 21, 30, tzinfo=UTC)
URLS: dict[str, Any] = {
    "result_url": Secret("https://pay.example/cb/a1/b2"),
    "timeout_url": Secret("https://pay.example/cb/a1/b2/t"),
}
INITIATOR = Initiator("testapi", Secret("s3cret-password"))


def push(**changes: Any) -> StkPush:
    asked: dict[str, Any] = {
        "shortcode": "174379",
        "party_b": "174379",
        "shortcode_type": ShortcodeType.PAYBILL,
        "passkey": Secret("s3cret-passkey"),
        "phone": Msisdn("254700000012"),
        "amount": Kes.from_shillings(1500),
        "reference": "INV 1",
        "callback_url": Secret("https://pay.example/cb/a1/b2"),
    }
    return StkPush(**(asked | changes))


def payout(**changes: Any) -> B2cPayment:
    asked: dict[str, Any] = {
        "shortcode": "600992",
        "initiator": INITIATOR,
        "originator_conversation_id": "pay_01k0000000",
        "purpose": Purpose.SALARY,
        "phone": Msisdn("254700000012"),
        "amount": Kes.from_shillings(10),
        "remarks": "May salary",
        **URLS,
    }
    return B2cPayment(**(asked | changes))


def status(**changes: Any) -> StatusInquiry:
    asked: dict[str, Any] = {
        "shortcode": "600992",
        "shortcode_type": ShortcodeType.TILL,
        "initiator": INITIATOR,
        "remarks": "check",
        **URLS,
    }
    return StatusInquiry(**(asked | changes))


def test_the_password_is_stamped_in_nairobi_time() -> None:
    body = push().body(AT)
    assert body["Timestamp"] == "20260116003000"
    assert base64.b64decode(body["Password"]).decode() == "174379s3cret-passkey20260116003000"


def test_amounts_are_whole_shillings_without_decimals() -> None:
    assert push().body(AT)["Amount"] == "1500"
    with pytest.raises(InputError):
        push(amount=Kes(150_050))
    with pytest.raises(InputError):
        payout(amount=Kes(0))
    with pytest.raises(InputError):
        payout(amount=Kes(-1000))


@pytest.mark.parametrize("reference", ["", "thirteen char", "INV#1", "a/b", "réf", "a\nb"])
def test_a_reference_daraja_would_lose_is_refused(reference: str) -> None:
    with pytest.raises(InputError):
        push(reference=reference)


@pytest.mark.parametrize("shortcode", ["", "1234", "12345678", "17437a", "١٧٤٣٧٩"])
def test_a_shortcode_has_five_to_seven_digits(shortcode: str) -> None:
    with pytest.raises(InputError):
        push(shortcode=shortcode)
    with pytest.raises(InputError):
        push(party_b=shortcode)
    with pytest.raises(InputError):
        payout(shortcode=shortcode)


def test_special_characters_leave_descriptions_and_remarks() -> None:
    assert push(description="Tom's <b>#1 & more").body(AT)["TransactionDesc"] == "Tom s b 1 mor"
    assert payout(remarks="May & June: @salary").body("c")["Remarks"] == "May June salary"
    assert payout(remarks="!").body("c")["Remarks"] == "Payment"
    assert payout(occasion="x" * 300).body("c")["Occassion"] == "x" * 100


def test_a_push_without_description_repeats_its_reference() -> None:
    assert push().body(AT)["TransactionDesc"] == "INV 1"


@pytest.mark.parametrize(
    ("purpose", "command"),
    [
        (Purpose.BUSINESS, "BusinessPayment"),
        (Purpose.SALARY, "SalaryPayment"),
        (Purpose.PROMOTION, "PromotionPayment"),
    ],
)
def test_a_purpose_is_a_command(purpose: Purpose, command: str) -> None:
    assert payout(purpose=purpose).body("c")["CommandID"] == command


@pytest.mark.parametrize("conversation", ["", "short", "with space", "x" * 65, "päy_12345678"])
def test_a_payout_has_a_plain_id_of_its_own(conversation: str) -> None:
    with pytest.raises(InputError):
        payout(originator_conversation_id=conversation)


def test_a_till_asks_with_the_identifier_of_tills() -> None:
    assert status(receipt="NEF61H8J60").body("c")["IdentifierType"] == "2"


def test_a_status_inquiry_needs_something_to_ask_about() -> None:
    with pytest.raises(InputError):
        status()
    with pytest.raises(InputError):
        status(receipt="", original_conversation_id="")
    both = status(receipt="NEF61H8J60", original_conversation_id="AG_1").body("c")
    assert (both["TransactionID"], both["OriginalConversationID"]) == ("NEF61H8J60", "AG_1")


def test_a_reversal_needs_a_receipt() -> None:
    with pytest.raises(InputError):
        Reversal(
            shortcode="600992", initiator=INITIATOR, receipt="", amount=Kes.from_shillings(1), remarks="r2", **URLS
        )


def test_nothing_secret_or_personal_is_printed() -> None:
    query = StkQuery(shortcode="174379", passkey=Secret("s3cret"), checkout_request_id="ws_CO_1512026700000012")
    app = DarajaApp(Environment.SANDBOX, "https://sandbox.safaricom.co.ke", "s3cret-key", Secret("s3cret"))
    for request in (push(), payout(), status(receipt="R1"), query, app, INITIATOR):
        assert "s3cret" not in repr(request)
        assert "/cb/" not in repr(request)
        assert "700000012" not in repr(request)


@pytest.mark.parametrize("environment", [Environment.SANDBOX, Environment.PRODUCTION])
def test_safaricom_is_reached_over_https_only(environment: Environment) -> None:
    with pytest.raises(InputError):
        DarajaApp(environment, "http://127.0.0.1:8766", "key", Secret("secret"))


def test_every_body_is_strings_that_json_can_hold() -> None:
    for body in (push().body(AT), payout().body("c"), status(receipt="R").body("c")):
        assert all(type(value) is str for value in body.values())
        assert json.loads(json.dumps(body)) == body
