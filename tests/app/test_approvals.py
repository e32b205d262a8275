"""An assistant prepares a payment and a person decides about it; and everything an assistant may try instead."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from sqlmodel import SQLModel, select

from mpesa_mcp.api.app import create_api
from mpesa_mcp.app.local import LocalPlatform
from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.identity.models import ApiKey, Invitation, User
from mpesa_mcp.identity.users import create_user
from mpesa_mcp.policy.approvals import ApprovalDecision
from mpesa_mcp.policy.models import SpendRule
from mpesa_mcp.tools.catalogue import all_tools
from mpesa_mcp.values import Role, Secret
from tests.clients import MODES, TLS, call, connected, refusal
from tests.shortcodes import OPERATOR
from tests.tools.factories import text_of

from .factories import key_for, movements, phone

pytestmark = pytest.mark.anyio
PASSWORD = "correct horse battery"
# What an organization's people and rights are kept in: no assistant changes anything here.
RIGHTS = (User, ApiKey, Invitation, SpendRule, ApprovalDecision)


@dataclass(frozen=True)
class Desk:
    """The API as a person sees it, who has signed in once for each use."""

    http: httpx2.AsyncClient
    email: str

    async def sign_in(self) -> dict[str, str]:
        tokens = (await self.http.post("/auth/login", json={"email": self.email, "password": PASSWORD})).json()
        return {"Authorization": f"Bearer {tokens['access_token']}"}


@pytest.fixture(scope="module")
async def desk(platform: LocalPlatform) -> AsyncIterator[Desk]:
    core = platform.core
    made = await create_user(
        core.store,
        core.clock,
        organization_id=platform.organization.organization_id,
        email="jane@demo.example",
        role=Role.ORG_ADMIN,
        password=Secret(PASSWORD),
        actor=OPERATOR,
        seats=seats_of,
    )
    async with httpx2.AsyncClient(verify=TLS, base_url=f"{platform.url}/api/v1", timeout=30) as http:
        yield Desk(http, made.email)


def payout(key: str, last_two: str = "01") -> dict[str, Any]:
    return {
        "phone": phone(last_two, group=88),
        "amount": 25_000,
        "idempotency_key": key,
        "remarks": "Two cows",
        "wait_seconds": 20,
    }


@pytest.mark.parametrize("mode", MODES)
async def test_a_payout_waits_for_a_person_and_the_assistant_learns_of_the_receipt(
    platform: LocalPlatform, desk: Desk, mode: str
) -> None:
    number = phone("01", group=88)
    async with connected(platform.url, platform.key.reveal(), mode=mode) as client:
        held = await call(client, "b2c_payment", **payout(f"cows-{mode}"))
        assert (held["status"], held["final"], held["safe_to_repeat"]) == ("awaiting_approval", False, False)
        approval = held["approval"]
        assert approval["url"] == f"{platform.url}/console/approvals/{approval['approval_id']}"
        assert approval["url"] in held["next_step"]
        listed = await client.call_tool("list_approvals", {})
        assert approval["approval_id"] in listed.model_dump_json()
        assert number not in listed.model_dump_json()

        jane = await desk.sign_in()
        pending = (await desk.http.get("/approvals", params={"status": "pending"}, headers=jane)).json()["items"]
        assert approval["approval_id"] in [each["approval_id"] for each in pending]
        path = f"/approvals/{approval['approval_id']}"
        seen = (await desk.http.get(path, headers=jane)).json()
        assert (seen["sending"]["phone"], seen["sending"]["remarks"]) == (number, "Two cows")
        assert (seen["asker"], seen["held_by"][0]["code"]) == ("demo assistant", "approval_above")
        assert seen["asked_through"]
        # The second time there is something to compare with.
        assert [each["status"] for each in seen["earlier_payments"]] == ["succeeded"] * MODES.index(mode)
        as_program = {"Authorization": f"Bearer {platform.key.reveal()}"}
        assert (await desk.http.get(path, headers=as_program)).json()["sending"]["phone"] == held["phone"]

        approved = await desk.http.post(f"{path}/approve", json={"digest": seen["digest"]}, headers=jane)
        assert (approved.status_code, approved.json()["status"]) == (200, "approved")
        paid = await call(client, "get_payment", id=held["payment_id"], wait_seconds=20)
    assert (paid["status"], paid["approval"]) == ("succeeded", None)
    assert paid["receipt"] in {each["receipt"] for each in await movements(platform.simulator_url)}


async def test_a_person_declines_and_the_assistant_reads_why(platform: LocalPlatform, desk: Desk) -> None:
    jane = await desk.sign_in()
    async with connected(platform.url, platform.key.reveal()) as client:
        held = await call(client, "b2c_payment", **payout("declined", "02"))
        path = f"/approvals/{held['approval']['approval_id']}"
        assert (await desk.http.post(f"{path}/decline", json={}, headers=jane)).status_code == 422
        declined = await desk.http.post(f"{path}/decline", json={"reason": "We have no barn"}, headers=jane)
        assert declined.json()["status"] == "declined"
        assert (await desk.http.post(f"{path}/approve", headers=jane)).status_code == 409
        text = text_of(await client.call_tool("get_payment", {"id": "declined"}))
        assert "A person declined it: We have no barn. No money moved." in text
        told = await call(client, "get_payment", id="declined")
        [listed] = (await call(client, "list_approvals", status="declined"))["approvals"]
    assert (told["status"], told["final"], told["reason"]) == (
        "declined",
        True,
        "A person declined it: We have no barn",
    )
    assert listed["declined_because"] == "We have no barn"


async def test_no_tool_and_no_route_lets_an_assistant_approve_or_gain_a_right(
    platform: LocalPlatform, desk: Desk
) -> None:
    """With an org_admin's key, and with the token of an org_admin's session that was used on /mcp."""
    organization_id = platform.organization.organization_id
    key = await key_for(platform, organization_id, role=Role.ORG_ADMIN)
    in_the_chat = await desk.sign_in()
    bearers = [key.key.reveal(), in_the_chat["Authorization"].removeprefix("Bearer ")]
    async with connected(platform.url, bearers[0]) as client:
        held = await call(client, "b2c_payment", **payout("attacked", "03"))
    approval = (await desk.http.get(f"/approvals/{held['approval']['approval_id']}", headers=in_the_chat)).json()
    before = [await rows(platform, table) for table in RIGHTS]
    for bearer in bearers:
        async with connected(platform.url, bearer) as client:
            for tool, arguments in tried(approval):
                told = await client.call_tool(tool, arguments)
                assert told.is_error or (told.structured_content or {}).get("status") != "approved", tool
        headers = {"Authorization": f"Bearer {bearer}"}
        for method, path, body in asked(platform, approval):
            answer = await desk.http.request(method, path, json=body, headers=headers)
            assert answer.status_code < 500, (method, path, answer.text)
        for act in ("approve", "decline"):
            decided = await desk.http.post(
                f"/approvals/{approval['approval_id']}/{act}", json={"reason": "Please"}, headers=headers
            )
            assert (decided.status_code, decided.json()["error"]["code"]) == (403, "person_needed")
    assert [await rows(platform, table) for table in RIGHTS] == before
    async with connected(platform.url, bearers[1]) as client:
        still = await call(client, "get_payment", id=held["payment_id"])
    assert still["status"] == "awaiting_approval"
    moved = await movements(platform.simulator_url)
    assert phone("03", group=88) not in {each["party"] for each in moved}


async def test_who_asks_in_the_chat_does_not_approve_it_at_the_desk(platform: LocalPlatform, desk: Desk) -> None:
    in_the_chat, at_the_desk = await desk.sign_in(), await desk.sign_in()
    async with connected(platform.url, in_the_chat["Authorization"].removeprefix("Bearer ")) as client:
        # What others here have asked for is most of the day's limit.
        asked_for = payout("own", "04") | {"amount": 11_000}
        held = await call(client, "b2c_payment", **asked_for)
        path = f"/approvals/{held['approval']['approval_id']}/approve"
        told = await desk.http.post(path, headers=at_the_desk)
        assert (told.status_code, told.json()["error"]["code"]) == (403, "own_request")
        again = await client.call_tool("b2c_payment", asked_for | {"amount": 10_999})
        assert refusal(again)["code"] == "idempotency_conflict"


async def rows(platform: LocalPlatform, table: type[SQLModel]) -> list[dict[str, Any]]:
    """What the organization has of this, but for when a key or an account was last used."""
    async with platform.core.store.reading(platform.organization.organization_id) as session:
        found = await session.all(select(table))
    return sorted((row.model_dump(exclude={"last_used_at", "last_sign_in_at"}) for row in found), key=repr)


def tried(approval: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every tool with what could name the approval in each of its texts, and with arguments that do not exist."""
    calls: list[tuple[str, dict[str, Any]]] = []
    for offered in all_tools():
        named = offered.tool.parameters["properties"].items()
        texts = [name for name, schema in named if schema["type"] == "string" and "enum" not in schema]
        for value in (approval["approval_id"], approval["payment_id"], approval["url"]):
            calls += [(offered.tool.name, {name: value}) for name in texts]
        calls.append((offered.tool.name, {"approve": approval["approval_id"], "digest": approval["digest"]}))
    return [*calls, ("approve", {"approval_id": approval["approval_id"]}), ("approve_payment", {})]


def asked(platform: LocalPlatform, approval: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """Every route that changes something, about this approval and this organization, with its documented example.

    But for what any org_admin's key may do: to stop all payouts.
    """
    document = create_api(platform.core).openapi()
    calls = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method == "get" or path.endswith("/freeze") or path == "/auth/logout":
                continue
            body = None
            if "requestBody" in operation:
                reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
                body = document["components"]["schemas"][reference.rpartition("/")[2]]["examples"][0]
            named = path.replace("{organization_id}", platform.organization.organization_id)
            calls.append((method.upper(), re.sub(r"\{\w+\}", approval["approval_id"], named), body))
    return calls
