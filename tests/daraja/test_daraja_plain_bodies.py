"""The quick look that lets most bodies pass unredacted: it may be wrong in one direction only."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mpesa_mcp.daraja.redaction import is_plain, redact

WORDS = ["Password", "passkey", "InitiatorName", "initiator", "SecurityCredential", "access_token", "accessToken"]
PIECES = st.one_of(
    st.sampled_from([*WORDS, "Bearer ", "basic ", "/cb/", "%2Fcb%2F", "\\/cb\\/", "Invalid Access Token - ", "x" * 96]),
    st.sampled_from(['"', ":", "{", "}", "=", ">", "\\", "\\u0070", "\x00", "\u017f", "\u212a", "a" * 40, " "]),
    st.text(max_size=5),
)


@given(st.lists(PIECES, max_size=20).map("".join))
@example("pa\u017f\u017fkey=abc")
@example('{"Key": "Consumer_Key", "Value": "abc"}')
def test_what_is_plain_is_what_redaction_leaves_as_it_is(text: str) -> None:
    raw = text.encode()
    if is_plain(raw):
        assert redact(raw) == text


@pytest.mark.parametrize(
    "word", [*WORDS, "Authorization", "consumer_secret", "consumerkey", "Bearer", "BASIC", "/cb/x"]
)
def test_what_names_a_secret_is_looked_at_closely(word: str) -> None:
    assert not is_plain(json.dumps({word: "abcdefgh"}).encode())


def test_a_usual_result_is_plain() -> None:
    result = {"Body": {"stkCallback": {"ResultCode": 0, "CheckoutRequestID": "ws_CO_1", "ResultDesc": "Processed."}}}
    assert is_plain(json.dumps(result).encode())
