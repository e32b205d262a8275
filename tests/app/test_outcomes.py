"""Every row of the simulator's table, asked for through MCP: what the payment settles in, and what really moved."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import anyio
import httpx2
import pytest
from mcp.client import Client

from mpesa_mcp.app.local import LocalPlatform, local_platform
from mpesa_mcp.values import SystemClock, eat_today
from tests.clients import TLS, call, connected, refusal

from .factories import movements, phone

pytestmark = pytest.mark.anyio


@dataclass(frozen=True, slots=True)
class Row:
    """`moves` is whether the money really moves; `receipt` whether we must know its receipt."""

    digits: str
    status: str
    moves: bool
    receipt: bool
    code: str | None = None


# Which of the two contradicting answers of row 88 comes first is not certain: its code is not either.
# An STK success that only our question found has no receipt: the query does not tell it.
STK = (
    Row("00", "succeeded", moves=True, receipt=True, code="0"),
    Row("79", "succeeded", moves=True, receipt=True, code="0"),
    Row("80", "failed", moves=False, receipt=False, code="1"),
    Row("81", "failed", moves=False, receipt=False, code="1032"),
    Row("82", "failed", moves=False, receipt=False, code="2001"),
    Row("83", "failed", moves=False, receipt=False, code="1037"),
    Row("84", "succeeded", moves=True, receipt=False, code="0"),
    Row("85", "failed", moves=False, receipt=False, code="1032"),
    Row("86", "succeeded", moves=True, receipt=True, code="0"),
    Row("87", "succeeded", moves=True, receipt=True, code="0"),
    Row("88", "disputed", moves=True, receipt=True),
    Row("89", "succeeded", moves=True, receipt=True, code="0"),
    Row("90", "succeeded", moves=True, receipt=True, code="0"),
    Row("91", "unknown", moves=False, receipt=False),
    Row("92", "succeeded", moves=True, receipt=True, code="0"),
    Row("93", "succeeded", moves=True, receipt=False, code="0"),
    Row("94", "failed", moves=False, receipt=False, code="1032"),
    Row("95", "succeeded", moves=True, receipt=True, code="0"),
    Row("96", "succeeded", moves=True, receipt=False, code="0"),
    Row("97", "unknown", moves=False, receipt=False),
    Row("98", "failed", moves=False, receipt=False, code="500.001.1001"),
)

# A payout is asked about by Transaction Status, whose word is the code and which tells the receipt.
# Where the callback had come as well, its code stands: 90 and 92 depend on which was first.
B2C = (
    Row("00", "succeeded", moves=True, receipt=True, code="0"),
    Row("79", "succeeded", moves=True, receipt=True, code="0"),
    Row("80", "failed", moves=False, receipt=False, code="1"),
    Row("81", "failed", moves=False, receipt=False, code="2040"),
    Row("82", "failed", moves=False, receipt=False, code="2001"),
    Row("83", "failed", moves=False, receipt=False, code="8"),
    Row("84", "succeeded", moves=True, receipt=True, code="Completed"),
    Row("85", "failed", moves=False, receipt=False, code="Declined"),
    Row("86", "succeeded", moves=True, receipt=True, code="0"),
    Row("87", "succeeded", moves=True, receipt=True, code="0"),
    Row("88", "disputed", moves=True, receipt=True),
    Row("89", "succeeded", moves=True, receipt=True, code="0"),
    Row("90", "succeeded", moves=True, receipt=True),
    Row("91", "unknown", moves=False, receipt=False),
    Row("92", "succeeded", moves=True, receipt=True),
    Row("93", "succeeded", moves=True, receipt=True),
    Row("94", "failed", moves=False, receipt=False),
    Row("95", "succeeded", moves=True, receipt=True, code="0"),
    Row("96", "succeeded", moves=True, receipt=True, code="Completed"),
    Row("97", "unknown", moves=False, receipt=False),
    Row("98", "failed", moves=False, receipt=False, code="8006"),
    Row("99", "succeeded", moves=True, receipt=True, code="0"),
)

FINAL = {"succeeded", "failed"}
# A payment that is unknown is looked at again after this: nothing may have made up its mind meanwhile.
STAYS_SECONDS = 2
PATIENCE_SECONDS = 30
LONGEST_SECONDS = 120
# Asked one after the other: on two cores that run three test processes the database of one file keeps nobody waiting.
APART_SECONDS = 0.6
PUSHED, PAID, ASKED = 120, 170, 130
OPENED_WITH = 10_000_000

Outcomes = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
async def platform(module_database: dict[str, Any]) -> AsyncIterator[LocalPlatform]:
    """Asks about what stays silent a hundred times as often as in earnest: a question may overtake a callback."""
    async with local_platform(
        delay_ms=30, reconcile_speed=100, daraja_calls_per_second=1000, **module_database
    ) as started:
        yield started


@pytest.fixture(scope="module")
async def both(platform: LocalPlatform) -> tuple[Outcomes, Outcomes]:
    """All rows of both tables at once: what each payment came to, by the last two digits of its phone."""
    pushes: Outcomes = {}
    payouts: Outcomes = {}
    async with connected(platform.url, platform.key.reveal()) as client, anyio.create_task_group() as tasks:
        for row in STK:
            words: dict[str, Any] = {"amount": PUSHED, "reference": "INV-1"}
            tasks.start_soon(_pay, client, "stk_push", row, pushes, phone(row.digits, group=1), words)
            await anyio.sleep(APART_SECONDS)
        for row in B2C:
            words = {"amount": PAID, "remarks": "Tomatoes"}
            tasks.start_soon(_pay, client, "b2c_payment", row, payouts, phone(row.digits, group=2), words)
            await anyio.sleep(APART_SECONDS)
    async with connected(platform.url, platform.key.reveal()) as client:
        for rows, outcomes in ((STK, pushes), (B2C, payouts)):
            for row in rows:
                await _read_again(client, row, outcomes)
    return pushes, payouts


@pytest.fixture(scope="module")
def stk(both: tuple[Outcomes, Outcomes]) -> Outcomes:
    return both[0]


@pytest.fixture(scope="module")
def b2c(both: tuple[Outcomes, Outcomes]) -> Outcomes:
    return both[1]


@pytest.mark.parametrize("row", STK, ids=lambda row: row.digits)
async def test_a_push_settles_as_its_row_says(platform: LocalPlatform, stk: Outcomes, row: Row) -> None:
    await _check(platform, "stk", row, stk[row.digits])


@pytest.mark.parametrize("row", B2C, ids=lambda row: row.digits)
async def test_a_payout_settles_as_its_row_says(platform: LocalPlatform, b2c: Outcomes, row: Row) -> None:
    await _check(platform, "b2c", row, b2c[row.digits])


@pytest.mark.parametrize(
    ("decision", "status", "moved"), [("pay", "succeeded", 1), ("cancel", "failed", 0)], ids=["paid", "cancelled"]
)
async def test_a_prompt_is_decided_by_the_person_at_the_phone(
    platform: LocalPlatform, decision: str, status: str, moved: int
) -> None:
    number = phone("99", group=7 if moved else 8)
    async with connected(platform.url, platform.key.reveal()) as client:
        asked = await call(client, "stk_push", phone=number, amount=ASKED, reference="INV-9", wait_seconds=0)
        assert asked["status"] in {"queued", "sending", "pending"}
        assert not asked["final"]
        async with httpx2.AsyncClient(verify=TLS, base_url=platform.simulator_url) as page:
            prompt = await _prompt(page, number)
            assert prompt["amount"] == ASKED
            answered = await page.post(
                f"/phone/{number}/{prompt['checkout_request_id']}/{decision}", headers={"Accept": "application/json"}
            )
            assert answered.status_code == 200
        settled = await call(client, "get_payment", id=asked["payment_id"], wait_seconds=10)
        if moved:
            settled = await _with_receipt(client, settled)
    assert settled["status"] == status
    assert settled["receipt"] == answered.json()["receipt"]
    assert [each["amount"] for each in await _moved(platform, "stk", number)] == [ASKED] * moved


async def test_a_reversal_gives_the_money_back_once(platform: LocalPlatform) -> None:
    number = phone("05", group=6)
    async with connected(platform.url, platform.key.reveal()) as client:
        paid = await call(client, "stk_push", phone=number, amount=ASKED, reference="INV-5", wait_seconds=20)
        paid = await _with_receipt(client, paid)
        wanted = {"receipt": paid["receipt"], "reason": "Ordered twice"}
        reversal = await call(client, "reverse", **wanted, idempotency_key="refund-5", wait_seconds=20)
        again = await client.call_tool("reverse", {**wanted, "idempotency_key": "refund-5b"})
        received = await call(client, "get_payment", id=paid["payment_id"])
    assert (reversal["kind"], reversal["status"], reversal["amount"]) == ("reversal", "succeeded", "130.00")
    assert reversal["reversed_payment_id"] == paid["payment_id"]
    assert (received["status"], received["final"]) == ("reversed", True)
    assert again.is_error
    [moved] = await _moved(platform, "reversal", number)
    assert (moved["amount"], moved["receipt"]) == (ASKED, reversal["receipt"])


async def test_a_balance_agrees_with_what_moved(platform: LocalPlatform, b2c: Outcomes) -> None:
    assert b2c
    async with connected(platform.url, platform.key.reveal()) as client:
        balance = await call(client, "check_balance", max_age_seconds=0, wait_seconds=20)
    assert (balance["status"], balance["final"]) == ("answered", True)
    accounts = {account["name"]: account for account in balance["accounts"]}
    ledger = await movements(platform.simulator_url)
    moved = {
        kind: sum(each["amount"] for each in ledger if each["kind"] == kind) for kind in ("stk", "b2c", "reversal")
    }
    assert moved["b2c"] == PAID * sum(row.moves for row in B2C)
    assert (
        accounts["Utility Account"]["available"]
        == f"{OPENED_WITH + moved['stk'] - moved['b2c'] - moved['reversal']}.00"
    )


async def test_the_report_counts_what_the_ledger_holds(platform: LocalPlatform, stk: Outcomes, b2c: Outcomes) -> None:
    assert len(stk) + len(b2c) == len(STK) + len(B2C)
    days = {
        "from_date": (eat_today(SystemClock()) - timedelta(days=1)).isoformat(),
        "to_date": eat_today(SystemClock()).isoformat(),
    }
    async with connected(platform.url, platform.key.reveal()) as client:
        pushes = await call(client, "transaction_report", **days, reference="INV-1")
        payouts = await call(client, "transaction_report", **days, kind="b2c")
    for report, rows, word, amount in ((pushes, STK, "collected", PUSHED), (payouts, B2C, "paid_out", PAID)):
        by_status = Counter(row.status for row in rows)
        totals = report["totals"]
        assert (totals["count"], totals["in_progress"]) == (len(rows), 0)
        assert (totals["succeeded"], totals["failed"]) == (by_status["succeeded"], by_status["failed"])
        assert totals["unknown"] == by_status["unknown"] + by_status["disputed"]
        assert totals[word] == f"{amount * by_status['succeeded']}.00"
        assert totals["unknown_amount"] == f"{amount * totals['unknown']}.00"


async def _pay(client: Client, tool: str, row: Row, outcomes: Outcomes, number: str, words: dict[str, Any]) -> None:
    key = f"{tool}-{row.digits}"
    payment = await _patiently(client, tool, phone=number, idempotency_key=key, wait_seconds=0, **words)
    with anyio.move_on_after(LONGEST_SECONDS):
        # A dispute begins as a failure: waiting ends there, and the end is read when everything has come.
        patience = STAYS_SECONDS if row.status == "unknown" else PATIENCE_SECONDS
        while payment["status"] not in {row.status, *FINAL, "disputed"}:
            payment = await _patiently(client, "get_payment", id=payment["payment_id"], wait_seconds=patience)
    if row.status == "unknown":
        payment = await _patiently(client, "get_payment", id=payment["payment_id"], wait_seconds=STAYS_SECONDS)
    outcomes[row.digits] = payment


async def _patiently(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """Does what an answer advises: where the database was not had in time, waits and asks the same thing again."""
    with anyio.fail_after(LONGEST_SECONDS):
        while (result := await client.call_tool(tool, arguments)).is_error:
            assert refusal(result)["advice"] == "wait", result
            await anyio.sleep(1)
    structure: dict[str, Any] | None = result.structured_content
    assert structure is not None
    return structure


async def _read_again(client: Client, row: Row, outcomes: Outcomes) -> None:
    """After everything has come: a final status must have stayed, a contradiction or a late receipt be noticed."""
    payment_id = outcomes[row.digits]["payment_id"]
    with anyio.move_on_after(LONGEST_SECONDS):
        while True:
            outcomes[row.digits] = payment = await _patiently(client, "get_payment", id=payment_id)
            came = payment["status"] == "disputed" or row.status != "disputed"
            if came and (payment["receipt"] or not row.receipt):
                return
            await anyio.sleep(0.1)


async def _with_receipt(client: Client, payment: dict[str, Any]) -> dict[str, Any]:
    """The payment when its callback has brought the receipt, also where a question was quicker."""
    with anyio.fail_after(LONGEST_SECONDS):
        while payment["receipt"] is None:
            await anyio.sleep(0.05)
            payment = await call(client, "get_payment", id=payment["payment_id"])
    return payment


async def _check(platform: LocalPlatform, kind: str, row: Row, payment: dict[str, Any]) -> None:
    """The status is the row's, at most one movement happened, and what we say is what the ledger says."""
    number = phone(row.digits, group=1 if kind == "stk" else 2)
    assert payment["status"] == row.status, payment
    assert payment["final"] is (row.status in FINAL)
    assert payment["safe_to_repeat"] is (row.status == "failed")
    if row.code is not None:
        assert payment["result_code"] == row.code
    moved = await _moved(platform, kind, number)
    assert [each["amount"] for each in moved] == ([PUSHED if kind == "stk" else PAID] if row.moves else [])
    assert payment["receipt"] == (moved[0]["receipt"] if row.receipt else None)


async def _moved(platform: LocalPlatform, kind: str, number: str) -> list[dict[str, Any]]:
    ledger = await movements(platform.simulator_url)
    return [each for each in ledger if each["kind"] == kind and each["party"] == number]


async def _prompt(page: httpx2.AsyncClient, number: str) -> dict[str, Any]:
    """The prompt on the phone, as soon as it shows."""
    with anyio.fail_after(LONGEST_SECONDS):
        while True:
            shown = (await page.get(f"/phone/{number}", headers={"Accept": "application/json"})).json()["prompts"]
            if shown:
                prompt: dict[str, Any] = shown[0]
                return prompt
            await anyio.sleep(0.02)
