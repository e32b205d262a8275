"""Calling a money tool again, with other values, impatiently, or for longer than the client wants to wait."""

from typing import Any

import anyio
import httpx2
import pytest
from mcp.client import Client

from mpesa_mcp.app.local import LocalPlatform
from tests.clients import MODES, TLS, call, connected, refusal

from .factories import asked_of_simulator, phone

pytestmark = pytest.mark.anyio

PAYOUT = {"amount": 250, "remarks": "Tomatoes, invoice 77", "wait_seconds": 20}


@pytest.mark.parametrize("mode", MODES)
async def test_the_same_key_and_request_is_the_same_payment(platform: LocalPlatform, mode: str) -> None:
    number = phone("01", group=10 if mode == "auto" else 11)
    payout = PAYOUT | {"phone": number, "idempotency_key": f"again-{mode}"}
    async with connected(platform.url, platform.key.reveal(), mode=mode) as client:
        first = await call(client, "b2c_payment", **payout)
        written_otherwise = payout | {"phone": f"0{number[3:6]} {number[6:9]} {number[9:]}", "purpose": "business"}
        written_otherwise |= {"remarks": " Tomatoes,  invoice 77 "}
        second = await call(client, "b2c_payment", **written_otherwise)
    assert (first["replayed"], second["replayed"]) == (False, True)
    assert second == first | {"replayed": True}
    assert len(await _moved(platform, number)) == 1


async def test_a_call_repeated_many_times_at_once_pays_once(platform: LocalPlatform, client: Client) -> None:
    number = phone("02", group=12)
    results: list[dict[str, Any]] = []

    async def pay() -> None:
        results.append(await call(client, "b2c_payment", **PAYOUT, phone=number, idempotency_key="at-once"))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(pay)
    assert len({result["payment_id"] for result in results}) == 1
    assert sorted(result["replayed"] for result in results) == [False] + [True] * 7
    assert {result["status"] for result in results} == {"succeeded"}
    assert len(await _moved(platform, number)) == 1


async def test_a_push_without_a_key_is_not_prompted_for_twice(platform: LocalPlatform, client: Client) -> None:
    number = phone("03", group=13)
    push = {"phone": number, "amount": 100, "reference": "INV-1", "wait_seconds": 20}
    first = await call(client, "stk_push", **push)
    again = await call(client, "stk_push", **push, description="same thing")
    spaced = await call(client, "stk_push", **push | {"reference": " INV-1 "})
    other = await call(client, "stk_push", **push | {"reference": "INV-2"})
    for same in (again, spaced):
        assert (same["payment_id"], same["replayed"]) == (first["payment_id"], True)
    listed = await call(client, "list_payments", phone=number, reference="INV-1 ")
    assert [each["payment_id"] for each in listed["payments"]] == [first["payment_id"]]
    assert (other["replayed"], other["payment_id"] != first["payment_id"]) == (False, True)
    assert len(await _moved(platform, number)) == 2


@pytest.mark.parametrize("mode", MODES)
async def test_the_same_key_for_another_request_names_what_differs(platform: LocalPlatform, mode: str) -> None:
    number = phone("04", group=14 if mode == "auto" else 15)
    payout = PAYOUT | {"phone": number, "idempotency_key": f"conflict-{mode}"}
    changes: tuple[tuple[dict[str, Any], list[str]], ...] = (
        ({"amount": 251}, ["amount"]),
        ({"phone": phone("05", group=99), "remarks": "Potatoes"}, ["phone", "remarks"]),
        ({"purpose": "salary", "occasion": "November"}, ["occasion", "purpose"]),
    )
    async with connected(platform.url, platform.key.reveal(), mode=mode) as client:
        first = await call(client, "b2c_payment", **payout)
        for change, fields in changes:
            error = refusal(await client.call_tool("b2c_payment", payout | change))
            assert (error["code"], sorted(error["fields"])) == ("idempotency_conflict", fields)
            assert error["advice"] == "do_not_repeat"
            assert all(field in error["message"] for field in fields)
            assert not any(str(value) in error["message"] for value in change.values() if len(str(value)) > 3)
        push = {"phone": number, "amount": 250, "reference": "A-1", "idempotency_key": f"conflict-{mode}"}
        assert refusal(await client.call_tool("stk_push", push))["fields"] == ["kind"]
        found = await call(client, "get_payment", id=f"conflict-{mode}")
    assert found == first
    assert len(await _moved(platform, number)) == 1


