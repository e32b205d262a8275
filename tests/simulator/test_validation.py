"""What is refused before anything happens, in Daraja's words (daraja/codes.md §6)."""

import asyncio

import pytest

from .conftest import PATHS, Daraja, payload

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"BusinessShortCode": "1234"}, "BusinessShortCode"),
        ({"BusinessShortCode": None}, "BusinessShortCode"),
        ({"Timestamp": "20261301000000"}, "Timestamp"),
        ({"Timestamp": "2026"}, "Timestamp"),
        ({"TransactionType": "CustomerPayBill"}, "TransactionType"),
        ({"Amount": 0}, "Amount"),
        ({"Amount": 250_001}, "Amount"),
        ({"Amount": "1.0"}, "Amount"),
        ({"Amount": 1.5}, "Amount"),
        ({"Amount": True}, "Amount"),
        ({"Amount": "-5"}, "Amount"),
        ({"PartyA": "0700000012"}, "PartyA"),
        ({"PartyB": ""}, "PartyB"),
        ({"PhoneNumber": "254200000012"}, "PhoneNumber"),
        ({"CallBackURL": "not a url"}, "CallBackURL"),
        ({"AccountReference": "longer than 12"}, "AccountReference"),
        ({"AccountReference": "  "}, "AccountReference"),
        ({"TransactionDesc": "longer than thirteen"}, "TransactionDesc"),
        ({"Amount": 0, "PhoneNumber": "x", "CallBackURL": "x"}, "Amount"),
    ],
)
async def test_a_push_names_its_first_bad_field(daraja: Daraja, changes: dict[str, object], field: str) -> None:
    answer = await daraja.push("254700000012", **changes)
    expected = payload("stk_push_error_400_002_02_invalid_amount")
    assert answer.status_code == 400
    assert answer.json().keys() == expected.keys()
    assert answer.json()["errorCode"] == expected["errorCode"]
    assert answer.json()["errorMessage"] == f"Bad Request - Invalid {field}"
    assert await daraja.ledger() == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"OriginatorConversationID": ""}, "OriginatorConversationID"),
        ({"InitiatorName": ""}, "InitiatorName"),
        ({"SecurityCredential": ""}, "SecurityCredential"),
        ({"CommandID": "BusinessPayBill"}, "CommandID"),
        ({"Amount": 9}, "Amount"),
        ({"PartyA": "12345678"}, "PartyA"),
        ({"PartyB": "07"}, "PartyB"),
        ({"Remarks": "x"}, "Remarks"),
        ({"Remarks": "x" * 101}, "Remarks"),
        ({"QueueTimeOutURL": "ftp://127.0.0.1/x"}, "QueueTimeOutURL"),
        ({"ResultURL": ""}, "ResultURL"),
    ],
)
async def test_a_payout_names_its_first_bad_field(daraja: Daraja, changes: dict[str, object], field: str) -> None:
    answer = await daraja.pay("254700000012", **changes)
    assert answer.status_code == 400
    assert answer.json()["errorMessage"] == f"Bad Request - Invalid {field}"


async def test_inquiries_and_reversals_name_their_bad_fields(daraja: Daraja) -> None:
    answers = [
        await daraja.balance(CommandID="TransactionReversal"),
        await daraja.status(IdentifierType="11"),
        await daraja.reverse("too short", 10),
        await daraja.reverse("UAF4K7Q2ZX", 10, RecieverIdentifierType="4"),
    ]
    assert [answer.json()["errorMessage"] for answer in answers] == [
        "Bad Request - Invalid CommandID",
        "Bad Request - Invalid IdentifierType",
        payload("reversal_error_400_002_02")["errorMessage"],
        payload("reversal_error_400_002_02_identifier_type")["errorMessage"],
    ]


async def test_the_correct_spelling_of_the_identifier_type_is_refused(daraja: Daraja) -> None:
    body = {"ReceiverIdentifierType": "11", "RecieverIdentifierType": None}
    answer = await daraja.reverse("UAF4K7Q2ZX", 10, **body)
    assert answer.json()["errorMessage"] == "Bad Request - Invalid RecieverIdentifierType"


@pytest.mark.parametrize("word", ["M-PESA", "mpesa", "Safaricom", "exe", "exec", "cmd", "sql", "query"])
async def test_forbidden_words_in_urls_are_refused_wherever_they_stand(daraja: Daraja, word: str) -> None:
    for url in (f"http://127.0.0.1/cb/{word.upper()}x", f"http://{word.lower()}.localhost/cb"):
        assert "CallBackURL" in (await daraja.push("254700000012", CallBackURL=url)).text
        assert "ResultURL" in (await daraja.balance(ResultURL=url)).text


