"""`/readyz` tells of paused calls, and stays ready: callbacks must still be received."""

import httpx2
import pytest

from mpesa_mcp.app.local import LocalPlatform
from mpesa_mcp.daraja.circuits import Circuits, Turn
from mpesa_mcp.daraja.trouble import Reason, Trouble
from mpesa_mcp.values import Environment
from tests.clients import TLS

pytestmark = pytest.mark.anyio


async def readyz(platform: LocalPlatform) -> httpx2.Response:
    async with httpx2.AsyncClient(verify=TLS, base_url=platform.url) as http:
        return await http.get("/readyz")


async def test_an_open_circuit_is_shown_without_names_and_makes_nobody_unready(platform: LocalPlatform) -> None:
    assert (await readyz(platform)).json() == {"ready": True, "database": "current", "daraja": []}
    circuits = Circuits(platform.core.store, platform.core.clock)
    for app in ("one", "other"):
        turn = await circuits.enter(app, Environment.SANDBOX, 0)
        assert isinstance(turn, Turn)
        turn.called, turn.trouble = True, Trouble(Reason.RATE_LIMITED, proven_unsent=True, retry_after_seconds=60)
        assert await circuits.learn(turn)
    answer = await readyz(platform)
    assert answer.status_code == 200
    assert answer.json()["ready"] is True
    [outage] = answer.json()["daraja"]
    assert set(outage) == {"environment", "state", "reason", "retry_at"}
    assert (outage["environment"], outage["state"], outage["reason"]) == ("sandbox", "open", "rate_limited")
    assert outage["retry_at"].endswith("Z")