async def test_every_id_of_a_payment_finds_it(platform: LocalPlatform, client: Client) -> None:
    number = phone("06", group=16)
    push = {"phone": number, "amount": 90, "reference": "INV-6", "idempotency_key": "many-names", "wait_seconds": 20}
    paid = await call(client, "stk_push", **push)
    payout = await call(client, "b2c_payment", **PAYOUT, phone=number, idempotency_key="many-names-too")
    by_receipt = {each["receipt"]: each for each in await _moved(platform, number)}
    for payment, ids in (
        (paid, ["many-names", by_receipt[paid["receipt"]]["checkout_request_id"]]),
        (payout, ["many-names-too", by_receipt[payout["receipt"]]["originator_conversation_id"]]),
    ):
        for named in (*ids, payment["payment_id"], payment["receipt"], payment["receipt"].lower(), f" {ids[0]} "):
            assert await call(client, "get_payment", id=named) == payment, named


async def test_while_it_waits_progress_increases_up_to_the_total(platform: LocalPlatform) -> None:
    told: dict[str, list[float]] = {mode: [] for mode in MODES}

    async def wait(mode: str) -> None:
        async def tell(progress: float, total: float | None, message: str | None) -> None:
            assert (total, message) == (5, "Waiting for the customer.")
            told[mode].append(progress)

        silent = {"phone": phone("97", group=17), "amount": 20, "reference": mode, "wait_seconds": 5}
        async with connected(platform.url, platform.key.reveal(), mode=mode) as client:
            result = await client.call_tool("stk_push", silent, progress_callback=tell)
        assert result.structured_content is not None
        assert result.structured_content["final"] is False

    async with anyio.create_task_group() as tasks:
        for mode in MODES:
            tasks.start_soon(wait, mode)
    for mode, steps in told.items():
        assert len(steps) >= 2, mode
        assert steps == sorted(set(steps)), mode
        assert steps[-1] <= 5, mode


@pytest.mark.parametrize("mode", MODES)
async def test_cancelling_a_waiting_call_does_not_cancel_the_payment(platform: LocalPlatform, mode: str) -> None:
    number = phone("99", group=18 if mode == "auto" else 19)
    push = {"phone": number, "amount": 65, "reference": "INV-8", "idempotency_key": f"left-{mode}", "wait_seconds": 55}
    async with (
        connected(platform.url, platform.key.reveal(), mode=mode) as client,
        connected(platform.url, platform.key.reveal()) as another,
    ):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, "stk_push", push)
            prompt = await _prompt(platform, number)
            tasks.cancel_scope.cancel()
        waiting = await call(another, "get_payment", id=f"left-{mode}")
        assert waiting["status"] in {"sending", "pending", "unknown"}
        # The client that gave up goes on to be served, and the customer pays.
        repeated = await call(client, "stk_push", **push | {"wait_seconds": 0})
        assert (repeated["payment_id"], repeated["replayed"]) == (waiting["payment_id"], True)
        await _pay(platform, number, prompt)
        settled = await call(another, "get_payment", id=waiting["payment_id"], wait_seconds=20)
    assert settled["status"] == "succeeded"
    assert [each["receipt"] for each in await _moved(platform, number)] == [settled["receipt"]]


async def _moved(platform: LocalPlatform, number: str) -> list[dict[str, Any]]:
    return [each for each in await asked_of_simulator(platform, "ledger") if each["party"] == number]


async def _prompt(platform: LocalPlatform, number: str) -> str:
    """The checkout id of the prompt on the phone, as soon as it shows."""
    async with _phones(platform) as phones:
        with anyio.fail_after(10):
            while True:
                if prompts := (await phones.get(f"/phone/{number}")).json()["prompts"]:
                    return str(prompts[0]["checkout_request_id"])
                await anyio.sleep(0.02)


async def _pay(platform: LocalPlatform, number: str, checkout_request_id: str) -> None:
    async with _phones(platform) as phones:
        assert (await phones.post(f"/phone/{number}/{checkout_request_id}/pay")).status_code == 200


def _phones(platform: LocalPlatform) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(verify=TLS, base_url=platform.simulator_url, headers={"Accept": "application/json"})
