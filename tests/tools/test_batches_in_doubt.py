"""What get_batch says of rows that nobody knows the end of: that they may have been paid, and who must act."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from mcp.client import Client
from sqlalchemy import update
from sqlmodel import col

from mpesa_mcp.app.local import LocalPlatform, local_platform
from mpesa_mcp.payments.batches.feeder import claim_batches, feed_batch
from mpesa_mcp.payments.batches.reading import batch_of
from mpesa_mcp.payments.batches.results import result_csv
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.states import PaymentStatus
from tests.clients import call, connected

from .factories import a_row, phone, text_of

pytestmark = pytest.mark.anyio
PAID_OUT = "The money was paid out."
DOUBT = "Safaricom contradicts itself about this, so the money may have moved"


@pytest.fixture(scope="module")
async def platform() -> AsyncIterator[LocalPlatform]:
    async with local_platform(worker=False) as started:
        yield started


@pytest.fixture(scope="module")
async def client(platform: LocalPlatform) -> AsyncIterator[Client]:
    async with connected(platform.url, platform.key.reveal()) as opened:
        yield opened


async def a_batch(platform: LocalPlatform, client: Client, key: str, *ends: dict[str, Any]) -> str:
    """A batch whose payments, in the order of its rows, have come to these ends."""
    count, group = len(ends), 10 + len(key)
    asked = await call(
        client,
        "bulk_payment",
        name="Suppliers",
        payments=[a_row(phone(f"{line:02d}", group=group)) for line in range(count)],
        purpose="business",
        idempotency_key=key,
        expected_total=100 * count,
        expected_count=count,
    )
    core, batch_id = platform.core, str(asked["batch_id"])
    for claim in await claim_batches(core, 10):
        await feed_batch(core, claim)
    async with core.store.session(platform.organization.organization_id) as session:
        for line, values in enumerate(ends):
            of_row = col(Payment.phone) == phone(f"{line:02d}", group=group)
            await session.change(update(Payment).where(col(Payment.batch_id) == batch_id, of_row).values(**values))
    return batch_id


DISPUTED = {"status": PaymentStatus.DISPUTED, "next_action_at": None, "reason": PAID_OUT}
ASKED_IN_VAIN = {"status": PaymentStatus.UNKNOWN, "next_action_at": None, "reason": "Safaricom has not said it."}


async def test_a_disputed_row_is_never_told_as_paid_alone_wherever_it_is_read(
    platform: LocalPlatform, client: Client
) -> None:
    batch_id = await a_batch(platform, client, "doubt-1", DISPUTED, ASKED_IN_VAIN)
    found = await client.call_tool("get_batch", {"batch_id": batch_id})
    assert found.structured_content is not None
    disputed, unknown = found.structured_content["problems"]
    assert DOUBT in disputed["reason"]
    assert disputed["reason"].endswith(f"Said last: {PAID_OUT}")
    assert unknown["reason"] == "Safaricom has not said it. The money may have moved."
    assert f"Line 1: disputed. {DOUBT}" in text_of(found)
    payment = await call(client, "get_payment", id=disputed["payment_id"], wait_seconds=0)
    assert payment["reason"] == disputed["reason"]
    batch = await batch_of(platform.core, platform.organization.organization_id, batch_id)
    result = b"".join([part async for part in result_csv(platform.core, batch)]).decode()
    assert DOUBT in result.splitlines()[1]


async def test_of_rows_that_nobody_asks_about_any_more_the_user_is_told_that_a_person_must_decide(
    platform: LocalPlatform, client: Client
) -> None:
    batch_id = await a_batch(platform, client, "doubt-22", DISPUTED, ASKED_IN_VAIN)
    found = await call(client, "get_batch", batch_id=batch_id)
    assert (found["status"], found["final"]) == ("unresolved", False)
    assert "Tell the user that of 2 rows a person must find out and decide" in found["next_step"]
    assert "Do not pay them again" in found["next_step"]
    assert "Call get_batch" not in found["next_step"]


async def test_while_a_row_is_asked_about_the_batch_is_read_again_and_the_others_are_for_a_person(
    platform: LocalPlatform, client: Client
) -> None:
    still_asked = {"status": PaymentStatus.UNKNOWN, "next_action_at": platform.core.clock.now() + timedelta(hours=1)}
    batch_id = await a_batch(platform, client, "doubt-333", DISPUTED, still_asked)
    found = await call(client, "get_batch", batch_id=batch_id)
    assert found["status"] == "unresolved"
    assert "Call get_batch" in found["next_step"]
    assert "Tell the user that of 1 row a person must find out" in found["next_step"]
