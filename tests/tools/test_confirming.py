"""Asking the user in the chat before a payout, in both generations of the protocol."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import ElicitRequestFormParams, ElicitRequestParams, ElicitResult, InputRequiredResult, InputResponses

from mpesa_mcp.app.local import LocalPlatform, local_platform
from mpesa_mcp.identity.api_keys import create_key
from mpesa_mcp.values import Environment, Role
from tests.clients import GENERATIONS, MODES, call, connected, refusal
from tests.shortcodes import OPERATOR
from tests.spending import give_rule

from .factories import asked_of_simulator, phone

pytestmark = pytest.mark.anyio
PAYEE = phone("01", group=77)
YES = ElicitResult(action="accept", content={"send": True})


@dataclass
class User:
    """Somebody in front of a client, who answers every question alike."""

    says: ElicitResult
    questions: list[str] = field(default_factory=list)

    async def __call__(self, _context: Any, asked: ElicitRequestParams) -> ElicitResult:
        assert isinstance(asked, ElicitRequestFormParams)
        self.questions.append(asked.message)
        return self.says


@pytest.fixture(scope="module")
async def platform() -> AsyncIterator[LocalPlatform]:
    """One whose organization wants every payout above KES 500 confirmed in the chat."""
    async with local_platform(delay_ms=30) as started:
        await want_confirmation(started)
        yield started


async def want_confirmation(platform: LocalPlatform) -> None:
    await give_rule(
        platform.core, platform.organization.organization_id, confirm_in_chat_above=500, approval_above=10_000
    )


def payout(key: str, *, amount: int = 600) -> dict[str, Any]:
    return {
        "phone": PAYEE,
        "amount": amount,
        "idempotency_key": key,
        "remarks": "Tomatoes",
        "wait_seconds": 20,
    }


async def paid(platform: LocalPlatform) -> int:
    """How much the simulator has paid to PAYEE."""
    moved = await asked_of_simulator(platform, "ledger")
    return sum(each["amount"] for each in moved if each["kind"] == "b2c" and each["party"] == PAYEE)


@pytest.mark.parametrize(("mode", "version"), GENERATIONS)
async def test_a_confirmed_payout_is_sent_once_and_its_repetition_asks_nobody(
    platform: LocalPlatform, mode: str, version: str
) -> None:
    user, before = User(YES), await paid(platform)
    async with connected(platform.url, platform.key.reveal(), mode=mode, answers=user) as client:
        assert client.protocol_version == version
        sent = await call(client, "b2c_payment", **payout(f"yes-{mode}"))
        again = await call(client, "b2c_payment", **payout(f"yes-{mode}"))
        small = await call(client, "b2c_payment", **payout(f"small-{mode}", amount=500))
    assert (sent["status"], again["payment_id"], again["replayed"]) == ("succeeded", sent["payment_id"], True)
    assert small["status"] == "succeeded"
    assert user.questions == [f"Send KES 600.00 to {PAYEE}?"]
    assert await paid(platform) == before + 600 + 500


@pytest.mark.parametrize("mode", MODES)
async def test_who_does_not_say_yes_has_nothing_stored_and_nothing_sent(platform: LocalPlatform, mode: str) -> None:
    before = await paid(platform)
    no = (
        ElicitResult(action="decline"),
        ElicitResult(action="cancel"),
        ElicitResult(action="accept", content={"send": False}),
    )
    for number, says in enumerate(no):
        key = f"no-{mode}-{number}"
        async with connected(platform.url, platform.key.reveal(), mode=mode, answers=User(says)) as client:
            refused = refusal(await client.call_tool("b2c_payment", payout(key)))
            assert (refused["code"], refused["advice"]) == ("not_confirmed", "ask_a_person")
            assert refusal(await client.call_tool("get_payment", {"id": key}))["code"] == "not_found"
    assert await paid(platform) == before


@pytest.mark.parametrize("mode", MODES)
async def test_what_cannot_be_asked_about_in_the_chat_waits_for_a_person(platform: LocalPlatform, mode: str) -> None:
    async with connected(platform.url, platform.key.reveal(), mode=mode) as client:
        held = await call(client, "b2c_payment", **payout(f"nobody-{mode}"))
    assert held["status"] == "awaiting_approval"
    assert held["approval"]["url"] in held["next_step"]
    assert "chat" in held["reason"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_confirmation_takes_the_place_of_no_approval(platform: LocalPlatform, mode: str) -> None:
    user = User(YES)
    async with connected(platform.url, platform.key.reveal(), mode=mode, answers=user) as client:
        held = await call(client, "b2c_payment", **payout(f"large-{mode}", amount=10_001))
    assert (held["status"], len(user.questions)) == ("awaiting_approval", 1)


@pytest.mark.parametrize("mode", MODES)
async def test_a_reversal_is_confirmed_with_the_amount_that_was_received(platform: LocalPlatform, mode: str) -> None:
    user, payer = User(YES), phone("02", group=77)
    async with connected(platform.url, platform.key.reveal(), mode=mode, answers=user) as client:
        received = await call(
            client, "stk_push", phone=payer, amount=700, reference=f"R-{mode}", idempotency_key=mode, wait_seconds=20
        )
        given_back = await call(
            client,
            "reverse",
            receipt=received["receipt"].lower(),
            reason="Twice",
            idempotency_key=f"back-{mode}",
            wait_seconds=20,
        )
    assert given_back["status"] == "succeeded"
    assert user.questions == [f"Give KES 700.00 back to 2547*****702, receipt {received['receipt']}?"]


async def test_an_answer_that_is_shown_again_pays_nothing_again(platform: LocalPlatform) -> None:
    before = await paid(platform)
    async with connected(platform.url, platform.key.reveal(), answers=User(YES)) as client:
        arguments = payout("replayed")
        asked = await client.session.call_tool("b2c_payment", arguments, allow_input_required=True)
        assert isinstance(asked, InputRequiredResult)
        assert asked.input_requests is not None
        answers: InputResponses = dict.fromkeys(asked.input_requests, YES)
        ids = set()
        for _ in range(3):
            told = await client.session.call_tool(
                "b2c_payment", arguments, input_responses=answers, request_state=asked.request_state
            )
            assert told.structured_content is not None
            ids.add(told.structured_content["payment_id"])
        assert len(ids) == 1
        assert await paid(platform) == before + 600

        # It is an answer about these arguments, of this caller, to a question that was asked.
        fresh = payout("never-asked")
        for state in (asked.request_state, f"{asked.request_state}A", "A" * 80):
            with pytest.raises(MCPError, match="requestState"):
                await client.session.call_tool(
                    "b2c_payment", fresh, input_responses=answers, request_state=state, allow_input_required=True
                )
        unasked = await client.session.call_tool(
            "b2c_payment", fresh, input_responses=answers, allow_input_required=True
        )
        assert isinstance(unasked, InputRequiredResult)
    other = await add_key(platform)
    async with connected(platform.url, other, answers=User(YES)) as client:
        with pytest.raises(MCPError, match="requestState"):
            await client.session.call_tool(
                "b2c_payment", arguments, input_responses=answers, request_state=asked.request_state
            )
    assert await paid(platform) == before + 600


async def add_key(platform: LocalPlatform) -> str:
    """Another key of the same organization."""
    core = platform.core
    made = await create_key(
        core.store,
        core.keyring,
        core.clock,
        organization_id=platform.organization.organization_id,
        name="another assistant",
        role=Role.MANAGER,
        environment=Environment.SIMULATOR,
        expires_at=None,
        tools=None,
        actor=OPERATOR,
    )
    return made.key.reveal()


async def test_without_sessions_an_older_client_cannot_be_asked_and_a_newer_one_can() -> None:
    async with local_platform(delay_ms=30, mcp_stateless=True) as platform:
        await want_confirmation(platform)
        told = {}
        for mode in MODES:
            async with connected(platform.url, platform.key.reveal(), mode=mode, answers=User(YES)) as client:
                told[mode] = (await call(client, "b2c_payment", **payout(f"stateless-{mode}")))["status"]
    assert told == {"auto": "succeeded", "legacy": "awaiting_approval"}
