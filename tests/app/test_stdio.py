"""MCP over stdio, as desktop clients start it: real processes, both generations of the protocol."""

import json
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from mpesa_mcp.app.local import LocalPlatform
from tests.clients import GENERATIONS, call, connected, refusal
from tests.warm import program

from .factories import PROGRAM, movements, phone, variables

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("mode", "version"), GENERATIONS)
async def test_the_demo_needs_nothing_and_collects(mode: Any, version: str, tmp_path: Path) -> None:
    async with _spoken_to(variables() | {"HOME": str(tmp_path)}, "--demo", mode=mode) as client:
        assert client.protocol_version == version
        assert len((await client.list_tools()).tools) == 12
        paid = await call(client, "stk_push", phone=phone("01"), amount=1500, reference="INV-1042", wait_seconds=20)
    assert (paid["status"], paid["environment"], paid["amount"]) == ("succeeded", "simulator", "1500.00")
    assert [left async for left in anyio.Path(tmp_path).iterdir()] == []


@pytest.mark.parametrize(("mode", "version"), GENERATIONS)
async def test_a_key_and_a_prepared_directory_are_enough(
    desktop: dict[str, str], simulator: str, mode: Any, version: str
) -> None:
    number = phone("02", group=1 if mode == "auto" else 2)
    async with _spoken_to(desktop, mode=mode) as client:
        assert client.protocol_version == version
        paid = await call(
            client,
            "b2c_payment",
            phone=number,
            amount=700,
            idempotency_key=f"supplier-{mode}",
            remarks="Tomatoes",
            wait_seconds=20,
        )
    assert paid["status"] == "succeeded"
    assert [each["receipt"] for each in await movements(simulator) if each["party"] == number] == [paid["receipt"]]


async def test_a_second_process_without_the_callback_port_settles_too(desktop: dict[str, str], simulator: str) -> None:
    async with _spoken_to(desktop) as first, _spoken_to(desktop) as second:
        # The first call opens the callback port; the second process finds it taken.
        await call(first, "list_payments")
        for name, client in (("first", first), ("second", second)):
            paid = await call(
                client,
                "stk_push",
                phone=phone("03", group=3 if name == "first" else 4),
                amount=300,
                reference=name,
                wait_seconds=20,
            )
            # A receipt comes by callback only.
            assert (paid["status"], paid["receipt"] is not None) == ("succeeded", True), name
    moved = [each for each in await movements(simulator) if each["amount"] == 300]
    assert len(moved) == 2


async def test_nothing_but_the_protocol_comes_out_of_stdout(desktop: dict[str, str]) -> None:
    """A payment, a refusal and a page of nonsense, read byte by byte; closing stdin ends the process."""
    process = await anyio.open_process(
        [*PROGRAM, "stdio"], env=desktop | {"MPESA_MCP_LOG_LEVEL": "DEBUG"}, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None
    assert process.stdout is not None
    push = {"phone": phone("80", group=5), "amount": 10, "reference": "A-1", "wait_seconds": 10}
    said = b""
    async with process:
        with anyio.fail_after(30):
            for message in (
                {"id": 1, "method": "initialize", "params": _HELLO},
                {"method": "notifications/initialized"},
                {"id": 2, "method": "tools/call", "params": {"name": "stk_push", "arguments": push}},
                {"id": 3, "method": "tools/call", "params": {"name": "stk_push", "arguments": {"phone": "x"}}},
                {"id": 4, "method": "tools/list", "params": {}},
            ):
                await process.stdin.send(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
            while {1, 2, 3, 4} - {answer.get("id") for answer in _lines(said)}:
                said += await process.stdout.receive()
            await process.stdin.aclose()
            async for rest in process.stdout:
                said += rest
            assert await process.wait() == 0
    answers_by_id = {answer["id"]: answer for answer in _lines(said, whole=True)}
    assert set(answers_by_id) == {1, 2, 3, 4}
    assert all(answer["jsonrpc"] == "2.0" for answer in answers_by_id.values())
    assert answers_by_id[2]["result"]["structuredContent"]["status"] == "failed"
    assert answers_by_id[3]["result"]["isError"] is True


async def test_without_a_key_the_process_says_how_to_get_one(tmp_path: Path) -> None:
    env = variables(DATA_DIR=tmp_path / "data")
    for words in (("stdio",), ("stdio", "--url", "http://127.0.0.1:1")):
        done = await anyio.run_process([*program(), *words], env=env, check=False, input=b"")
        assert (done.returncode, done.stdout) == (1, b""), words
        assert "MPESA_MCP_API_KEY" in done.stderr.decode()
        assert len(done.stderr.decode().splitlines()) == 1
    assert not await anyio.Path(tmp_path / "data").exists()


async def test_a_wrong_key_is_refused_at_each_call_and_names_nobody(desktop: dict[str, str]) -> None:
    env = desktop | {"MPESA_MCP_API_KEY": "mpk_sim_00000000000000000000000000000000000000"}
    async with _spoken_to(env) as client:
        error = refusal(await client.call_tool("list_payments", {}))
    assert error["code"] == "unauthenticated"


@pytest.mark.parametrize(("mode", "version"), GENERATIONS)
async def test_the_bridge_passes_tools_results_and_refusals_through(
    platform: LocalPlatform, tmp_path: Path, mode: Any, version: str
) -> None:
    key = platform.key.reveal()
    env = variables(API_KEY=key, DATA_DIR=tmp_path / "data")
    async with AsyncExitStack() as stack:
        bridged = await stack.enter_async_context(_spoken_to(env, "--url", platform.url, mode=mode))
        direct = await stack.enter_async_context(connected(platform.url, key))
        assert bridged.protocol_version == version
        assert (await bridged.list_tools()).tools == (await direct.list_tools()).tools
        paid = await call(bridged, "stk_push", phone=phone("04"), amount=20, reference=mode, wait_seconds=20)
        assert paid["status"] == "succeeded"
        assert await call(direct, "get_payment", id=paid["payment_id"]) == paid
        for tool, arguments in (("get_payment", {"id": "nothing"}), ("stk_push", {"amount": True}), ("no_tool", {})):
            there = await direct.call_tool(tool, arguments)
            assert there.is_error
            assert (await bridged.call_tool(tool, arguments)).model_dump_json() == there.model_dump_json()
    assert not await anyio.Path(tmp_path / "data").exists()


async def test_the_bridge_passes_progress_through(platform: LocalPlatform) -> None:
    told: list[float] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        assert (total, message) == (3, "Waiting for the customer.")
        told.append(progress)

    silent = {"phone": phone("97"), "amount": 20, "reference": "A-1", "wait_seconds": 3}
    async with _spoken_to(variables(API_KEY=platform.key.reveal()), "--url", platform.url) as bridged:
        await bridged.call_tool("stk_push", silent, progress_callback=tell)
    assert told
    assert all(0 < each <= 3 for each in told)


_HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


def _spoken_to(env: dict[str, str], *words: str, mode: Any = "auto") -> Client:
    """A client of `mpesa-mcp stdio`, which it starts."""
    command, *arguments = program()
    return Client(StdioServerParameters(command=command, args=[*arguments, "stdio", *words], env=env), mode=mode)


def _lines(said: bytes, *, whole: bool = False) -> list[dict[str, Any]]:
    """What was said so far, line by line; every line must be a message."""
    lines = said.split(b"\n")
    assert not whole or lines[-1] == b""
    return [json.loads(line) for line in lines[:-1]]
