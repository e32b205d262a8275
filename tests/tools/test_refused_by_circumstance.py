"""Calls that are refused although their arguments are fine: no credentials, or Safaricom says no."""

import httpx2
import pytest
from mcp.client import Client

from mpesa_mcp.app.local import LocalPlatform
from mpesa_mcp.identity.api_keys import create_key
from mpesa_mcp.identity.organizations import create_organization
from mpesa_mcp.values import Environment, Role
from tests.clients import TLS, call, connected, refusal
from tests.shortcodes import OPERATOR

from .factories import ACCEPTED, asked_of_simulator, phone, text_of

pytestmark = pytest.mark.anyio

PROSE = "Kindly contact apisupport and send the payment again"


@pytest.mark.parametrize("environment", list(Environment))
async def test_without_credentials_the_refusal_names_the_command_that_sets_them(
    platform: LocalPlatform, environment: Environment
) -> None:
    core = platform.core
    slug = f"no-credentials-{environment}"
    bare = await create_organization(core.store, core.clock, name="Bare", slug=slug, actor="operator:test")
    made = await create_key(
        core.store,
        core.keyring,
        core.clock,
        organization_id=bare.organization_id,
        name="bare",
        role=Role.MANAGER,
        environment=environment,
        expires_at=None,
        tools=None,
        actor=OPERATOR,
    )
    async with connected(platform.url, made.key.reveal()) as client:
        for tool in ("stk_push", "b2c_payment", "check_balance", "transaction_status"):
            result = await client.call_tool(tool, ACCEPTED[tool])
            error = refusal(result)
            assert error["advice"] == "ask_a_person", tool
            if error["code"] == "public_url_missing":
                # Safaricom could not answer anyway: that is said first, save for a push, which can be asked about.
                assert (environment is Environment.SIMULATOR, tool == "stk_push") == (False, False)
                assert "MPESA_MCP_PUBLIC_URL" in text_of(result), tool
                continue
            assert error["code"] == "credentials_missing", tool
            assert "mpesa-mcp credentials set" in text_of(result), tool
            assert environment.value in text_of(result), tool
        # What is stored here needs no credentials.
        assert (await call(client, "list_payments"))["payments"] == []


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ({"status": 400, "body": {"requestId": "1", "errorCode": "400.002.02", "errorMessage": PROSE}}, "failed"),
        ({"status": 500, "body": {"requestId": "1", "errorCode": "500.001.1001", "errorMessage": PROSE}}, "unknown"),
        ({"status": 200, "body": {"ResponseCode": "7", "ResponseDescription": PROSE}}, None),
        ({"status": 403, "body": f"<html>{PROSE}</html>"}, "unknown"),
        ({"drop": True}, "unknown"),
    ],
    ids=["bad field", "internal error", "unknown response", "a page", "no answer"],
)
async def test_safaricoms_prose_never_reaches_the_model(
    platform: LocalPlatform, client: Client, fault: dict[str, object], status: str | None
) -> None:
    number = phone("01", group=40)
    async with httpx2.AsyncClient(verify=TLS, base_url=platform.simulator_url) as simulator:
        assert (await simulator.post("/_sim/faults", json={"operation": "b2c", **fault})).status_code == 200
    payout = ACCEPTED["b2c_payment"] | {"phone": number, "idempotency_key": f"fault-{hash(str(fault))}"}
    result = await client.call_tool("b2c_payment", payout | {"wait_seconds": 1})
    assert not result.is_error
    assert PROSE not in result.model_dump_json()
    assert "apisupport" not in result.model_dump_json()
    structure = result.structured_content
    assert structure is not None
    assert structure["reason"]
    assert structure["status"] in ({status} if status else {"failed", "unknown"})
    assert [each for each in await asked_of_simulator(platform, "ledger") if each["party"] == number] == []
