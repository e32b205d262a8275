"""`serve` and `demo` as processes of their own."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from tests.clients import TLS, call, connected

from .factories import PROGRAM, answers, phone, started, variables

pytestmark = pytest.mark.anyio


async def test_a_served_installation_pays_is_healthy_and_stops_when_told(
    desktop: dict[str, str], held_port: Callable[[], int]
) -> None:
    env = dict(desktop)
    key = env.pop("MPESA_MCP_API_KEY")
    port = held_port()
    url = f"http://127.0.0.1:{port}"
    elsewhere = f"Links that other commands print lead to http://127.0.0.1:8765; MPESA_MCP_PORT={port} leads them here."
    async with started(env, "serve", "--port", str(port), says=elsewhere, cold=True) as server:
        await answers(url)
        async with httpx2.AsyncClient(verify=TLS, base_url=url) as http:
            assert (await http.get("/healthz")).json() == {"ok": True}
            assert (await http.get("/readyz")).json()["ready"] is True
        async with connected(url, key, mode="legacy") as client:
            paid = await call(client, "stk_push", phone=phone("06"), amount=55, reference="INV-6", wait_seconds=20)
            assert (paid["status"], paid["receipt"] is not None) == ("succeeded", True)
            # Told to stop while a client is connected and its stream is open.
            server.send_signal(signal.SIGTERM)
            with anyio.fail_after(10):
                code = await server.wait()
    assert code in {0, -signal.SIGTERM}


async def test_the_demo_is_one_json_value_whose_totals_are_its_payments(tmp_path: Path) -> None:
    env = variables() | {"HOME": str(tmp_path)}
    with anyio.fail_after(60):
        done = await anyio.run_process([*PROGRAM, "demo", "--json"], env=env, check=False)
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.decode().splitlines()
    value = json.loads(line)
    assert set(value) == {"ok", "steps"}
    assert value["ok"] is True
    steps: list[dict[str, Any]] = value["steps"]
    assert [step["tool"] for step in steps] == [
        "stk_push",
        "b2c_payment",
        "check_balance",
        "reverse",
        "transaction_report",
    ]
    assert all(set(step) == {"tool", "result", "seconds"} and step["seconds"] > 0 for step in steps)
    results = {step["tool"]: step["result"] for step in steps}
    totals = results["transaction_report"]["totals"]
    for tool, total in (("stk_push", "collected"), ("b2c_payment", "paid_out"), ("reverse", "reversed")):
        assert results[tool]["status"] == "succeeded"
        assert results[tool]["receipt"]
        assert totals[total] == results[tool]["amount"]
    utility = next(each for each in results["check_balance"]["accounts"] if each["name"] == "Utility Account")
    assert utility["available"] == "9999000.00"
    assert [left async for left in anyio.Path(tmp_path).iterdir()] == []
