"""Logs: one JSON object a line on stderr, and neither a secret nor a whole phone number in it."""

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from mpesa_mcp.logs import configure_logs, redact_event, redact_text
from mpesa_mcp.values import Msisdn, Secret

PHONE = "254700000020"
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Lines]:
    """The log lines since the last call, each parsed; stdout must have stayed empty."""
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logs(getattr(request, "param", "DEBUG"))

    def lines() -> list[dict[str, Any]]:
        assert out.getvalue() == ""
        text = err.getvalue()
        err.seek(0)
        err.truncate()
        assert text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]

    yield lines
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_an_event_is_one_json_object_on_stderr(written: Lines) -> None:
    structlog.get_logger("mpesa_mcp.test").info("payment_opened", payment_id="pay_1", cents=1000, note="a\nb")
    [line] = written()
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "payment_opened", "level": "info", "payment_id": "pay_1", "cents": 1000, "note": "a\nb"}


def test_a_record_of_a_library_is_one_json_object_too(written: Lines) -> None:
    logging.getLogger("library").warning("connection %s lost\nat once", 7, extra={"attempt": 3})
    [line] = written()
    assert line["event"] == "connection 7 lost\nat once"
    assert line["level"] == "warning"
    assert line["attempt"] == 3


def test_an_exception_stays_on_its_line(written: Lines) -> None:
    for log in (structlog.get_logger("ours"), logging.getLogger("library")):
        try:
            raise ValueError("something odd")
        except ValueError:
            log.exception("it_failed")
        [line] = written()
        assert line["event"] == "it_failed"
        assert "ValueError: something odd" in line["exception"]


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "passkey",
        "consumer_secret",
        "SecurityCredential",
        "Authorization",
        "access_token",
        "api_key",
        "cookie",
    ],
)
def test_a_value_under_a_secret_name_is_not_written(written: Lines, name: str) -> None:
    structlog.get_logger().info("call", **{name: "Zx9-plain"}, body={name: ["Zx9-plain"], "deeper": [{name: "Zx9"}]})
    logging.getLogger("library").info("call", extra={name: "Zx9-plain"})
    lines = written()
    assert len(lines) == 2
    assert "Zx9" not in json.dumps(lines)
    assert all(line[name] == "…" for line in lines)


SECRET_TEXTS = {
    "a callback path": ("POST /cb/0a1b2c/0123456789abcdef/timeout 200", "0123456789abcdef"),
    "a callback address": ("https://hooks.example/cb/0a1b2c/0123456789abcdef?x=1", "0123456789abcdef"),
    "an API key": ("key mpk_live_AbCdEf0123456789 refused", "AbCdEf0123456789"),
    "a bearer token": ("Authorization: Bearer eyJhbGciOi.J9-x_y", "eyJhbGciOi"),
    "basic credentials": ("authorization: basic Y29uc3VtZXI6c2VjcmV0", "Y29uc3VtZXI6c2VjcmV0"),
    "a security credential": ('{"SecurityCredential": "EsJocK7+NjqZPC3I3EO=="}', "EsJocK7"),
    "an STK password": ('{"Password":"MTc0Mzc5YmZiMjc5"}', "MTc0Mzc5YmZiMjc5"),
    "an access token": ("{'access_token'='c9SQxWWhmdVRlyh0zh8gZDTkubVF'}".replace("'", '"'), "c9SQxWWhmdVRlyh0zh8g"),
    "a checkout id": (f"ws_CO_161120261130{PHONE}", PHONE[3:]),
    "a phone number": (f"pushed to {PHONE}.", PHONE[3:]),
    "a phone number with a plus": (f"pushed to +{PHONE},", PHONE[3:]),
    "a local phone number": ("phone=0700000020", "700000020"),
    "a number of the 01 range": ("phone 0110000020", "110000020"),
    "a number in JSON": (f'{{"PhoneNumber":{PHONE}}}', PHONE[3:]),
    "a receiver's public name": (f"{PHONE} - Jane Doe", PHONE[3:]),
}


@pytest.mark.parametrize(("text", "secret"), SECRET_TEXTS.values(), ids=SECRET_TEXTS.keys())
def test_a_secret_inside_a_text_is_gone_wherever_the_text_is(written: Lines, text: str, secret: str) -> None:
    assert secret in text
    assert secret not in redact_text(text)
    log = structlog.get_logger()
    log.info(text, plain=text, nested={"list": [text, {"deep": (text,)}]}, some={text}, error=ValueError(text))
    log.info("keyed", by={text: 1})
    logging.getLogger("library").info("body %s", text, extra={"body": text})
    try:
        try:
            raise OSError(text)
        except OSError as cause:
            raise ValueError("outer") from cause
    except ValueError:
        log.exception("failed")
        logging.getLogger("library").exception("failed")
    lines = written()
    assert len(lines) == 5
    assert secret not in json.dumps(lines, ensure_ascii=False)


def test_a_phone_number_that_is_a_number_is_masked(written: Lines) -> None:
    structlog.get_logger().info("callback", body={"PhoneNumber": int(PHONE), "Amount": 1000}, phone=int(PHONE))
    [line] = written()
    assert line["body"] == {"PhoneNumber": "2547*****020", "Amount": 1000}
    assert line["phone"] == "2547*****020"


def test_what_is_no_secret_is_written_as_it_is(written: Lines) -> None:
    values: dict[str, Any] = {
        "payment_id": "pay_01kab2547000000201",
        "receipt": "NLJ7RT61SV",
        "amount": "1500.00",
        "cents": 150_000_000_000,
        "count": 0,
        "ok": True,
        "nothing": None,
        "share": 0.25,
        "shortcode": "174379",
        "at": "2026-11-16T08:30:00.000000Z",
    }
    structlog.get_logger().info("settled", **values)
    [line] = written()
    assert {name: line[name] for name in values} == values


def test_secrets_and_numbers_as_values_of_ours_do_not_print(written: Lines) -> None:
    structlog.get_logger().info("call", one=Secret("Zx9"), other=Msisdn.parse(PHONE), both=[Secret("Zx9")])
    [line] = written()
    assert line["one"] == "Secret(…)"
    assert line["other"] == "2547*****020"
    assert line["both"] == ["Secret(…)"]


def test_values_bound_to_the_context_are_redacted_too(written: Lines) -> None:
    with structlog.contextvars.bound_contextvars(request_id="req_1", caller=f"tel {PHONE}", token="Zx9"):
        structlog.get_logger().info("call")
    [line] = written()
    assert line["request_id"] == "req_1"
    assert line["caller"] == "tel 2547*****020"
    assert line["token"] == "…"


def test_bytes_are_redacted_as_text() -> None:
    event = redact_event(None, "info", {"body": f'{{"Password":"Zx9","PhoneNumber":{PHONE}}}'.encode()})
    assert "Zx9" not in event["body"]
    assert PHONE not in event["body"]


@pytest.mark.parametrize("written", ["INFO"], indirect=True)
def test_the_level_is_kept_and_chatty_libraries_speak_from_warning_up(written: Lines) -> None:
    structlog.get_logger("ours").debug("too_fine")
    logging.getLogger("httpx2").info("GET https://sandbox.safaricom.co.ke/...")
    logging.getLogger("httpx2").warning("retrying")
    assert [line["event"] for line in written()] == ["retrying"]
