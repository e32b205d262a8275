"""Every tool's definition, and one result of each, as files beside this one.

A model reads these words: changing them is changing the product. After a wanted change, run with UPDATE_SNAPSHOTS=1
and have the difference reviewed.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.types import CallToolResult

from mpesa_mcp.tools.catalogue import all_tools
from mpesa_mcp.values import SystemClock, eat_today

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent
UPDATES = os.environ.get("UPDATE_SNAPSHOTS") == "1"
NAMES = [offered.tool.name for offered in all_tools()]
# Results that show something else of a tool: a payout that a person must approve, a call that was refused.
BESIDES = ("held", "refusal")
# What is another one at every run.
VOLATILE = (
    (re.compile(r"\b(pay|inq|apr|bat)_[0-9a-z]{26}\b"), r"\1_00000000000000000000000000"),
    (re.compile(r"\d{4}-\d{2}-\d{2}T[\d:.]+(Z|[+-]\d{2}:\d{2})"), "2026-11-16T08:30:00Z"),
    (re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2} EAT"), "2026-11-16 11:30 EAT"),
    (re.compile(r"\b\d{4}-\d{2}-\d{2}\b(?![T ]\d)"), "2026-11-16"),
    (re.compile(r"http://127\.0\.0\.1:\d+"), "http://127.0.0.1:8765"),
    (re.compile(r"\b[A-Z]{3}[0-9A-Z]{7}\b"), "UKN7Z8CJ88"),
)


@pytest.mark.parametrize("name", NAMES)
async def test_a_definition_is_the_reviewed_one(client: Client, name: str) -> None:
    [tool] = [tool for tool in (await client.list_tools()).tools if tool.name == name]
    _compare(HERE / "definitions" / f"{name}.json", tool.model_dump(mode="json", by_alias=True, exclude_none=True))


@pytest.fixture(scope="module")
async def results(client: Client) -> dict[str, CallToolResult]:
    """A short session that uses each tool once, one held payout, and one refusal."""
    made: dict[str, CallToolResult] = {}

    async def use(tool: str, /, **arguments: Any) -> dict[str, Any]:
        made[tool] = await client.call_tool(tool, arguments)
        structure: dict[str, Any] | None = made[tool].structured_content
        assert structure is not None
        return structure

    paid = await use("stk_push", phone="0700000001", amount=1500, reference="INV-1042", wait_seconds=20)
    await use(
        "b2c_payment",
        phone="0700000002",
        amount=2500,
        idempotency_key="supplier-77",
        remarks="Tomatoes",
        wait_seconds=20,
    )
    paid_out = made["b2c_payment"]
    await use("check_balance", wait_seconds=20)
    await use("transaction_status", receipt=paid["receipt"], wait_seconds=20)
    await use("reverse", receipt=paid["receipt"], reason="Twice", idempotency_key="refund-1042", wait_seconds=20)
    await use("get_payment", id=paid["payment_id"])
    paid_many = await use(
        "bulk_payment",
        name="Suppliers",
        payments=[
            {"phone": "0700000003", "amount": 1000, "reference": "SUP-1", "remarks": "Tomatoes"},
            {"phone": "0700000081", "amount": 500, "reference": "SUP-2", "remarks": "Onions"},
        ],
        purpose="business",
        idempotency_key="suppliers-77",
        expected_total=1500,
        expected_count=2,
    )
    # Both are settled before the batch is read, so that it reads the same every time.
    with anyio.fail_after(20):
        for line in (1, 2):
            row = {"id": f"{paid_many['batch_id']}-{line}", "wait_seconds": 20}
            while (await client.call_tool("get_payment", row)).is_error:
                pass  # it is no payment yet
    await use("get_batch", batch_id=paid_many["batch_id"])
    await use("list_payments", limit=2)
    await use("b2c_payment", phone="0700000002", amount=25_000, idempotency_key="supplier-78", remarks="A cow")
    made["held"] = made.pop("b2c_payment")
    made["b2c_payment"] = paid_out
    await use("list_approvals")
    today = eat_today(SystemClock()).isoformat()
    await use("transaction_report", from_date=today, to_date=today, group_by="kind")
    await use("get_limits")
    made["refusal"] = await client.call_tool("b2c_payment", {"phone": "0700000002", "amount": "5.0", "to": "me"})
    return made


@pytest.mark.parametrize("name", [*NAMES, *BESIDES])
async def test_a_result_reads_as_reviewed(results: dict[str, CallToolResult], name: str) -> None:
    shown = results[name].model_dump(mode="json", by_alias=True, exclude={"meta"})
    _compare(HERE / "results" / f"{name}.json", _settled(shown))


def test_there_is_no_snapshot_of_a_tool_that_is_gone() -> None:
    assert {each.stem for each in (HERE / "definitions").glob("*.json")} == set(NAMES)
    assert {each.stem for each in (HERE / "results").glob("*.json")} == {*NAMES, *BESIDES}


def _settled(shown: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(shown, ensure_ascii=False)
    for pattern, replacement in VOLATILE:
        text = pattern.sub(replacement, text)
    settled: dict[str, Any] = json.loads(text)
    return settled


def _compare(path: Path, shown: dict[str, Any]) -> None:
    written = json.dumps(shown, indent=2, ensure_ascii=False) + "\n"
    if UPDATES:
        path.parent.mkdir(exist_ok=True)
        path.write_text(written, encoding="utf-8")
    assert path.exists(), f"{path.name} is missing: run with UPDATE_SNAPSHOTS=1"
    assert json.loads(written) == json.loads(path.read_text(encoding="utf-8"))
