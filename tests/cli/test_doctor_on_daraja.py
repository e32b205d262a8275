"""`doctor` tells which environments' calls are paused, why, and what to do."""

import asyncio
from datetime import timedelta

from mpesa_mcp.daraja.circuits import AppCircuit
from mpesa_mcp.daraja.trouble import Reason
from mpesa_mcp.store.engine import open_store
from mpesa_mcp.values import Environment, SystemClock

from .conftest import Terminal
from .test_database_and_doctor import diagnosis


def pause(terminal: Terminal, *paused: tuple[str, Environment, Reason, int]) -> None:
    async def write() -> None:
        store = open_store(f"sqlite+aiosqlite:///{terminal.data_dir / 'mpesa-mcp.db'}")
        now = SystemClock().now()
        async with store.platform() as session:
            for app_id, environment, reason, seconds in paused:
                until = now + timedelta(seconds=seconds)
                row = AppCircuit(app_id=app_id, environment=environment, reason=reason, updated_at=now)
                row.paused_until = until
                session.add(row)
        await store.close()

    asyncio.run(write())


def test_when_no_calls_are_paused_all_is_well(terminal: Terminal) -> None:
    terminal.ask("org", "create", "Acme Ltd", "--slug", "acme")
    assert diagnosis(terminal)[1]["daraja"]["status"] == "ok"


def test_each_environment_whose_calls_are_paused_is_one_warning_with_a_remedy(terminal: Terminal) -> None:
    terminal.ask("org", "create", "Acme Ltd", "--slug", "acme")
    pause(
        terminal,
        ("one", Environment.SANDBOX, Reason.RATE_LIMITED, 50),
        ("two", Environment.SANDBOX, Reason.WEB_PAGE, 55),
        ("three", Environment.PRODUCTION, Reason.NOT_CONNECTED, -5),
    )
    code, found = diagnosis(terminal)
    assert code == 0
    assert "daraja" not in found
    sandbox, production = found["daraja_sandbox"], found["daraja_production"]
    assert (sandbox["status"], production["status"]) == ("warning", "warning")
    assert "limiting the rate of requests and is hidden behind a web page" in sandbox["message"]
    assert "MPESA_MCP_DARAJA_CALLS_PER_SECOND" in sandbox["fix"]
    assert "with the next payment" in production["message"]
    assert "network" in production["fix"]
