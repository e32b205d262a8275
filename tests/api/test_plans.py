"""Plans, subscriptions, rate limits and usage over REST: the platform sets, an organization reads its own."""

from typing import Any

import anyio
import httpx2
import pytest

from mpesa_mcp.billing.usage import count_call
from mpesa_mcp.payments.core import Core
from mpesa_mcp.values import Role, new_id

from .people import People, a_key, error_of, make_people

pytestmark = pytest.mark.anyio


async def a_plan(http: httpx2.AsyncClient, people: People, **terms: Any) -> dict[str, Any]:
    body = {"slug": new_id("plan").replace("_", "-"), "name": "Basic", "monthly_fee": "1500"} | terms
    answer = await http.post("/plans", json=body, headers=people.headers("super_admin"))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_a_plan_is_offered_and_an_organization_reads_what_it_agreed_to(
    http: httpx2.AsyncClient, people: People
) -> None:
    plan = await a_plan(http, people, seats=50, tools=["stk_push", "get_payment"], key_calls_per_second=1000)
    listed = (await http.get("/plans", headers=people.headers("user"))).json()["items"]
    assert [listed[0]["slug"], listed[-1]] == ["self-hosted", plan]
    path = f"/organizations/{people.organization_id}/subscription"
    body = {"plan": plan["slug"], "status": "trial", "trial_days": 7}
    changed = await http.put(path, json=body, headers=people.headers("super_admin"))
    assert changed.status_code == 200, changed.text
    read = (await http.get(path, headers=people.headers("org_admin"))).json()
    assert read == changed.json()
    assert (read["plan"], read["status"], read["monthly_fee"], read["seats"]) == (plan["slug"], "trial", "1500.00", 50)
    assert read["tools"] == ["get_payment", "stk_push"]
    assert read["trial_ends_at"].endswith("Z")


async def test_what_a_subscription_cannot_become_is_a_conflict_and_changes_nothing(
    http: httpx2.AsyncClient, core: Core
) -> None:
    people = await make_people(core, slug=new_id("life").replace("_", "-"))
    path, root = f"/organizations/{people.organization_id}/subscription", people.headers("super_admin")
    before = (await http.put(path, json={"status": "past_due"}, headers=root)).json()
    for body, status, code in (
        ({"status": "trial"}, 409, "no_such_change"),
        ({"plan": "nobodys"}, 422, "no_such_plan"),
        ({"status": "asleep"}, 422, "invalid_input"),
        ({"trial_days": 3}, 422, "invalid_input"),
        ({"status": "active", "organization_id": "org_x"}, 422, "invalid_input"),
    ):
        answer = await http.put(path, json=body, headers=root)
        assert (answer.status_code, error_of(answer)["code"]) == (status, code), body
    assert (await http.get(path, headers=root)).json() == before
    twice = {"slug": "self-hosted", "name": "Mine"}
    assert (await http.post("/plans", json=twice, headers=root)).status_code == 409
    nowhere = await http.put("/organizations/org_none/subscription", json={"status": "active"}, headers=root)
    assert nowhere.status_code == 404


async def test_who_asks_too_often_is_told_to_wait_and_others_are_not(http: httpx2.AsyncClient, core: Core) -> None:
    people = await make_people(core, slug=new_id("often").replace("_", "-"))
    key = await a_key(core, people.organization_id, Role.ORG_ADMIN)
    path = f"/organizations/{people.organization_id}/rate-limits"
    limits = await http.put(path, json={"key_calls_per_second": 5}, headers=people.headers("super_admin"))
    assert (limits.json()["key_calls_per_second"], limits.json()["calls_per_second"]) == (5, None)
    answers: list[httpx2.Response] = []

    async def ask() -> None:
        answers.append(await http.get("/plans", headers={"Authorization": f"Bearer {key}"}))

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(ask)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) >= 10
    assert {answer.status_code for answer in answers} == {200, 429}
    assert refused[0].headers["Retry-After"] == "1"
    assert error_of(refused[0])["code"] == "rate_limited"
    assert (await http.get("/plans", headers=people.headers("org_admin"))).status_code == 200
    assert (await http.get("/plans", headers=people.headers("stranger"))).status_code == 200


async def test_usage_is_ones_own_in_detail_and_for_the_platform_the_totals_of_all(
    http: httpx2.AsyncClient, core: Core
) -> None:
    people = await make_people(core, slug=new_id("used").replace("_", "-"))
    async with core.store.session(people.organization_id) as session:
        count_call(session, core.clock.now(), actor="key:1", tool="stk_push", refused=False)
    async with core.store.session(people.strangers_organization_id) as session:
        count_call(session, core.clock.now(), actor="key:2", tool="stk_push", refused=True)
    [own] = (await http.get("/usage", headers=people.headers("manager"))).json()["items"]
    assert (own["organization_id"], own["calls"], own["amount_moved"]) == (people.organization_id, 1, "0.00")
    assert own["by_tool"] == [{"actor": "key:1", "tool": "stk_push", "calls": 1, "refused_calls": 0}]
    root = people.headers("super_admin")
    found: dict[str, Any] = {}
    cursor: str | None = None
    while cursor is not None or not found:
        query = {"limit": "1"} | ({"cursor": cursor} if cursor else {})
        page = (await http.get("/usage", params=query, headers=root)).json()
        found |= {item["organization_id"]: item for item in page["items"]}
        cursor = page["next_cursor"]
    assert found[people.organization_id] == own | {"by_tool": None, "by_outcome": None}
    assert found[people.strangers_organization_id]["refused_calls"] == 1
    path = f"/organizations/{people.organization_id}/usage"
    assert (await http.get(path, headers=root)).json() == own
    # Without a support grant: what the platform charges for, and no more.
    path = f"/organizations/{people.strangers_organization_id}/usage"
    told = (await http.get(path, headers=root)).json()
    assert told == found[people.strangers_organization_id] | {
        "by_tool": [{"actor": None, "tool": "stk_push", "calls": 0, "refused_calls": 1}]
    }
    path = f"/organizations/{people.organization_id}/usage"
    assert (await http.get(path, headers=people.headers("stranger"))).status_code == 404
    assert (await http.get("/usage", params={"month": "2026-13"}, headers=root)).status_code == 422
