"""What an assistant is told where a payment needs a person and the organization has none who may approve it."""

from collections.abc import AsyncIterator

import pytest

from mpesa_mcp.app.local import LocalPlatform, local_platform
from mpesa_mcp.cli.doctor.people import approvers
from tests.clients import call, connected
from tests.payments.approvals import a_person

from .factories import ACCEPTED, a_row, phone, text_of

pytestmark = pytest.mark.anyio
NOBODY = "Nobody can approve it"
HELP = "accept an invitation as org_admin"


@pytest.fixture
async def platform() -> AsyncIterator[LocalPlatform]:
    async with local_platform(worker=False) as started:
        yield started


async def test_a_held_payment_says_that_nobody_can_approve_it_and_what_to_do_until_somebody_was_there_before(
    platform: LocalPlatform,
) -> None:
    rent = {"phone": phone("01"), "amount": 25_000, "remarks": "Rent", "wait_seconds": 0}
    async with connected(platform.url, platform.key.reveal()) as client:
        held = await call(client, "b2c_payment", idempotency_key="rent-1", **rent)
        bulk = ACCEPTED["bulk_payment"] | {"payments": [a_row(phone("02"), amount=25_000)], "expected_total": 25_000}
        batch = await call(client, "bulk_payment", **bulk)
        # Who becomes org_admin afterwards may decline it; it must be asked for again.
        await a_person(platform.core, platform.organization.organization_id, "jane")
        said = [
            held["next_step"],
            batch["next_step"],
            (await call(client, "get_batch", batch_id=batch["batch_id"]))["next_step"],
            (await call(client, "get_payment", id="rent-1", wait_seconds=0))["next_step"],
            (await call(client, "list_payments"))["payments"][0]["next_step"],
            text_of(await client.call_tool("list_approvals", {})),
        ]
        again = await call(client, "b2c_payment", idempotency_key="rent-2", **rent)
    assert (held["status"], batch["status"]) == ("awaiting_approval", "awaiting_approval")
    for text in said:
        assert NOBODY in text
        assert HELP in text
        assert "new idempotency_key" in text
    assert held["approval"]["url"] in held["next_step"]
    assert again["next_step"].startswith("A person must approve it")


async def test_the_doctor_tells_of_an_organization_whose_rules_want_more_people_than_it_has(
    platform: LocalPlatform,
) -> None:
    core, organization_id = platform.core, platform.organization.organization_id
    [nobody] = await approvers(core.store, core.clock)
    assert (nobody.name, nobody.status) == ("approvers_demo", "warning")
    assert "nobody can approve" in nobody.message
    assert nobody.fix is not None
    assert "mpesa-mcp org invite --org demo" in nobody.fix
    await a_person(core, organization_id, "jane")
    assert await approvers(core.store, core.clock) == []
