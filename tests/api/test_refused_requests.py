"""What the audit keeps of requests that were refused: who wanted to change what, and why it was not done."""

from collections.abc import Sequence
from typing import Any

import httpx2
import pytest

from mpesa_mcp.audit.reading import EntryFilter, EntryRecord, list_entries
from mpesa_mcp.billing.subscriptions import set_rate_limits
from mpesa_mcp.identity.models import PLATFORM
from mpesa_mcp.payments.core import Core

from .people import OPERATOR, People, make_people

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def people(core: Core) -> People:
    return await make_people(core, slug="ledger")


async def refusals(core: Core, organization_id: str) -> Sequence[EntryRecord]:
    """Oldest first."""
    page = await list_entries(core.store, organization_id, EntryFilter(action="request.refused"), limit=200)
    return page.entries[::-1]


async def test_a_change_that_is_refused_is_told_once_with_its_reason_in_the_callers_own_chain(
    core: Core, http: httpx2.AsyncClient, people: People
) -> None:
    acme, zebra = people.organization_id, people.strangers_organization_id
    before = len(await refusals(core, PLATFORM))
    admin = people.users["org_admin"].user_id
    key = {"name": "mine", "role": "org_admin"}
    made = await http.post("/api-keys", json=key, headers=people.headers("org_admin"))
    key_id, secret = made.json()["key_id"], "typed-into-the-path"
    asked: tuple[tuple[str, str, str, Any, str, str], ...] = (
        ("manager", "POST", "/api-keys", key, "not_allowed", acme),
        ("org_admin_key", "POST", f"/api-keys/{key_id}/revoke", None, "person_needed", key_id),
        ("org_admin_on_mcp", "DELETE", "/spend-rules/organization", None, "person_needed", acme),
        ("org_admin", "POST", f"/users/{admin}/deactivate", None, "own_role", admin),
        ("org_admin", "POST", f"/api-keys/{secret}/revoke", None, "not_found", acme),
        ("org_admin", "POST", f"/organizations/{acme}/unfreeze", {}, "not_frozen", acme),
        ("stranger", "PATCH", f"/organizations/{acme}", {"name": "Mine"}, "not_found", acme),
        ("super_admin", "POST", "/api-keys", key, "not_allowed", PLATFORM),
    )
    told = []
    for caller, method, path, body, code, subject in asked:
        answer = await http.request(method, f"{path}", json=body, headers=people.headers(caller))
        assert answer.json()["error"]["code"] == code, path
        told.append((code, subject, answer.headers["X-Request-ID"]))
    written = [await refusals(core, acme), await refusals(core, zebra), (await refusals(core, PLATFORM))[before:]]
    assert [len(each) for each in written] == [6, 1, 1]
    entries = [entry for each in written for entry in each]
    assert [(entry.reasons, entry.subject, entry.request_id) for entry in entries] == told
    assert {(entry.decision, entry.address) for entry in entries} == {("refused", "203.0.113.7")}
    assert [entry.detail for entry in entries[2:5]] == [
        {"request": "DELETE /api/v1/spend-rules/{scope}"},
        {"request": "POST /api/v1/users/{user_id}/deactivate"},
        {"request": "POST /api/v1/api-keys/{key_id}/revoke"},
    ]
    assert [entry.actor for entry in entries[3:5]] == [f"user:{admin}"] * 2
    assert secret not in repr(entries)


async def test_looking_nobody_nonsense_and_a_flood_write_nothing(
    core: Core, http: httpx2.AsyncClient, people: People
) -> None:
    acme, zebra = people.organization_id, people.strangers_organization_id
    before = len(await refusals(core, acme))
    for caller, method, body, status in (
        ("manager", "GET", None, 403),
        ("nobody", "POST", {"name": "a", "role": "user"}, 401),
        ("org_admin", "POST", {"nothing": True}, 422),
    ):
        answer = await http.request(method, "/api-keys", json=body, headers=people.headers(caller))
        assert answer.status_code == status
    password = {"current_password": "not that one", "new_password": "correct horse battery 2"}
    assert (await http.post("/auth/password", json=password, headers=people.headers("manager"))).status_code == 401
    assert len(await refusals(core, acme)) == before

    before = len(await refusals(core, zebra))
    await set_rate_limits(
        core.store, core.clock, organization_id=zebra, calls_per_second=None, key_calls_per_second=1, actor=OPERATOR
    )
    answers = [
        (await http.post(f"/organizations/{acme}/freeze", headers=people.headers("stranger"))).status_code
        for _ in range(20)
    ]
    assert set(answers) == {404, 429}
    assert len(await refusals(core, zebra)) == before + answers.count(404)
