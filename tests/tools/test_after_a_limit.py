"""What an assistant is told about a payment that a limit declined: what would help, not to try the same again."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from mpesa_mcp.app.local import LocalPlatform, local_platform
from mpesa_mcp.identity.standing import freeze
from mpesa_mcp.policy.windows import Window
from mpesa_mcp.values import EAT
from tests.clients import call, connected, refusal
from tests.shortcodes import OPERATOR
from tests.spending import give_rule

from .factories import phone, text_of

pytestmark = pytest.mark.anyio
AGAIN = "Then, when the user asks for it, give a new idempotency_key."


@pytest.fixture(scope="module")
async def platform() -> AsyncIterator[LocalPlatform]:
    async with local_platform(worker=False) as started:
        yield started


@pytest.mark.parametrize(
    ("code", "limit", "window", "helps"),
    [
        ("per_hour", 50, Window.HOUR, "on, when the limit begins anew; or an amount within what is left; or an org"),
        ("payments_per_month", 0, Window.MONTH, "on, when the limit begins anew; or an org_admin changes the rule."),
        ("per_recipient_per_day", 50, Window.DAY, "an amount within what is left; or an org_admin changes the rule."),
        ("per_payment", 50, None, "What helps: a smaller amount, if that is all there is to pay; or an org_admin"),
        ("denied_recipients", [phone("01")], None, "What helps: an org_admin changes the rule."),
    ],
)
async def test_a_payment_that_a_limit_declined_says_what_helps(
    platform: LocalPlatform, code: str, limit: Any, window: Window | None, helps: str
) -> None:
    core = platform.core
    await give_rule(core, platform.organization.organization_id, **{code: limit})
    payout = {"phone": phone("01"), "amount": 100, "remarks": "Tomatoes", "idempotency_key": code, "wait_seconds": 0}
    before = core.clock.now()
    async with connected(platform.url, platform.key.reveal()) as client:
        told = await call(client, "b2c_payment", **payout)
        text = text_of(await client.call_tool("get_payment", {"id": code}))
    assert (told["status"], told["result_code"]) == ("declined", code)
    step = told["next_step"]
    assert step.startswith("No money moved, and the same again would be declined, too. What helps: ")
    assert helps in step
    assert step.endswith(AGAIN)
    assert step in text
    if window is not None:
        ends = {window.end(at).astimezone(EAT) for at in (before, before + timedelta(minutes=1))}
        assert any(f"asking from {end:%Y-%m-%d %H:%M} EAT (Nairobi) on" in step for end in ends)


async def test_the_text_of_the_limits_says_how_large_a_batch_may_be(platform: LocalPlatform) -> None:
    await give_rule(platform.core, platform.organization.organization_id, largest_batch=1500)
    async with connected(platform.url, platform.key.reveal()) as client:
        limits = await client.call_tool("get_limits", {})
    assert "at most 1,500 payments a batch" in text_of(limits)


async def test_the_limits_of_a_frozen_organization_say_first_that_nothing_is_paid_out(platform: LocalPlatform) -> None:
    core, organization_id = platform.core, platform.organization.organization_id
    await give_rule(core, organization_id, per_hour=5_000, payments_per_hour=1)
    async with connected(platform.url, platform.key.reveal()) as client:
        before = await client.call_tool("get_limits", {})
        await freeze(core.store, core.clock, organization_id=organization_id, actor=OPERATOR)
        frozen = await client.call_tool("get_limits", {})
        payout = {"phone": phone("02"), "amount": 100, "remarks": "Tomatoes", "idempotency_key": "f", "wait_seconds": 0}
        code = refusal(await client.call_tool("b2c_payment", payout))["code"]
    for result, tools in ((before, ["stk_push", "b2c_payment", "reverse", "bulk_payment"]), (frozen, ["stk_push"])):
        assert result.structured_content is not None
        assert result.structured_content["tools"] == tools
    assert before.structured_content is not None
    assert frozen.structured_content is not None
    assert before.structured_content["stopped"] is None
    assert text_of(frozen).startswith("The organization is frozen: payouts and reversals are stopped")
    assert frozen.structured_content["stopped"] == text_of(frozen).splitlines()[0]
    assert frozen.structured_content["rules"] == before.structured_content["rules"]
    assert "KES 5,000.00 of KES 5,000.00 an hour is left" in text_of(before)
    assert "1 of 1 payment an hour is left" in text_of(before)
    assert code == "organization_frozen"
