"""Every recorded body of Daraja goes through the reader that would meet it, with the meaning daraja/codes.md gives.

The expectations are written by hand, one line per file; a file without a line fails the last test.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from mpesa_mcp.daraja import codes
from mpesa_mcp.daraja.codes import Meaning, Verdict
from mpesa_mcp.daraja.conclusions import (
    Accepted,
    NotSent,
    Operation,
    PhoneBusy,
    Refused,
    TokenRefused,
    Unknown,
    conclude,
    refuses_token,
)
from mpesa_mcp.daraja.oauth import DarajaUnreachable, KeysRefused, read_token
from mpesa_mcp.daraja.redaction import redact
from mpesa_mcp.daraja.results import (
    B2cOutcome,
    BalanceOutcome,
    ReversalOutcome,
    StatusOutcome,
    TimeoutShape,
    read_result,
    read_stk_callback,
    read_timeout,
)
from mpesa_mcp.daraja.stk_answers import Decided, Nothing, StillPending, read_stk_answer
from mpesa_mcp.daraja.transport import Reply

PAYLOADS = Path(__file__).parent / "payloads"
INDEX: dict[str, dict[str, Any]] = json.loads((PAYLOADS / "_index.json").read_text("utf-8"))

STK, B2C = Operation.STK_PUSH, Operation.B2C
BALANCE, STATUS, REVERSAL = Operation.BALANCE, Operation.TRANSACTION_STATUS, Operation.REVERSAL
S, F, P, U = Verdict.SUCCEEDED, Verdict.FAILED, Verdict.PENDING, Verdict.UNKNOWN

# Per file: operation, conclusion, code.
ANSWERS: dict[str, tuple[Operation, type, str | None]] = {
    "b2c_ack_2026_id_style.json": (B2C, Accepted, None),
    "b2c_ack_v1.json": (B2C, Accepted, None),
    "b2c_ack_v3.json": (B2C, Accepted, None),
    "b2c_error_400_002_02_invalid_initiatorname.json": (B2C, Refused, "400.002.02"),
    "b2c_error_400_002_02_invalid_partyb.json": (B2C, Refused, "400.002.02"),
    "b2c_error_500_002_1001_duplicate.json": (B2C, Unknown, "500.002.1001"),
    "b2c_error_500_002_1001_system_internal_error.json": (B2C, Unknown, "500.002.1001"),
    "balance_ack.json": (BALANCE, Accepted, None),
    "error_400_003_01_invalid_access_token.json": (STATUS, Refused, "400.003.01"),
    "error_401_002_01_invalid_token.json": (B2C, TokenRefused, "401.002.01"),
    "error_404_001_01_resource_not_found.json": (REVERSAL, Refused, "404.001.01"),
    "error_404_002_01_resource_not_found.json": (B2C, Refused, "404.002.01"),
    "error_404_003_01_resource_not_found.json": (STATUS, Refused, "404.003.01"),
    "error_405_001_method_not_allowed.json": (STK, Refused, "405.001"),
    "error_500_003_02_spike_arrest.json": (STK, NotSent, "500.003.02"),
    "error_500_003_03_quota.json": (B2C, NotSent, "500.003.03"),
    "error_500_003_1001_internal.json": (B2C, Unknown, "500.003.1001"),
    "error_fault_404_unknown_proxy.json": (B2C, Unknown, "messaging.adaptors.http.flow.ApplicationNotFound"),
    "error_fault_504_gateway_timeout.json": (B2C, Unknown, "messaging.adaptors.http.flow.GatewayTimeout"),
    "error_fault_spike_arrest.json": (STK, NotSent, "policies.ratelimit.SpikeArrestViolation"),
    "http_200_html_wrong_host.json": (STK, Unknown, "html"),
    "http_incapsula_403_html.json": (STK, Unknown, "html"),
    "http_incapsula_503_html.json": (B2C, Unknown, "html"),
    "reversal_ack.json": (REVERSAL, Accepted, None),
    "reversal_error_400_002_02.json": (REVERSAL, Refused, "400.002.02"),
    "reversal_error_400_002_02_identifier_type.json": (REVERSAL, Refused, "400.002.02"),
    "status_ack.json": (STATUS, Accepted, None),
    "status_error_500_unavailable.json": (STATUS, Unknown, "500.003.1001"),
    "stk_push_error_400_002_02_invalid_amount.json": (STK, Refused, "400.002.02"),
    "stk_push_error_400_002_02_invalid_businessshortcode.json": (STK, Refused, "400.002.02"),
    "stk_push_error_400_002_02_invalid_callbackurl.json": (STK, Refused, "400.002.02"),
    "stk_push_error_400_002_02_invalid_phonenumber.json": (STK, Refused, "400.002.02"),
    "stk_push_error_400_002_02_invalid_timestamp.json": (STK, Refused, "400.002.02"),
    "stk_push_error_404_001_03_invalid_access_token.json": (STK, TokenRefused, "404.001.03"),
    "stk_push_error_500_001_1001_merchant_does_not_exist.json": (STK, Refused, "500.001.1001"),
    "stk_push_error_500_001_1001_merchantvalidate_wrong_credentials.json": (STK, Refused, "500.001.1001"),
    "stk_push_error_500_001_1001_unable_to_lock_subscriber.json": (STK, PhoneBusy, "500.001.1001"),
    "stk_push_error_500_001_1001_wrong_credentials.json": (STK, Refused, "500.001.1001"),
    # Marked as inferred in the table: not certain enough to prompt a second time.
    "stk_push_error_500_003_02_system_busy.json": (STK, Unknown, "500.003.02"),
    "stk_push_response_success.json": (STK, Accepted, None),
    "stk_push_response_success_legacy_ids.json": (STK, Accepted, None),
}

TOKEN_REFUSALS = {
    "error_400_003_01_invalid_access_token.json",
    "error_401_002_01_invalid_token.json",
    "stk_push_error_404_001_03_invalid_access_token.json",
}

# Per file: answer, result code.
QUERIES: dict[str, tuple[type, str | None]] = {
    "stk_query_error_500_001_1001_being_processed.json": (StillPending, None),
    "stk_query_error_500_001_1001_does_not_exist.json": (Nothing, None),
    "stk_query_error_500_001_1001_empty_message.json": (StillPending, None),
    "stk_query_response_1.json": (Decided, "1"),
    "stk_query_response_1032.json": (Decided, "1032"),
    "stk_query_response_1032_legacy.json": (Decided, "1032"),
    "stk_query_response_1037_ds_timeout.json": (Decided, "1037"),
    "stk_query_response_1037_no_response.json": (Decided, "1037"),
    "stk_query_response_2001.json": (Decided, "2001"),
    "stk_query_response_4999_still_processing.json": (StillPending, None),
    "stk_query_response_success.json": (Decided, "0"),
}

# Per file: code, verdict, amount, receipt.
STK_CALLBACKS: dict[str, tuple[str, Verdict, str | None, str | None]] = {
    "stk_callback_1.json": ("1", F, None, None),
    "stk_callback_1001.json": ("1001", F, None, None),
    "stk_callback_1019.json": ("1019", F, None, None),
    "stk_callback_1025.json": ("1025", F, None, None),
    "stk_callback_1031.json": ("1031", F, None, None),
    "stk_callback_1032.json": ("1032", F, None, None),
    "stk_callback_1037.json": ("1037", F, None, None),
    "stk_callback_1037_no_response.json": ("1037", F, None, None),
    "stk_callback_17.json": ("17", F, None, None),
    "stk_callback_1_legacy_prefix.json": ("1", F, None, None),
    "stk_callback_2.json": ("2", F, None, None),
    "stk_callback_2001.json": ("2001", F, None, None),
    "stk_callback_2001_legacy_prefix.json": ("2001", F, None, None),
    "stk_callback_2028.json": ("2028", F, None, None),
    "stk_callback_26.json": ("26", F, None, None),
    "stk_callback_3.json": ("3", F, None, None),
    "stk_callback_4.json": ("4", F, None, None),
    "stk_callback_8.json": ("8", F, None, None),
    "stk_callback_8006.json": ("8006", F, None, None),
    "stk_callback_9999.json": ("9999", F, None, None),
    "stk_callback_SFC_IC0003.json": ("SFC_IC0003", F, None, None),
    "stk_callback_success.json": ("0", S, "1.00", "NLJ7RT61SV"),
    "stk_callback_success_amount_decimal_2dp.json": ("0", S, "10500.00", "UAF4K7Q2ZY"),
    "stk_callback_success_balance_no_value.json": ("0", S, "1.00", "UAF4K7Q2ZX"),
    "stk_callback_success_balance_object_string.json": ("0", S, "1.00", "UAF4K7Q2ZA"),
    "stk_callback_success_strings.json": ("0", S, "1.00", "UAF4K7Q2ZB"),
}

# Per file: code, verdict, amount, receipt, receiver.
B2C_RESULTS: dict[str, tuple[str, Verdict, str | None, str | None, str | None]] = {
    "b2c_result_1.json": ("1", F, None, None, None),
    "b2c_result_11.json": ("11", F, None, None, None),
    "b2c_result_17.json": ("17", U, None, None, None),
    "b2c_result_2.json": ("2", F, None, None, None),
    "b2c_result_2001.json": ("2001", F, None, None, None),
    "b2c_result_2006.json": ("2006", F, None, None, None),
    "b2c_result_2028.json": ("2028", F, None, None, None),
    "b2c_result_2040.json": ("2040", F, None, None, None),
    "b2c_result_21.json": ("21", F, None, None, None),
    "b2c_result_26.json": ("26", U, None, None, None),
    "b2c_result_3.json": ("3", F, None, None, None),
    "b2c_result_4.json": ("4", F, None, None, None),
    "b2c_result_8.json": ("8", F, None, None, None),
    "b2c_result_8006.json": ("8006", F, None, None, None),
    "b2c_result_R003.json": ("R003", F, None, None, None),
    "b2c_result_SFC_IC0003.json": ("SFC_IC0003", F, None, None, None),
    "b2c_result_success.json": ("0", S, "10.00", "SG632NMUAB", "254700000012"),
    "b2c_result_success_local_format_name.json": ("0", S, "100.00", "SG31FWI0VP", "254700000012"),
    "b2c_result_success_production.json": ("0", S, "1000.00", "SKB9DNCQW0", "254700000012"),
    "b2c_result_success_reordered_ints.json": ("0", S, "8000.00", "LGH3197RIB", "254700000049"),
}

# Per file: code, verdict, utility account.
BALANCE_RESULTS: dict[str, tuple[str, Verdict, str | None]] = {
    "balance_result_2001.json": ("2001", F, None),
    "balance_result_21.json": ("21", F, None),
    "balance_result_success.json": ("0", S, "228037.00"),
    "balance_result_success_numeric.json": ("0", S, "49217.00"),
    "balance_result_success_production.json": ("0", S, "0.00"),
}

# Per file: code, verdict, amount, receipt of the reversal, receipt reversed.
REVERSAL_RESULTS: dict[str, tuple[str, Verdict, str | None, str | None, str | None]] = {
    "reversal_result_1.json": ("1", F, None, None, None),
    "reversal_result_11.json": ("11", F, None, None, None),
    "reversal_result_2001.json": ("2001", F, None, None, None),
    "reversal_result_21.json": ("21", F, None, None, None),
    "reversal_result_8006.json": ("8006", F, None, None, None),
    "reversal_result_R000001.json": ("R000001", U, None, None, None),
    "reversal_result_R000002.json": ("R000002", F, None, None, None),
    "reversal_result_success.json": ("0", S, "1.00", "SKE52PAWR9", "SKC82PACB8"),
    "reversal_result_success_no_params.json": ("0", S, None, "LGR019G3J2", None),
    "reversal_result_success_string_code.json": ("0", S, "100.00", "MJ561H6X5O", "MJ551H6X5D"),
}

# Per file: code, verdict on the question, verdict on the movement, amount, receipt, receiving side.
STATUS_RESULTS: dict[str, tuple[str, Verdict, Verdict, str | None, str | None, str | None]] = {
    "status_result_2001.json": ("2001", F, U, None, None, None),
    "status_result_2032_not_found.json": ("2032", F, U, None, None, None),
    "status_result_authorized.json": ("0", S, P, "300.00", "MBN31H462N", "254700000049"),
    "status_result_cancelled.json": ("0", S, F, "300.00", "MBN31H462N", "254700000049"),
    "status_result_declined.json": ("0", S, F, "300.00", "MBN31H462N", "254700000049"),
    "status_result_expired.json": ("0", S, F, "300.00", "MBN31H462N", "254700000049"),
    "status_result_initiated.json": ("0", S, P, "300.00", "MBN31H462N", "254700000049"),
    "status_result_pending_authorized.json": ("0", S, P, "300.00", "MBN31H462N", "254700000049"),
    "status_result_success.json": ("0", S, S, "300.00", "MBN31H462N", "254700000049"),
    "status_result_success_c2b_production.json": ("0", S, S, "100.00", "SFT1ABCDEF", "600100"),
    "status_result_success_legacy_keys.json": ("0", S, S, "10.00", "LGR919G2AV", "254700000049"),
}

TOKENS: dict[str, type[Exception] | None] = {
    "oauth_error_400_008_01.json": KeysRefused,
    "oauth_error_400_008_02.json": KeysRefused,
    "oauth_error_400_empty_body.json": KeysRefused,
    "oauth_success_int_expiry.json": None,
    "oauth_success_string_expiry.json": None,
}

TIMEOUTS = {"b2c_timeout_result_envelope.json"}

# What we answer to a callback; the sidecar's own tests write it.
OURS = {"result_ack.json", "result_ack_00000000.json", "stk_callback_ack.json"}

# Bodies we send; test_daraja_requests.py compares them with ours.
REQUESTS = {name for name, entry in INDEX.items() if entry["kind"] == "request"}


def reply(name: str) -> Reply:
    """The HTTP answer a file stands for; wrappers carry their own status and headers."""
    raw = (PAYLOADS / name).read_bytes()
    if INDEX[name]["kind"] == "http-wrapper":
        wrapped = json.loads(raw)
        return Reply(wrapped["status"], wrapped["headers"]["Content-Type"], None, wrapped["body"].encode())
    return Reply(INDEX[name].get("http_status", 200), "application/json", None, raw)


def stored(name: str) -> bytes:
    """A posted body as it is read in earnest: after redaction, out of the store."""
    return redact((PAYLOADS / name).read_bytes()).encode()


def check(meaning: Meaning, verdict: Verdict) -> None:
    assert meaning.verdict is verdict
    assert meaning.reason.endswith(".")


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_concluded_as_the_table_says(name: str) -> None:
    operation, conclusion, code = ANSWERS[name]
    answer = reply(name)
    concluded = conclude(answer.status, answer.content_type, answer.body, operation=operation)
    assert type(concluded) is conclusion
    assert getattr(concluded, "code", None) == code
    assert refuses_token(answer.status, answer.body) is (name in TOKEN_REFUSALS)


@pytest.mark.parametrize("name", QUERIES)
def test_an_stk_query_answer_decides_only_what_is_final(name: str) -> None:
    kind, code = QUERIES[name]
    answer = reply(name)
    asked = json.loads(answer.body).get("CheckoutRequestID", "ws_CO_15012026101530123700000012")
    read = read_stk_answer(answer.status, answer.content_type, answer.body, checkout_request_id=asked)
    assert type(read) is kind
    if isinstance(read, Decided):
        assert read.result_code == code
        assert read.checkout_request_id == asked


@pytest.mark.parametrize("name", STK_CALLBACKS)
def test_an_stk_callback_is_read(name: str) -> None:
    code, verdict, amount, receipt = STK_CALLBACKS[name]
    callback = read_stk_callback(stored(name))
    assert callback.result_code == code
    check(codes.stk_meaning(code), verdict)
    assert (str(callback.amount) if callback.amount else None) == amount
    assert callback.receipt == receipt
    assert callback.checkout_request_id is not None
    assert callback.checkout_request_id.startswith("ws_CO_")
    assert callback.merchant_request_id is not None
    assert (callback.phone is not None) is (verdict is S)


@pytest.mark.parametrize("name", B2C_RESULTS)
def test_a_payout_result_is_read(name: str) -> None:
    code, verdict, amount, receipt, receiver = B2C_RESULTS[name]
    result = read_result(stored(name))
    outcome = B2cOutcome.of(result)
    assert result.result_code == code
    check(codes.b2c_meaning(code), verdict)
    assert (str(outcome.amount) if outcome.amount else None) == amount
    assert outcome.receipt == receipt
    assert (outcome.receiver.phone if outcome.receiver else None) == receiver
    assert result.conversation_id is not None
    assert result.conversation_id.startswith("AG_")


@pytest.mark.parametrize("name", BALANCE_RESULTS)
def test_a_balance_result_is_read(name: str) -> None:
    code, verdict, utility = BALANCE_RESULTS[name]
    result = read_result(stored(name))
    outcome = BalanceOutcome.of(result)
    assert result.result_code == code
    check(codes.balance_meaning(code), verdict)
    available = {account.name: str(account.available) for account in outcome.accounts}
    assert available.get("Utility Account") == utility
    assert len(outcome.accounts) == (5 if verdict is S else 0)


@pytest.mark.parametrize("name", REVERSAL_RESULTS)
def test_a_reversal_result_is_read(name: str) -> None:
    code, verdict, amount, receipt, original = REVERSAL_RESULTS[name]
    result = read_result(stored(name))
    outcome = ReversalOutcome.of(result)
    assert result.result_code == code
    check(codes.reversal_meaning(code), verdict)
    assert (str(outcome.amount) if outcome.amount else None) == amount
    assert outcome.receipt == receipt
    assert outcome.original_receipt == original


@pytest.mark.parametrize("name", STATUS_RESULTS)
def test_a_status_result_is_read(name: str) -> None:
    code, verdict, moved, amount, receipt, receiver = STATUS_RESULTS[name]
    result = read_result(stored(name))
    outcome = StatusOutcome.of(result)
    assert result.result_code == code
    check(codes.status_meaning(code), verdict)
    assert outcome.verdict is moved
    assert (str(outcome.amount) if outcome.amount else None) == amount
    assert outcome.receipt == receipt
    assert (outcome.credit_party.number if outcome.credit_party else None) == receiver
    assert (outcome.finalised_at is not None) is (moved in {S, F})


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_answer_is_read(name: str) -> None:
    expected = TOKENS[name]
    if expected is not None:
        with pytest.raises(expected):
            read_token(reply(name))
        return
    assert read_token(reply(name)).expires_in_seconds == 3599


@pytest.mark.parametrize("name", ["http_200_html_wrong_host.json", "http_incapsula_503_html.json"])
def test_a_web_page_instead_of_a_token_is_no_verdict_on_the_keys(name: str) -> None:
    with pytest.raises(DarajaUnreachable):
        read_token(reply(name))


@pytest.mark.parametrize("name", TIMEOUTS)
def test_a_timeout_notice_is_read(name: str) -> None:
    assert read_timeout(stored(name)) is TimeoutShape.RESULT


def test_no_recorded_body_is_left_out() -> None:
    tables = [set(ANSWERS), set(QUERIES), set(STK_CALLBACKS), set(B2C_RESULTS), set(BALANCE_RESULTS)]
    tables += [set(REVERSAL_RESULTS), set(STATUS_RESULTS), set(TOKENS), TIMEOUTS, OURS, REQUESTS]
    files = {path.name for path in PAYLOADS.glob("*.json")} - {"_index.json"}
    assert set.union(*tables) == files
    assert sum(len(table) for table in tables) == len(files)
