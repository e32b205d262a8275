"""What pauses an app and what does not: trouble is Daraja's, a refusal is the request's."""

import json

import pytest

from mpesa_mcp.daraja.conclusions import NotSent, Refused, Unknown
from mpesa_mcp.daraja.transport import NOT_CONNECTED, Reply
from mpesa_mcp.daraja.trouble import Reason, Trouble, trouble_in

PAGE = b"<html>Request unsuccessful. Incapsula incident</html>"


def a_reply(status: int, body: object, *, retry_after: str | None = None) -> Reply:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, "application/json", retry_after, content)


def error(status: int, code: str, message: str = "") -> Reply:
    return a_reply(status, {"requestId": "1", "errorCode": code, "errorMessage": message})


FAULT = {"fault": {"faultstring": "x", "detail": {"errorcode": "policies.ratelimit.SpikeArrestViolation"}}}


@pytest.mark.parametrize(
    "answer",
    [
        a_reply(429, FAULT),
        a_reply(500, FAULT),
        a_reply(429, b""),
        error(500, "500.003.02", "Error Occurred: Spike Arrest Violation"),
        error(500, "500.003.02", "System is busy. Please try again in few minutes."),
        error(429, "429.001", "Too many"),
        NotSent("policies.ratelimit.SpikeArrestViolation", "", None),
    ],
)
def test_a_limit_is_trouble_that_is_proven_not_to_have_been_sent(answer: Reply | NotSent) -> None:
    assert trouble_in(answer) == Trouble(Reason.RATE_LIMITED, proven_unsent=True)


@pytest.mark.parametrize(
    "answer",
    [
        error(500, "500.003.03", "Error Occurred: Quota Violation"),
        NotSent("policies.ratelimit.QuotaViolation", "", None),
    ],
)
def test_a_quota_that_is_used_up_is_told_apart_from_haste(answer: Reply | NotSent) -> None:
    assert trouble_in(answer) == Trouble(Reason.QUOTA_USED_UP, proven_unsent=True)


def test_what_daraja_asks_for_is_kept() -> None:
    found = trouble_in(a_reply(429, b"", retry_after="7"))
    assert found is not None
    assert found.retry_after_seconds == 7


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Unknown("timeout", ""), Reason.NO_ANSWER),
        (Unknown("connection_lost", ""), Reason.NO_ANSWER),
        (a_reply(503, PAGE), Reason.WEB_PAGE),
        (a_reply(403, PAGE), Reason.WEB_PAGE),
        (a_reply(200, PAGE), Reason.WEB_PAGE),
        (a_reply(500, b""), Reason.SERVER_ERROR),
        (a_reply(502, {"fault": {"detail": {"errorcode": "messaging.Timeout"}}}), Reason.SERVER_ERROR),
        (error(500, "500.003.1001", "Internal Server Error"), Reason.SERVER_ERROR),
        (error(503, "00.002.1001", "Maintenance"), Reason.SERVER_ERROR),
    ],
)
def test_what_may_have_been_sent_is_trouble_of_the_other_kind(answer: Reply | Unknown, reason: Reason) -> None:
    assert trouble_in(answer) == Trouble(reason)


def test_no_connection_is_trouble_before_anything_was_sent() -> None:
    assert trouble_in(NOT_CONNECTED) == Trouble(Reason.NOT_CONNECTED, proven_unsent=True)


@pytest.mark.parametrize(
    "answer",
    [
        a_reply(200, {"ResponseCode": "0", "CheckoutRequestID": "ws_CO_1"}),
        a_reply(200, {"ResponseCode": "0", "ResultCode": "1037"}),
        a_reply(200, {"unexpected": True}),
        error(400, "400.002.02", "Bad Request - Invalid Amount"),
        error(401, "401.003.01"),
        error(404, "404.001.03", "Invalid Access Token"),
        error(500, "500.001.1001", "Unable to lock subscriber, a transaction is already in process"),
        error(500, "500.001.1001", "Wrong credentials"),
        error(500, "500.001.1001", "The transaction is being processed"),
        error(500, "500.001.1001", ""),
        error(500, "500.002.1001", "Duplicate OriginatorConversationID."),
        Refused("keys_refused", ""),
    ],
)
def test_an_answer_about_one_request_is_no_trouble(answer: Reply | Refused) -> None:
    assert trouble_in(answer) is None
