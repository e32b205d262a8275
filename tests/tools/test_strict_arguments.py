"""Arguments that are not acceptable: refused by name, in our words, with nothing stored and nothing sent."""

from typing import Any, NamedTuple

import pytest
from mcp.client import Client

from mpesa_mcp.app.local import LocalPlatform
from tests.clients import call, refusal

from .factories import ACCEPTED, asked_of_simulator, text_of

pytestmark = pytest.mark.anyio

MISSING = object()
# What pydantic says, and what it says to a person who may read its documentation.
NOT_OUR_WORDS = (
    "Input should",
    "validation error",
    "pydantic",
    "https://errors",
    "String should",
    "type=",
    "Value error",
)


class Refused(NamedTuple):
    tool: str
    field: str
    value: Any
    code: str = "invalid_input"

    @property
    def place(self) -> tuple[str, str]:
        return self.tool, self.field


NOT_NUMBERS = (True, "5.0", "150", 150.5, 150.0, None, [150], {"shillings": 150})
NOT_DAYS = ("2026-13-45", "01/02/2026", "2026-1-5", "yesterday", 20260105, "2026-02-30")
NOT_KENYAN = ("0812345678", "+255712345678", "07123456789012", "call me", "0712345678;0799999999", "0712345678 ext 9")
NOT_KEYS = ("key with spaces", "k" * 65, "ключ-1042", "key\nline")
NOT_RECEIPTS = ("ABCDEF7", "UKN7-Z8CJ88", "UKN7Z8CJ88; DROP", "UKN7Z8CJ88UKN7Z8")
UNKNOWN_ARGUMENTS = ("organization_id", "user", "amount_cents", "confirm")

REFUSED = [
    *(Refused(tool, name, "sneaked-in-value") for tool in ACCEPTED for name in UNKNOWN_ARGUMENTS),
    *(Refused("stk_push", name, MISSING) for name in ("phone", "amount", "reference")),
    *(Refused("b2c_payment", name, MISSING) for name in ("phone", "amount", "idempotency_key", "remarks")),
    *(Refused("reverse", name, MISSING) for name in ("receipt", "reason", "idempotency_key")),
    Refused("transaction_status", "receipt", MISSING),
    Refused("get_payment", "id", MISSING),
    *(Refused("transaction_report", name, MISSING) for name in ("from_date", "to_date")),
    *(Refused("stk_push", "amount", value) for value in (*NOT_NUMBERS, 0, -77777, 250_001, 10**30)),
    *(Refused("b2c_payment", "amount", value) for value in (*NOT_NUMBERS, 9, -77777, 250_001, 10**30)),
    *(
        Refused(tool, "wait_seconds", value)
        for tool in ACCEPTED
        if "wait_seconds" in ACCEPTED[tool]
        for value in (-77777, 56, True, "30", 1.5)
    ),
    *(Refused("check_balance", "max_age_seconds", value) for value in (-77777, 86_401, True, "60", 1.5)),
    *(Refused("list_payments", "limit", value) for value in (0, 101, True, "20", 1.5)),
    *(Refused("stk_push", "phone", value, "invalid_phone") for value in NOT_KENYAN),
    *(Refused("b2c_payment", "phone", value, "invalid_phone") for value in NOT_KENYAN),
    *(Refused("list_payments", "phone", value, "invalid_phone") for value in NOT_KENYAN),
    *(Refused("transaction_report", "phone", value, "invalid_phone") for value in NOT_KENYAN),
    *(Refused(tool, "phone", value) for tool in ("stk_push", "b2c_payment") for value in ("", 700000001, "0" * 31)),
    *(
        Refused("stk_push", "reference", value)
        for value in ("", "INV_1042", "INV-1042-TOO-LONG", "INV\n1", "   ", 77777)
    ),
    *(Refused("stk_push", "description", value) for value in ("x" * 14, "two\nlines", "tag\U000e0041", 77777)),
    *(Refused("stk_push", "idempotency_key", value) for value in NOT_KEYS),
    *(Refused("b2c_payment", "idempotency_key", value) for value in (*NOT_KEYS, "")),
    *(Refused("reverse", "idempotency_key", value) for value in (*NOT_KEYS, "")),
    *(Refused("b2c_payment", "remarks", value) for value in ("", "x", "x" * 101, "two\nlines", "hid\u200bden", "    ")),
    *(Refused("b2c_payment", "occasion", value) for value in ("x" * 101, "two\nlines")),
    *(Refused("b2c_payment", "purpose", value) for value in ("Business", "BusinessPayment", "", 77777)),
    *(Refused("reverse", "reason", value) for value in ("", "x", "x" * 101, "two\nlines")),
    *(Refused("reverse", "receipt", value) for value in (*NOT_RECEIPTS, "", 77777)),
    *(Refused("transaction_status", "receipt", value) for value in (*NOT_RECEIPTS, "", 77777)),
    *(Refused("get_payment", "id", value) for value in ("", "x" * 81, "two words", 77777)),
    *(Refused("transaction_report", "from_date", value) for value in (*NOT_DAYS, "", "2099-01-01")),
    *(Refused("transaction_report", "to_date", value) for value in (*NOT_DAYS, "", "2025-12-31", "2027-01-03")),
    *(Refused("list_payments", name, value) for name in ("from_date", "to_date") for value in NOT_DAYS),
    *(Refused("transaction_report", "group_by", value) for value in ("year", "", "DAY")),
    *(Refused(tool, "kind", "b2c_payment") for tool in ("list_payments", "transaction_report")),
    *(Refused(tool, "status", "completed") for tool in ("list_payments", "transaction_report")),
    *(Refused(tool, "reference", "INV_1042;--") for tool in ("list_payments", "transaction_report")),
    *(Refused("list_payments", "cursor", value) for value in ("pay_short", "2", "pay_00000000000000000000000000")),
]


