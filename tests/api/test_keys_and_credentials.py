"""Keys and credentials over REST: shown once or never, changed by persons alone, and whole or not at all."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from mpesa_mcp.app.http import listen, port_of, serving
from mpesa_mcp.app.web import create_web
from mpesa_mcp.payments.core import Core
from mpesa_mcp.settings import Settings
from mpesa_mcp.simulator.app import create_simulator

from .people import People, error_of

pytestmark = pytest.mark.anyio
SECRETS = {
    "consumer_key": "consumer-key-of-the-app-7733",
    "consumer_secret": "consumer-secret-of-the-app-9911",
    "passkey": "bfb279f9aa9bdbcf158e97dd71a467cd2e0c893059b10f78e6b72ada1ed2c919",
    "initiator_name": "testapi",
    "initiator_password": "Safaricom999!*!",
}
PLACE = {"environment": "simulator", "shortcode": "174379"}


@pytest.fixture(scope="module")
async def desk(core: Core) -> AsyncIterator[httpx2.AsyncClient]:
    """The API beside a simulator that is there."""
    async with serving(create_simulator(seed=1, delay_ms=10), opened := listen("127.0.0.1", 0)):
        values = core.settings.model_dump() | {"simulator_url": f"http://127.0.0.1:{port_of(opened)}"}
        near = replace(core, settings=Settings(**values))
        transport = httpx2.ASGITransport(create_web(near), raise_app_exceptions=False)
        async with httpx2.AsyncClient(
            transport=transport, base_url=f"{core.settings.reached_at}/api/v1", timeout=20
        ) as client:
            yield client


async def test_a_key_is_made_rotated_and_revoked_and_its_text_is_answered_once(
    http: httpx2.AsyncClient, people: People
) -> None:
    as_admin = people.headers("org_admin")
    wanted = {"name": "till 4", "role": "manager", "environment": "simulator"}
    made = (await http.post("/api-keys", json=wanted, headers=as_admin)).json()
    assert (made["role"], made["tools"], made["usable"]) == ("manager", None, True)
    assert made["created_by"] == f"user:{people.users['org_admin'].user_id}"
    with_key = {"Authorization": f"Bearer {made['key']}"}
    assert (await http.get("/payments", headers=with_key)).status_code == 200
    rotated = (
        await http.post(f"/api-keys/{made['key_id']}/rotate", json={"overlap_hours": 24}, headers=as_admin)
    ).json()
    with_next = {"Authorization": f"Bearer {rotated['key']}"}
    for headers in (with_key, with_next):
        assert (await http.get("/payments", headers=headers)).status_code == 200
    revoked = await http.post(f"/api-keys/{made['prefix']}/revoke", headers=as_admin)
    assert (revoked.status_code, revoked.json()["usable"]) == (200, False)
    assert (await http.get("/payments", headers=with_key)).status_code == 401
    listed = (await http.get("/api-keys", headers=as_admin)).text
    assert made["prefix"] in listed
    assert made["key"] not in listed
    assert rotated["key"] not in listed


@pytest.mark.parametrize("smuggled", [{"organization_id": "org_x"}, {"role": "super_admin"}, {"created_by": "me"}])
async def test_what_a_key_may_not_be_is_refused(
    http: httpx2.AsyncClient, people: People, smuggled: dict[str, str]
) -> None:
    wanted = {"name": "till 4", "role": "manager", "environment": "simulator"} | smuggled
    answer = await http.post("/api-keys", json=wanted, headers=people.headers("org_admin"))
    assert answer.status_code == 422
    error_of(answer)


async def test_credentials_are_set_after_a_check_and_never_told(desk: httpx2.AsyncClient, people: People) -> None:
    path, as_admin = f"/organizations/{people.organization_id}/credentials", people.headers("org_admin")
    put = await desk.put(path, json=PLACE | SECRETS | {"type": "paybill"}, headers=as_admin)
    assert put.status_code == 200, put.text
    shown = await desk.get(path, headers=people.headers("org_admin_key"))
    for answer in (put, shown):
        assert not [secret for secret in SECRETS.values() if secret in answer.text and secret != "testapi"]
    marks = {mark["field"]: mark["last_four"] for mark in shown.json()["items"][0]["secrets"]}
    assert marks["consumer_key"] == "7733"
    assert marks["initiator_password"] is None
    checked = await desk.post(f"{path}/check", json=PLACE, headers=as_admin)
    assert (checked.json()["ok"], checked.json()["missing"]) == (True, {})
    chosen = await desk.put(f"{path}/defaults", json=PLACE | {"uses": ["stk_push", "b2c"]}, headers=as_admin)
    assert chosen.json()["items"][0]["default_for"] == ["b2c", "stk_push"]


async def test_keys_that_daraja_refuses_change_nothing_unless_nobody_asks_it(
    desk: httpx2.AsyncClient, people: People
) -> None:
    path, as_admin = f"/organizations/{people.organization_id}/credentials", people.headers("org_admin")
    body: dict[str, Any] = PLACE | SECRETS | {"type": "paybill", "shortcode": "600100"}
    wrong = body | {"consumer_key": "another-app-of-theirs", "consumer_secret": "wrong"}
    refused = await desk.put(path, json=wrong, headers=as_admin)
    assert (refused.status_code, error_of(refused)["code"]) == (422, "keys_not_accepted")
    assert "600100" not in (await desk.get(path, headers=as_admin)).text
    unchecked = await desk.put(path, json=wrong | {"check": False}, headers=as_admin)
    assert unchecked.status_code == 200
    audit = (await desk.get("/audit", params={"action": "credentials.set", "limit": 1}, headers=as_admin)).json()
    assert audit["items"][0]["detail"]["checked"] is False
    gone = await desk.delete(path, params={"environment": "simulator", "shortcode": "600100"}, headers=as_admin)
    assert gone.status_code == 200
    assert "600100" not in (await desk.get(path, headers=as_admin)).text


async def test_a_key_for_some_tools_opens_nothing_here(http: httpx2.AsyncClient, people: People) -> None:
    wanted = {"name": "till 5", "role": "org_admin", "environment": "simulator", "tools": ["stk_push", "get_payment"]}
    made = (await http.post("/api-keys", json=wanted, headers=people.headers("org_admin"))).json()
    assert made["tools"] == ["get_payment", "stk_push"]
    for path in ("/payments", "/audit", "/users", "/api-keys", f"/organizations/{people.organization_id}/credentials"):
        answer = await http.get(path, headers={"Authorization": f"Bearer {made['key']}"})
        assert (answer.status_code, error_of(answer)["code"]) == (403, "not_allowed")
