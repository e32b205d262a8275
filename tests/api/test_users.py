"""People over REST: in by invitation alone, nobody above their inviter, and never the last org_admin out."""

from typing import Any

import httpx2
import pytest

from mpesa_mcp.payments.core import Core
from mpesa_mcp.values import new_id

from .people import PASSWORD, People, error_of, make_people

pytestmark = pytest.mark.anyio


async def invited(http: httpx2.AsyncClient, people: People, role: str) -> dict[str, Any]:
    body = {"email": f"{new_id('joe')}@acme.example", "role": role}
    answer = await http.post("/users", json=body, headers=people.headers("org_admin"))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_an_org_admin_invites_and_the_link_carries_the_token_behind_the_hash(
    http: httpx2.AsyncClient, core: Core, people: People
) -> None:
    made = await invited(http, people, "manager")
    assert made["link"] == f"{core.settings.reached_at}/console/invitation#{made['token']}"
    accepted = await http.post(
        "/auth/invitations/accept", json={"token": made["token"], "password": "a brand new password"}
    )
    assert (accepted.status_code, accepted.json()["role"]) == (201, "manager")
    listed = (await http.get("/users/invitations", headers=people.headers("org_admin"))).json()["items"]
    assert listed[0]["invitation_id"] == made["invitation_id"]
    assert listed[0]["accepted_at"] is not None
    assert "token" not in listed[0]
    read = await http.get(f"/users/{accepted.json()['user_id']}", headers=people.headers("org_admin"))
    assert read.json()["created_by"] == f"invitation:{made['invitation_id']}"


async def test_a_revoked_invitation_lets_nobody_in(http: httpx2.AsyncClient, people: People) -> None:
    made = await invited(http, people, "user")
    path = f"/users/invitations/{made['invitation_id']}/revoke"
    for _ in range(2):
        revoked = await http.post(path, headers=people.headers("org_admin"))
        assert (revoked.status_code, revoked.json()["revoked_at"] is None) == (200, False)
    accepted = await http.post("/auth/invitations/accept", json={"token": made["token"], "password": PASSWORD})
    assert accepted.status_code == 404


@pytest.mark.parametrize("body", [{"role": "super_admin"}, {"role": "owner"}, {"role": 7}, {"role": "user", "id": "x"}])
async def test_no_role_is_given_that_an_organization_does_not_have(
    http: httpx2.AsyncClient, people: People, body: dict[str, Any]
) -> None:
    answer = await http.post("/users", json={"email": "eve@acme.example"} | body, headers=people.headers("org_admin"))
    assert answer.status_code in {403, 422}
    assert error_of(answer)["code"] in {"invalid_input", "not_allowed"}


async def test_nobody_changes_their_own_role_and_the_last_org_admin_stays(http: httpx2.AsyncClient, core: Core) -> None:
    people = await make_people(core, slug=new_id("last").replace("_", "-"))
    mine, other = people.users["org_admin"].user_id, people.users["org_admin_on_mcp"].user_id
    as_admin = people.headers("org_admin")
    own = await http.patch(f"/users/{mine}", json={"role": "user"}, headers=as_admin)
    assert (own.status_code, error_of(own)["code"]) == (403, "own_role")
    assert (await http.post(f"/users/{other}/deactivate", headers=as_admin)).status_code == 200
    gone = await http.post(f"/users/{mine}/deactivate", headers=as_admin)
    assert (gone.status_code, error_of(gone)["code"]) == (403, "own_role")
    # Whom they themselves removed cannot come back to remove them.
    as_other = people.headers("org_admin_on_mcp")
    assert (await http.post(f"/users/{mine}/deactivate", headers=as_other)).status_code == 401


async def test_people_are_listed_a_page_at_a_time_and_only_ours(http: httpx2.AsyncClient, people: People) -> None:
    seen: list[str] = []
    cursor: str | None = None
    while True:
        parameters = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await http.get("/users", params=parameters, headers=people.headers("org_admin"))).json()
        seen += [each["user_id"] for each in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen))
    assert {people.users[name].user_id for name in ("user", "manager", "org_admin")} <= set(seen)
    assert people.users["stranger"].user_id not in seen
