"""Bodies are stored without our secrets, and read afterwards as if nothing had been taken out."""

import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpesa_mcp.daraja.redaction import redact

CREDENTIAL = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g/+" * 7 + "=="
TOKEN = "c9SQxWWhmdVRlyh0zh8gZDTkubVF"
PATH = "3f6b2c0a9d8e7f61/9a0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d"

ECHO = {
    "OriginatorConversationID": "pay_01k0000000",
    "InitiatorName": "testapi",
    "SecurityCredential": CREDENTIAL,
    "CommandID": "BusinessPayment",
    "Amount": "10",
    "PartyB": "254700000012",
    "Remarks": "May salary",
    "QueueTimeOutURL": f"https://pay.example/cb/{PATH}/timeout",
    "ResultURL": f"https://pay.example/cb/{PATH}",
}
SECRETS = ("testapi", "s3cret", CREDENTIAL[:40], TOKEN, "3f6b2c0a9d8e7f61", "9a0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d")


def assert_clean(text: str) -> None:
    assert not [secret for secret in SECRETS if secret in text]


def test_an_echoed_request_keeps_only_what_is_no_secret() -> None:
    text = redact(json.dumps(ECHO).encode())
    assert_clean(text)
    kept = json.loads(text)
    assert kept["SecurityCredential"] == "…"
    assert kept["ResultURL"] == "https://pay.example/cb/…"
    assert kept["PartyB"] == "254700000012"
    assert kept["OriginatorConversationID"] == ECHO["OriginatorConversationID"]


@pytest.mark.parametrize(
    "raw",
    [
        json.dumps(ECHO)[:-40],
        json.dumps(ECHO).replace('"', "'"),
        json.dumps(ECHO).replace("/", "\\/"),
        json.dumps(ECHO).replace("/cb/", "\\u002fcb\\u002F"),
        json.dumps(ECHO).replace("Security", "Secur\\u0069ty"),
        json.dumps({"deep": [{"echo": json.dumps(ECHO)}]}),
        json.dumps(ECHO) + ",,",
        "\ufeff" + json.dumps(ECHO),
        f"SecurityCredential={CREDENTIAL}&InitiatorName=testapi&ResultURL=https%3A%2F%2Fpay.example%2Fcb%2F{PATH}",
        f"<InitiatorName>testapi</InitiatorName><SecurityCredential>{CREDENTIAL}</SecurityCredential>",
        f"Error Occurred - Invalid Access Token - {TOKEN}",
        json.dumps({"errorMessage": f"Error Occurred - Invalid Access Token - {TOKEN}"}),
        f"Authorization: Bearer {TOKEN}",
        json.dumps({"headers": {"Authorization": f"Bearer {TOKEN}"}}),
        json.dumps({"headers": [f"authorization: Basic {TOKEN}"]}),
        json.dumps({"Password": 's3cret with "quotes" and, commas'}),
        json.dumps({"Key": "InitiatorPassword", "Value": "s3cret"}),
        json.dumps([{"Key": "Password", "Value": "s3cret"}, {"Key": "Amount", "Value": "10"}]),
        '{"Password": "s3cret',
        '{"access_token" : s3cret',
        f'{{"ResultURL": "https://pay.example/cb/{PATH}',
    ],
)
def test_no_secret_survives_in_any_shape(raw: str) -> None:
    text = redact(raw.encode())
    assert_clean(text)
    assert redact(text.encode()) == text


def test_a_number_as_a_secret_is_taken_out_and_the_json_stays_json() -> None:
    text = redact(b'{"Password": 1234567, "OriginatorConversationID": "o-1"}')
    assert json.loads(text) == {"Password": "…", "OriginatorConversationID": "o-1"}


@pytest.mark.parametrize(
    "raw",
    [
        '{"Result":{"ResultCode":0,"ResultDesc":"The initiator information is invalid.","Amount":1.00}}',
        '{ "Name" : "JOS\\u00c9", "Value" : 10500.00 , "x":[1e2,null,true] }',
        '{"Key":"QueueTimeoutURL","Value":"https://internalsandbox.safaricom.co.ke/mpesa/b2cresults/v1/submit"}',
        '{"Key":"Amount","Value":"10"}',
        "",
        "not json at all",
    ],
)
def test_a_body_without_secrets_stays_as_it_came(raw: str) -> None:
    assert redact(raw.encode()) == raw


def test_bytes_no_database_stores_are_replaced() -> None:
    assert redact(b"a\x00b\xff") == "a\ufffdb\ufffd"


@pytest.mark.parametrize(
    "bomb",
    [
        b'"\\' * 32000,
        b'\\"' * 32000,
        b'"' + b"\\" * 65000,
        b"/cb/" * 16000,
        b"A" * 65000,
        b"[" * 65000,
        b"password:" * 7000,
        b"password " * 7000,
        b'"Key":"Password",' * 3800,
        b"bearer " * 9000,
        b" " * 65000,
        b"authorization" + b" " * 65000,
        b"invalid access token - " * 2900,
        b"\\/" * 32000,
    ],
)
def test_no_input_makes_it_slow(bomb: bytes) -> None:
    started = time.process_time()
    redact(bomb)
    assert time.process_time() - started < 2


PIECES = st.sampled_from(
    [
        '"',
        "\\",
        "/cb/",
        "%2Fcb%2F",
        "Password",
        "SecurityCredential",
        "Key",
        "Value",
        ":",
        "=",
        ",",
        "{",
        "}",
        "[",
        "]",
        "Bearer ",
        "Basic ",
        "authorization",
        " ",
        "a",
        "1",
        "…",
        "A" * 50,
        "\\/",
        "\\u002f",
        "invalid access token - ",
        "abcdefgh",
        "'",
        "<",
        ">",
        "\n",
        '"Password":"x"',
        '{"Key":"Password","Value":"x"}',
    ]
)


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(PIECES, max_size=14).map("".join))
def test_redacting_twice_is_redacting_once(raw: str) -> None:
    once = redact(raw.encode())
    assert redact(once.encode()) == once


JSON = st.recursive(
    st.one_of(st.none(), st.integers(), PIECES),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(PIECES, inner, max_size=3)),
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(JSON)
def test_json_stays_json_of_the_same_shape(tree: object) -> None:
    def shape(node: object) -> object:
        if isinstance(node, dict):
            return [shape(value) for value in node.values()]
        return [shape(value) for value in node] if isinstance(node, list) else "leaf"

    pairs = json.loads(redact(json.dumps(tree).encode()), object_pairs_hook=lambda found: [v for _, v in found])
    assert shape(pairs) == shape(json.loads(json.dumps(tree)))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(alphabet="s3cret", min_size=6, max_size=6), st.text(max_size=10), st.text(max_size=10))
def test_a_secret_of_any_characters_is_taken_out(_: str, before: str, after: str) -> None:
    secret = f"{before}s3cret{after}"
    assert "s3cret" not in redact(json.dumps({"a": 1, "SecurityCredential": secret, "b": 2}).encode())
    assert "s3cret" not in redact(json.dumps({"Password": secret}, ensure_ascii=False).encode("utf-8", "replace"))