PLACES = sorted({case.place for case in REFUSED})


@pytest.mark.parametrize("place", PLACES, ids="-".join)
async def test_an_argument_that_is_not_acceptable_is_refused_by_name_in_our_words(
    platform: LocalPlatform, client: Client, place: tuple[str, str]
) -> None:
    for case in REFUSED:
        if case.place == place:
            await _is_refused(client, case)
    assert (await call(client, "list_payments"))["payments"] == []
    assert await asked_of_simulator(platform, "ledger") == []
    assert await asked_of_simulator(platform, "deliveries") == []


async def _is_refused(client: Client, case: Refused) -> None:
    arguments = {name: value for name, value in ACCEPTED[case.tool].items() if name != case.field}
    if case.value is not MISSING:
        arguments[case.field] = case.value
    result = await client.call_tool(case.tool, arguments)
    error = refusal(result)
    said = f"{text_of(result)} {error}"
    assert (error["code"], error["advice"]) == (case.code, "fix_input"), case
    if case.field in UNKNOWN_ARGUMENTS:
        # The name of an unknown argument is the model's text too: what is known is listed instead.
        assert case.field not in said
        assert all(name in error["message"] for name in ACCEPTED[case.tool])
    else:
        assert error["field"] == case.field, case
        assert case.field in error["message"], case
    assert [words for words in NOT_OUR_WORDS if words in said] == [], case
    # Short values, and true and None, are parts of any sentence.
    for sent in {str(case.value), ascii(case.value)}:
        assert len(sent.strip()) < 5 or sent not in said, case


@pytest.mark.parametrize("tool", [tool for tool, arguments in ACCEPTED.items() if arguments])
async def test_several_bad_arguments_are_all_named_at_once(client: Client, tool: str) -> None:
    wrong = {name: ["a", "list"] for name in ACCEPTED[tool]}
    error = refusal(await client.call_tool(tool, wrong))
    assert error["code"] == "invalid_input"
    assert set(error["fields"]) == set(wrong)
    assert all(name in error["message"] for name in wrong)


async def test_what_the_table_starts_from_is_accepted(client: Client) -> None:
    """Otherwise the refusals above could have another cause. Runs last: it stores payments."""
    for tool, arguments in ACCEPTED.items():
        result = await client.call_tool(tool, arguments)
        if tool in {"reverse", "get_batch"}:
            assert refusal(result)["code"] == "not_found"
        else:
            assert not result.is_error, result
    listed = (await call(client, "list_payments"))["payments"]
    assert sorted(each["kind"] for each in listed if each["reference"] != "SUP-1") == ["b2c", "stk_push"]
