"""Whatever a tool is asked about another organization is answered as for what does not exist."""

import pytest

from mpesa_mcp.app.local import LocalPlatform
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.tools.catalogue import all_tools
from mpesa_mcp.values import eat_today
from tests.clients import GENERATIONS, call, connected

from .asking import ACCEPTED, Choice, accepted, as_asker, each_thing, every, few, nothing_comes_of
from .factories import Theirs, make_key, make_organization, manager_of, marks_in, rows_of, unlike

pytestmark = pytest.mark.anyio


async def test_the_matrix_knows_every_tool_and_argument(platform: LocalPlatform) -> None:
    """A tool or an argument that is added fails here, until `asking.ACCEPTED` says what it accepts."""
    known = {tool: set(arguments) for tool, arguments in ACCEPTED.items()}
    assert known == {each.tool.name: set(each.tool.parameters["properties"]) for each in all_tools()}
    for tool in ACCEPTED:
        result = await as_asker(platform)(tool, await accepted(platform, tool))
        assert not result.is_error or tool in {"get_payment", "get_batch"}, result


async def test_what_names_theirs_has_a_counterpart_that_names_nothing(theirs: Theirs) -> None:
    values = list(theirs.named.values())
    assert len(set(values)) == len(values)
    assert not {unlike(value) for value in values} & set(values)


@pytest.mark.sqlite  # row-level security would hide a hole in the filter
@pytest.mark.parametrize("choice", [each_thing, pytest.param(every, marks=pytest.mark.slow)])
async def test_every_argument_with_a_value_of_theirs_is_answered_as_for_nothing(
    platform: LocalPlatform, theirs: Theirs, choice: Choice
) -> None:
    """Here the session's own filter holds alone, on SQLite; the second lock alone is in test_row_security."""
    before = await rows_of(platform.core, theirs.organization.organization_id)
    assert all(before.values()), "every table holds something of theirs"
    ask = as_asker(platform)
    for case in choice(theirs):
        await nothing_comes_of(platform, theirs, ask, case)
    assert await rows_of(platform.core, theirs.organization.organization_id) == before


@pytest.mark.parametrize(("mode", "version"), GENERATIONS)
async def test_over_http_it_is_the_same_in_both_generations(
    platform: LocalPlatform, theirs: Theirs, mode: str, version: str
) -> None:
    async with connected(platform.url, platform.key.reveal(), mode=mode) as client:
        assert client.protocol_version == version
        for case in few(theirs):
            await nothing_comes_of(platform, theirs, client.call_tool, case)


@pytest.mark.parametrize(("mode", "version"), GENERATIONS)
async def test_one_who_has_nothing_lists_nothing(
    platform: LocalPlatform, theirs: Theirs, mode: str, version: str
) -> None:
    made = await make_organization(platform.core, f"nothing-{mode}")
    key = await make_key(platform.core, made.organization_id)
    today = eat_today(platform.core.clock).isoformat()
    async with connected(platform.url, key.key.reveal(), mode=mode) as client:
        assert await call(client, "list_payments") == {"payments": [], "next_cursor": None}
        report = await call(client, "transaction_report", from_date=today, to_date=today, group_by="status")
        assert (report["totals"]["count"], report["groups"]) == (0, [])
        balance = await call(client, "check_balance", max_age_seconds=86_400, wait_seconds=0)
        assert (balance["status"], balance["accounts"]) == ("pending", [])


async def test_what_they_asked_for_is_asked_for_anew_when_we_ask_for_the_same(
    platform: LocalPlatform, theirs: Theirs
) -> None:
    for key in (None, theirs.named["an idempotency key"]):
        own = await make_organization(platform.core, f"twin-{'keyed' if key else 'bare'}")
        request = type(theirs.push)(
            phone=theirs.push.phone,
            amount=theirs.push.amount,
            reference=theirs.push.reference,
            idempotency_key=key,
        )
        opened = await open_payment(platform.core, manager_of(own.organization_id), request)
        assert not opened.replayed
        assert opened.payment.payment_id not in theirs.named.values()


async def test_their_own_assistant_does_find_it_all(platform: LocalPlatform, theirs: Theirs) -> None:
    """The matrix would be worth nothing if these values named nothing to anybody."""
    finds = ("a payment that is succeeded", "a receipt", "an idempotency key", "a checkout request", "a conversation")
    async with connected(platform.url, theirs.key.key.reveal()) as client:
        for what in finds:
            found = await call(client, "get_payment", id=theirs.named[what])
            assert found["payment_id"] == theirs.named["a payment that is succeeded"]
        listed = await call(client, "list_payments", reference=theirs.named["a reference"], limit=100)
        assert len(listed["payments"]) >= 12
        assert marks_in(listed, theirs)
