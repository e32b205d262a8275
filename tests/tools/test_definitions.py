"""What every tool promises before it is called: its hints, its schemas, its words."""

import re

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it publishes no types
from mcp.client import Client

from mpesa_mcp.app.local import LocalPlatform
from mpesa_mcp.identity.tool_names import TOOL_NAMES
from tests.clients import MODES, call, connected

from .factories import ACCEPTED, a_row, phone, text_of

pytestmark = pytest.mark.anyio

MOST_TOOLS = 15
MOVES_MONEY_OUT = {"b2c_payment", "reverse", "bulk_payment"}
STAYS_HERE = {"get_payment", "list_payments", "transaction_report", "get_limits", "list_approvals", "get_batch"}
ONLY_READS = STAYS_HERE | {"check_balance", "transaction_status"}
LOOKS_LIKE_A_TENANT = re.compile(r"org|tenant|user|account|customer_id|principal|role|key_id|environment|shortcode")


async def test_the_offered_tools_are_known_by_name_and_few(client: Client) -> None:
    names = [tool.name for tool in (await client.list_tools()).tools]
    assert set(names) == set(ACCEPTED)
    assert len(names) == len(set(names)) <= MOST_TOOLS
    assert set(names) <= TOOL_NAMES
    assert all(re.fullmatch(r"[a-z0-9_]{1,64}", name) for name in names)


async def test_both_generations_list_the_same_in_the_same_order(platform: LocalPlatform) -> None:
    listed = []
    for mode in MODES:
        async with connected(platform.url, platform.key.reveal(), mode=mode) as client:
            for _ in range(2):
                listed.append([tool.model_dump() for tool in (await client.list_tools()).tools])
    assert all(each == listed[0] for each in listed)


async def test_every_tool_states_all_four_annotations_truthfully(client: Client) -> None:
    for tool in (await client.list_tools()).tools:
        hints = tool.annotations
        assert hints is not None, tool.name
        stated = (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint)
        assert stated == (
            tool.name in ONLY_READS,
            tool.name in MOVES_MONEY_OUT,
            True,
            tool.name not in STAYS_HERE,
        ), tool.name
        assert tool.title


async def test_every_description_gives_an_example_and_fits_on_a_screen(client: Client) -> None:
    for tool in (await client.list_tools()).tools:
        description = tool.description or ""
        assert "Example:" in description, tool.name
        assert 80 < len(description) < 800, tool.name
        assert "\n  " not in description, tool.name
        named = set(re.findall(r"use (\w+_\w+|reverse)", description))
        assert named <= TOOL_NAMES, tool.name


async def test_no_argument_chooses_whose_money_it_is(client: Client) -> None:
    for tool in (await client.list_tools()).tools:
        for name in tool.input_schema["properties"]:
            assert not LOOKS_LIKE_A_TENANT.search(name), f"{tool.name}.{name}"


async def test_arguments_are_flat_bounded_described_and_complete(client: Client) -> None:
    for tool in (await client.list_tools()).tools:
        schema = tool.input_schema
        assert schema["additionalProperties"] is False, tool.name
        assert "$defs" not in schema, tool.name
        for name, accepted in schema["properties"].items():
            where = f"{tool.name}.{name}"
            assert accepted.get("description"), where
            if where == "bulk_payment.payments":
                continue  # its rows have fields of their own, each described and bounded
            assert accepted["type"] in {"string", "integer"}, where
            if accepted["type"] == "integer":
                assert {"minimum", "maximum"} <= set(accepted), where
            else:
                assert {"pattern", "enum", "maxLength"} & set(accepted), where
    required = {tool.name: set(tool.input_schema.get("required", ())) for tool in (await client.list_tools()).tools}
    assert all("idempotency_key" in required[name] for name in MOVES_MONEY_OUT)


async def test_each_result_is_what_its_output_schema_says(platform: LocalPlatform, client: Client) -> None:
    """Payments of both directions, a failed one, a reversal, answered questions and lists of all that."""
    paid = await call(client, "stk_push", phone=phone("01"), amount=1500, reference="INV-1042", wait_seconds=20)
    receipt = paid["receipt"]
    calls = [
        ("get_payment", {"id": receipt}),
        ("stk_push", {"phone": phone("80"), "amount": 100, "reference": "INV-2", "wait_seconds": 20}),
        ("stk_push", {"phone": phone("97"), "amount": 100, "reference": "INV-3", "wait_seconds": 0}),
        ("b2c_payment", ACCEPTED["b2c_payment"] | {"wait_seconds": 20}),
        ("b2c_payment", ACCEPTED["b2c_payment"] | {"phone": phone("91"), "idempotency_key": "k", "wait_seconds": 1}),
        ("check_balance", {"wait_seconds": 20}),
        ("transaction_status", {"receipt": receipt, "wait_seconds": 20}),
        ("transaction_status", {"receipt": "AAAAAAAAAA", "wait_seconds": 20}),
        ("transaction_status", {"receipt": receipt, "wait_seconds": 0}),
        ("reverse", {"receipt": receipt, "reason": "Ordered twice", "idempotency_key": "r", "wait_seconds": 20}),
        ("b2c_payment", ACCEPTED["b2c_payment"] | {"amount": 25_000, "idempotency_key": "held"}),
        ("list_approvals", {}),
        ("bulk_payment", ACCEPTED["bulk_payment"] | {"idempotency_key": "b", "payments": [a_row("0700000041")]}),
        ("list_payments", {}),
        ("list_payments", {"limit": 2}),
        ("list_payments", {"reference": "NOTHING"}),
        ("transaction_report", {"from_date": "2026-01-01", "to_date": "2026-12-31", "group_by": "status"}),
        ("transaction_report", {"from_date": "2026-01-01", "to_date": "2026-01-02"}),
        ("get_limits", {}),
    ]
    batch = await call(client, "bulk_payment", **ACCEPTED["bulk_payment"])
    calls.append(("get_batch", {"batch_id": batch["batch_id"]}))
    schemas = {tool.name: tool.output_schema for tool in (await client.list_tools()).tools}
    assert {tool for tool, _ in calls} == set(schemas)
    for tool, arguments in calls:
        result = await client.call_tool(tool, arguments)
        assert not result.is_error, result
        schema = schemas[tool]
        assert schema is not None, tool
        Draft202012Validator.check_schema(schema)
        Draft202012Validator(schema).validate(result.structured_content)
        # Nothing that the schema does not announce, and nothing announced left out.
        assert result.structured_content is not None
        assert set(result.structured_content) == set(schema["properties"]) - {"error"}, tool
        assert len(result.content) == 1
        assert text_of(result)


async def test_a_refusal_is_what_the_output_schema_says_too(client: Client) -> None:
    """Some clients hold refusals against the schema, and would show its complaint instead of our sentence."""
    for tool in (await client.list_tools()).tools:
        refused = await client.call_tool(tool.name, {"nonsense": 1})
        assert refused.is_error
        assert tool.output_schema is not None
        Draft202012Validator(tool.output_schema).validate(refused.structured_content)


async def test_numbers_are_masked_and_amounts_are_decimal_strings(client: Client) -> None:
    number = phone("03", group=234)
    paid = await client.call_tool("stk_push", {"phone": number, "amount": 7, "reference": "A-1", "wait_seconds": 20})
    listed = await client.call_tool("list_payments", {"phone": f"+{number}"})
    for result in (paid, listed):
        assert number not in result.model_dump_json()
        assert number[3:] not in result.model_dump_json()
    assert paid.structured_content is not None
    assert (paid.structured_content["phone"], paid.structured_content["amount"]) == ("2547*****403", "7.00")