async def test_numbers_may_be_strings_or_numbers(daraja: Daraja) -> None:
    numbers = {"BusinessShortCode": 174379, "PartyA": 254700000012, "PartyB": 174379, "PhoneNumber": 254700000012}
    assert (await daraja.push("254700000012", amount=1, **numbers)).status_code == 200
    assert (await daraja.push("254700000012", amount="1")).status_code == 200


async def test_the_three_spellings_of_occasion_are_accepted(daraja: Daraja) -> None:
    for spelling in ("Occassion", "Occasion", "occassion"):
        assert (await daraja.pay("254700000012", **{spelling: "Christmas"})).status_code == 200
        assert "Invalid Occassion" in (await daraja.pay("254700000012", **{spelling: "x" * 101})).text


async def test_a_wrong_password_is_wrong_credentials(daraja: Daraja) -> None:
    for answer in (
        await daraja.push("254700000012", Password="MTc0Mzc5"),
        await daraja.push("254700000012", Timestamp="20260115101531"),
        await daraja.query("ws_CO_1", Password="MTc0Mzc5"),
    ):
        expected = payload("stk_push_error_500_001_1001_wrong_credentials")
        assert answer.status_code == 500
        assert answer.json() | {"requestId": ""} == expected | {"requestId": ""}


@pytest.mark.parametrize(
    ("operation", "field"),
    [("stk_push", "BusinessShortCode"), ("b2c", "InitiatorName"), ("reversal", "Initiator")],
)
async def test_without_a_json_content_type_the_first_field_is_called_invalid(
    daraja: Daraja, operation: str, field: str
) -> None:
    headers = {"Authorization": f"Bearer {daraja.token}"}
    answer = await daraja.http.post(PATHS[operation], content=b"{}", headers=headers)
    assert (answer.status_code, answer.json()["errorMessage"]) == (400, f"Bad Request - Invalid {field}")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"x"', b"[" * 30_000, b"\xff\xfe", b"1" * 5000])
async def test_an_unreadable_body_is_an_invalid_payload(daraja: Daraja, content: bytes) -> None:
    headers = {"Authorization": f"Bearer {daraja.token}", "Content-Type": "application/json"}
    answer = await daraja.http.post(PATHS["b2c"], content=content, headers=headers)
    assert (answer.status_code, answer.json()["errorCode"]) == (400, "400.002.05")


async def test_a_body_above_64_kibibytes_is_refused_by_the_gateway(daraja: Daraja) -> None:
    answer = await daraja.push("254700000012", TransactionDesc="x" * 70_000)
    assert answer.status_code == 413
    assert answer.json()["fault"]["detail"]["errorcode"] == "protocol.http.TooBigBody"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("operation", ["stk_push", "b2c"])
async def test_other_methods_are_not_allowed(daraja: Daraja, operation: str, method: str) -> None:
    answer = await daraja.http.request(method, PATHS[operation])
    assert answer.status_code == 405
    assert answer.json()["errorCode"] == payload("error_405_001_method_not_allowed")["errorCode"]
    assert answer.json()["errorMessage"] == f"{method} Method Not Allowed"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/mpesa/stkpush/v9/processrequest", "error_404_001_01_resource_not_found"),
        ("/mpesa/b2c/v9/paymentrequest", "error_404_002_01_resource_not_found"),
        ("/mpesa/b2b/v1/paymentrequest", "error_404_002_01_resource_not_found"),
        ("/mpesa/transactionstatus/v9/query", "error_404_003_01_resource_not_found"),
    ],
)
async def test_a_wrong_path_is_not_found_in_the_words_of_its_family(daraja: Daraja, path: str, expected: str) -> None:
    answer = await daraja.http.post(path, json={})
    assert answer.status_code == 404
    assert answer.json() | {"requestId": ""} == payload(expected) | {"requestId": ""}


async def test_a_path_of_no_family_is_an_unknown_proxy(daraja: Daraja) -> None:
    answer = await daraja.http.get("/mpesa/unknown/v1/path")
    assert (answer.status_code, answer.json()) == (404, payload("error_fault_404_unknown_proxy"))


async def test_a_client_that_leaves_in_the_middle_of_its_body_disturbs_nobody(
    daraja: Daraja, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection(daraja.http.base_url.host, daraja.http.base_url.port)
    head = f"POST {PATHS['b2c']} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {daraja.token}\r\n"
    writer.write(head.encode() + b"Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await daraja.push("254700000012")).status_code == 200
    assert caplog.records == []
