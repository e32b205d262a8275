"""One payment, three processes, one database: `serve` asks, `worker` sends and applies, `callbacks` receives."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import make_url

from tests.clients import call, connected

from .factories import answers, movements, phone, prepared, started

pytestmark = pytest.mark.anyio


@pytest.fixture
async def split(simulator: str, database: dict[str, Any], held_port: Callable[[], int]) -> Any:
    """The variables of an installation whose callbacks go to a process of their own."""
    port = held_port()
    urls = {name.upper(): value for name, value in database.items() if name != "data_dir"}
    public = {"PUBLIC_URL": f"http://127.0.0.1:{port}"}
    return await prepared(database["data_dir"], simulator, callback_port=port, **urls, **public)


def as_callbacks(env: dict[str, str]) -> dict[str, str]:
    """The variables of the process that faces the internet: on PostgreSQL its own role, and no key anywhere."""
    own = dict(env) | {"MPESA_MCP_DATA_DIR": env["MPESA_MCP_DATA_DIR"]}
    own.pop("MPESA_MCP_API_KEY")
    own.pop("MPESA_MCP_DATABASE_OWNER_URL", None)
    if url := own.get("MPESA_MCP_DATABASE_URL"):
        own["MPESA_MCP_DATABASE_URL"] = make_url(url).set(username="shop_callbacks").render_as_string()
    return own


async def test_a_call_that_waits_in_one_process_hears_of_a_callback_received_in_another(
    simulator: str, split: dict[str, str], held_port: Callable[[], int]
) -> None:
    port = held_port()
    url = f"http://127.0.0.1:{port}"
    serve = ("serve", "--port", str(port), "--no-worker", "--no-callbacks")
    before = len(await movements(simulator))
    async with AsyncExitStack() as processes:
        env = dict(split)
        key = env.pop("MPESA_MCP_API_KEY")
        await processes.enter_async_context(started(as_callbacks(split), "callbacks", says="Receiving callbacks"))
        await processes.enter_async_context(started(env, serve[0], *serve[1:], says="Serving MCP"))
        for _ in range(2):
            await processes.enter_async_context(started(env, "worker", says="Working"))
        await answers(url)
        client = await processes.enter_async_context(connected(url, key))
        await call(client, "stk_push", phone=phone("00", group=8), amount=10, reference="FIRST", wait_seconds=20)
        with anyio.fail_after(6):
            pushed = await call(
                client, "stk_push", phone=phone("01", group=8), amount=10, reference="SECOND", wait_seconds=20
            )
        assert (pushed["status"], bool(pushed["receipt"])) == ("succeeded", True)
        many = [
            {"phone": phone(f"{number:02}", group=9), "amount": 100, "idempotency_key": f"many-{number}"}
            for number in range(12)
        ]
        results: list[dict[str, Any]] = []

        async def pay(arguments: dict[str, Any]) -> None:
            results.append(await call(client, "b2c_payment", **arguments, remarks="Wages", wait_seconds=30))

        async with anyio.create_task_group() as tasks:
            for arguments in many:
                tasks.start_soon(pay, arguments)
        assert {result["status"] for result in results} == {"succeeded"}
    paid = [movement for movement in (await movements(simulator))[before:] if movement["kind"] == "b2c"]
    assert len(paid) == len(many)


async def test_the_process_that_faces_the_internet_holds_no_key(split: dict[str, str], tmp_path: Path) -> None:
    env = as_callbacks(split) | {"MPESA_MCP_MASTER_KEY_FILE": str(tmp_path / "there is none")}
    async with started(env, "callbacks", says="Receiving callbacks", cold=True) as process:
        assert process.returncode is None
