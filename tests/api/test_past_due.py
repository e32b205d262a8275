"""An organization whose subscription is not in order: it reads, stops and repairs, and lets no money out over REST."""

import httpx2
import pytest

from mpesa_mcp.app.local import add_simulator_access
from mpesa_mcp.billing.states import SubscriptionStatus
from mpesa_mcp.payments.core import Core
from mpesa_mcp.values import Role
from tests.billing.factories import subscribe

from .people import People, error_of, make_people

pytestmark = pytest.mark.anyio
PAST_DUE, SUSPENDED, ACTIVE = (
    SubscriptionStatus.PAST_DUE,
    SubscriptionStatus.SUSPENDED,
    SubscriptionStatus.ACTIVE,
)


@pytest.fixture(scope="module")
async def people(core: Core) -> People:
    made = await make_people(core, slug="dues")
    await add_simulator_access(core, made.organization_id, role=Role.MANAGER)
    return made


def a_batch(key: str, shillings: int) -> dict[str, object]:
    row = {"phone": "0712345678", "amount": shillings, "reference": key, "remarks": "November"}
    return {"name": "Salaries", "idempotency_key": key, "skip_invalid": False, "payments": [row]}


async def test_nothing_is_let_out_until_it_is_put_right_and_whatever_stops_money_goes_on(
    core: Core, http: httpx2.AsyncClient, people: People
) -> None:
    manager, admin = people.headers("manager"), people.headers("org_admin")

    async def submitted(key: str, shillings: int) -> dict[str, object]:
        answer = await http.post("/batches", json=a_batch(key, shillings), headers=manager)
        assert answer.status_code == 200, answer.text
        read: dict[str, object] = answer.json()
        return read

    paused, running = await submitted("paused", 100), await submitted("running", 101)
    held, unwanted = await submitted("held", 20_000), await submitted("unwanted", 20_001)
    approval, other = (f"/approvals/{each['approval']['approval_id']}" for each in (held, unwanted))  # type: ignore[index] # JSON
    batch = f"/batches/{paused['batch_id']}"
    assert (await http.post(f"{batch}/pause", headers=manager)).json()["status"] == "paused"

    for status in (PAST_DUE, SUSPENDED):
        await subscribe(core.store, core.clock, people.organization_id, status)
        for path, headers, body, said in (
            (f"{approval}/approve", admin, {}, "this waits until its approval expires, and can still be declined."),
            ("/batches", manager, a_batch("new", 102), "Nothing was sent."),
            (f"{batch}/resume", manager, {}, "the batch stays paused."),
            (f"{batch}/retry", manager, {}, "Nothing was changed."),
        ):
            refused = await http.post(path, json=body, headers=headers)
            error = error_of(refused)
            assert (refused.status_code, error["code"]) == (403, f"subscription_{status}"), path
            assert said in error["message"]
            assert "put it right with the operator of this platform" in error["message"]
        assert (await http.get(approval, headers=admin)).json()["status"] == "pending"
        assert (await http.get(batch, headers=manager)).json()["status"] == "paused"
        again = await http.post("/batches", json=a_batch("running", 101), headers=manager)
        assert (again.json()["batch_id"], again.json()["replayed"]) == (running["batch_id"], True)

    assert (await http.post(f"/batches/{running['batch_id']}/cancel", headers=manager)).status_code == 200
    declined = await http.post(f"{other}/decline", json={"reason": "Not now"}, headers=admin)
    assert declined.json()["status"] == "declined"
    stricter = await http.put("/spend-rules/role:user", json={"per_day": 1000}, headers=admin)
    assert stricter.json()["done"] is True
    gone = await http.post(f"/users/{people.users['user'].user_id}/deactivate", headers=admin)
    assert gone.status_code == 200

    root = people.headers("super_admin")
    path = f"/organizations/{people.organization_id}/subscription"
    assert (await http.put(path, json={"status": "active"}, headers=root)).json()["status"] == ACTIVE
    assert (await http.post(f"{batch}/resume", headers=manager)).json()["status"] == "running"
    approved = await http.post(f"{approval}/approve", headers=admin)
    assert (approved.status_code, approved.json()["status"]) == (200, "approved")
    assert (await http.get(f"/batches/{held['batch_id']}", headers=manager)).json()["status"] == "running"
