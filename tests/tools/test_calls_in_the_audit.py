"""Every call of a tool is in the audit: by whom, through which client, in which request, and whether it was refused."""

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import Implementation

from mpesa_mcp.app.local import LocalPlatform
from mpesa_mcp.audit.reading import EntryFilter, EntryRecord, list_entries
from tests.clients import MODES, TLS

from .factories import ACCEPTED, phone

pytestmark = pytest.mark.anyio


async def calls(platform: LocalPlatform) -> list[EntryRecord]:
    wanted = EntryFilter(action="tool.called")
    page = await list_entries(platform.core.store, platform.organization.organization_id, wanted, limit=3)
    return list(page.entries)


@pytest.mark.parametrize("mode", MODES)
async def test_each_call_says_who_made_it_with_what_and_what_came_of_it(platform: LocalPlatform, mode: str) -> None:
    request_ids = []

    async def note(answer: httpx2.Response) -> None:
        request_ids.append(answer.headers.get("x-request-id"))

    headers = {"Authorization": f"Bearer {platform.key.reveal()}", "traceparent": f"00-{'4b' * 16}-{'0f' * 8}-01"}
    async with (
        httpx2.AsyncClient(verify=TLS, headers=headers, event_hooks={"response": [note]}) as http,
        Client(
            streamable_http_client(f"{platform.url}/mcp", http_client=http),
            mode=mode,
            client_info=Implementation(name="some desk", version="7.1"),
        ) as client,
    ):
        push = {**ACCEPTED["stk_push"], "phone": phone("01"), "reference": f"CALL-{mode}"}
        made = (await client.call_tool("stk_push", push)).structured_content
        await client.call_tool("get_payment", {"id": "nobody", "wait_seconds": 0})
        await client.call_tool("drop_tables", {})
    no_tool, not_found, pushed = await calls(platform)
    assert made is not None
    assert (pushed.subject, pushed.decision, pushed.detail) == (
        "stk_push",
        "allowed",
        {"payment_id": made["payment_id"]},
    )
    assert (not_found.subject, not_found.decision, not_found.reasons) == ("get_payment", "refused", "not_found")
    assert (no_tool.subject, no_tool.decision, no_tool.reasons) == ("unknown", "refused", "not_allowed")
    for entry in (no_tool, not_found, pushed):
        assert entry.actor.startswith("key:")
        assert (entry.client, entry.address, entry.trace_id) == ("some desk 7.1", "127.0.0.1", "4b" * 16)
        assert entry.request_id in request_ids
    assert len({entry.request_id for entry in (no_tool, not_found, pushed)}) == 3
