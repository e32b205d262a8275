"""The life of organizations over HTTP: what the platform does to one, what its own people do, and what nobody may."""

from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.identity.passwords import hash_password
from mpesa_mcp.identity.users import add_user
from mpesa_mcp.payments.core import Core
from mpesa_mcp.values import Role, Secret, new_id

from .people import OPERATOR, PASSWORD, People, a_key, error_of, signed_in

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Shop:
    """An organization of one test, with two org_admins who are signed in, and the platform's super_admin."""

    core: Core
    http: httpx2.AsyncClient
    id: str
    admin: str
    second: str
    root: str

    async def post(self, path: str, token: str, body: Any = None) -> httpx2.Response:
        return await self.http.post(f"/organizations/{self.id}{path}", headers=bearer(token), json=body)

    async def get(self, path: str, token: str) -> httpx2.Response:
        return await self.http.get(f"/organizations/{self.id}{path}", headers=bearer(token))

    async def actions(self) -> list[str]:
        """What its audit says was done, oldest first."""
        answer = await self.http.get("/audit", headers=bearer(self.admin), params={"limit": 200})
        return [each["action"] for each in reversed(answer.json()["items"])]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def shop(core: Core, http: httpx2.AsyncClient, people: People) -> Shop:
    root, slug = people.tokens["super_admin"], f"shop-{new_id('x')[-12:]}"
    made = await http.post("/organizations", headers=bearer(root), json={"name": "Shop", "slug": slug})
    organization_id = made.json()["organization_id"]
    password_hash = await hash_password(Secret(PASSWORD))
    tokens = []
    for name in ("admin", "second"):
        async with core.store.session(organization_id) as session:
            user = await add_user(
                session,
                core.clock,
                email=f"{name}@{slug}.example",
                role=Role.ORG_ADMIN,
                password_hash=password_hash,
                actor=OPERATOR.name,
                seats=seats_of,
            )
        tokens.append(await signed_in(core, user.email))
    return Shop(core, http, organization_id, tokens[0], tokens[1], root)


async def test_the_platform_makes_an_organization_whose_first_admin_then_manages_it(
    http: httpx2.AsyncClient, people: People
) -> None:
    root, email = bearer(people.tokens["super_admin"]), "jane@found.example"
    asked = {"name": "Found Traders", "slug": "found", "admin_email": email}
    made = await http.post("/organizations", headers=root, json=asked)
    assert made.status_code == 201
    founded = made.json()
    assert (founded["status"], founded["invitation"]["role"]) == ("active", "org_admin")
    taken = await http.post("/organizations", headers=root, json=asked)
    assert (taken.status_code, error_of(taken)["code"]) == (409, "slug_taken")
    # The address was mistaken: only the newer link is good.
    own = f"/organizations/{founded['organization_id']}"
    again = await http.post(f"{own}/invitations", headers=root, json={"email": "joan@found.example"})
    old, new = founded["invitation"]["token"], again.json()["token"]
    for token, code in ((old, 404), (new, 201)):
        accepted = await http.post("/auth/invitations/accept", json={"token": token, "password": PASSWORD})
        assert accepted.status_code == code
    login = await http.post("/auth/login", json={"email": "joan@found.example", "password": PASSWORD})
    admin = bearer(login.json()["access_token"])
    assert (await http.get(own, headers=admin)).json()["slug"] == "found"
    third = await http.post(f"{own}/invitations", headers=root, json={"email": "joe@found.example"})
    assert (third.status_code, error_of(third)["code"]) == (409, "has_an_admin")


async def test_the_platform_takes_back_its_own_invitation_and_none_that_the_organization_made(
    http: httpx2.AsyncClient, people: People
) -> None:
    root, email = bearer(people.tokens["super_admin"]), "jane@taken-back.example"
    asked = {"name": "Taken Back", "slug": "taken-back", "admin_email": "mistaken@taken-back.example"}
    founded = (await http.post("/organizations", headers=root, json=asked)).json()
    own, mistaken = f"/organizations/{founded['organization_id']}/invitations", founded["invitation"]
    revoked = await http.post(f"{own}/{mistaken['invitation_id']}/revoke", headers=root)
    assert (revoked.status_code, revoked.json()["revoked_at"] is None) == (200, False)
    meant = (await http.post(own, headers=root, json={"email": email})).json()
    for invitation, code in ((mistaken, 404), (meant, 201)):
        body = {"token": invitation["token"], "password": PASSWORD}
        assert (await http.post("/auth/invitations/accept", json=body)).status_code == code
    login = await http.post("/auth/login", json={"email": email, "password": PASSWORD})
    admin = bearer(login.json()["access_token"])
    joe = await http.post("/users", headers=admin, json={"email": "joe@taken-back.example", "role": "org_admin"})
    listed = (await http.get(own, headers=root)).json()["items"]
    assert [each["invitation_id"] for each in listed] == [meant["invitation_id"], mistaken["invitation_id"]]
    assert (await http.post(f"{own}/{joe.json()['invitation_id']}/revoke", headers=root)).status_code == 404
    assert (await http.get("/users/invitations", headers=admin)).json()["items"][0]["revoked_at"] is None
    assert (await http.get("/organizations/org_none/invitations", headers=root)).status_code == 404


async def test_organizations_are_listed_to_the_platform_a_part_at_a_time(
    http: httpx2.AsyncClient, people: People, shop: Shop
) -> None:
    listed: list[str] = []
    cursor: str | None = None
    while True:
        page = await http.get(
            "/organizations", headers=bearer(shop.root), params={"limit": 2} | ({"cursor": cursor} if cursor else {})
        )
        listed += [each["organization_id"] for each in page.json()["items"]]
        if (cursor := page.json()["next_cursor"]) is None:
            break
    assert listed == sorted(listed)
    assert {people.organization_id, people.strangers_organization_id, shop.id} <= set(listed)


async def test_its_org_admin_changes_what_is_named_and_nothing_that_is_not_theirs(shop: Shop) -> None:
    path, admin = f"/organizations/{shop.id}", bearer(shop.admin)
    change = {"name": "Shop Two", "confirm_payouts_from": "5000.00", "default_environment": "sandbox"}
    changed = await shop.http.patch(path, headers=admin, json=change)
    assert changed.status_code == 200
    assert {name: changed.json()[name] for name in change} == change
    for smuggled in (
        {"status": "suspended"},
        {"slug": "other"},
        {"organization_id": "org_other"},
        {"name": "Mine", "role": "super_admin"},
        {"frozen_at": None},
        {},
        {"name": ""},
        {"confirm_payouts_from": "-1"},
        {"confirm_payouts_from": "1000000.01"},
        {"default_environment": "moon"},
    ):
        assert (await shop.http.patch(path, headers=admin, json=smuggled)).status_code == 422, smuggled
    for mistaken in ({"slug": "x1", "name": "X", "status": "closed"}, {"slug": "x1", "name": "X", "callback_id": "0"}):
        answer = await shop.http.post("/organizations", headers=bearer(shop.root), json=mistaken)
        assert answer.status_code == 422
    assert (await shop.get("", shop.admin)).json() == changed.json()


async def test_a_freeze_is_lifted_by_two_org_admins_in_person(shop: Shop) -> None:
    key = await a_key(shop.core, shop.id, Role.ORG_ADMIN)
    frozen = await shop.post("/freeze", key, {"reason": "A laptop was stolen"})
    assert frozen.json()["status"] == "frozen", "a program may stop what pays out"
    log = await shop.http.get("/audit", headers=bearer(shop.admin), params={"action": "organization.frozen"})
    assert [each["detail"] for each in log.json()["items"]] == [{"reason": "A laptop was stolen"}]
    refused = await shop.post("/unfreeze", key)
    assert (refused.status_code, error_of(refused)["code"]) == (403, "person_needed")
    asked = await shop.post("/unfreeze", shop.admin)
    assert (asked.status_code, asked.json()["status"]) == (200, "frozen")
    alone = await shop.post("/unfreeze", shop.admin)
    assert (alone.status_code, error_of(alone)["code"]) == (409, "another_person_needed")
    assert (await shop.post("/unfreeze", shop.root)).status_code == 403
    lifted = await shop.post("/unfreeze", shop.second)
    assert (lifted.json()["status"], lifted.json()["frozen_at"]) == ("active", None)
    nothing = await shop.post("/unfreeze", shop.second)
    assert (nothing.status_code, error_of(nothing)["code"]) == (409, "not_frozen")
    acts = [action for action in await shop.actions() if action.startswith("organization.")]
    assert acts[1:] == ["organization.frozen", "organization.unfreeze_asked", "organization.unfrozen"]


async def test_a_suspended_organizations_people_and_programs_are_refused_on_their_next_request(shop: Shop) -> None:
    key = await a_key(shop.core, shop.id, Role.ORG_ADMIN)
    for token in (shop.admin, key):
        assert (await shop.get("", token)).status_code == 200
    why = {"reason": "It asked for a pause"}
    assert (await shop.post("/suspend", shop.root, why)).json()["status"] == "suspended"
    for token in (shop.admin, key):
        assert (await shop.get("", token)).status_code == 401
    assert (await shop.get("", shop.root)).json()["status"] == "suspended"
    assert (await shop.post("/activate", shop.root)).json()["status"] == "active"
    for token in (shop.admin, key):
        assert (await shop.get("", token)).status_code == 200
    log = await shop.http.get("/audit", headers=bearer(shop.admin), params={"action": "organization.suspended"})
    assert [each["detail"] for each in log.json()["items"]] == [why]


async def test_an_organization_is_closed_by_the_platform_and_stays_so(shop: Shop) -> None:
    assert (await shop.post("/close", shop.admin)).status_code == 403
    closed = await shop.post("/close", shop.root)
    assert (closed.status_code, closed.json()["status"]) == (200, "closed")
    assert (await shop.get("", shop.admin)).status_code == 401
    for act in ("close", "activate", "suspend", "freeze"):
        again = await shop.post(f"/{act}", shop.root)
        assert (again.status_code, error_of(again)["code"]) == (409, "organization_closed")
    assert (await shop.get("", shop.root)).json() == closed.json()


async def test_the_platform_reads_payments_only_under_a_grant_and_the_audit_shows_each_reading(shop: Shop) -> None:
    paths = ("/payments", "/payments/pay_none")
    for path in paths:
        refused = await shop.get(path, shop.root)
        assert (refused.status_code, error_of(refused)["code"]) == (403, "no_support_grant")
    for hours in (0, 25, "4", 1.5):
        asked = {"hours": hours, "reason": "Something is missing"}
        assert (await shop.post("/support-grants", shop.admin, asked)).status_code == 422
    given = await shop.post("/support-grants", shop.admin, {"hours": 2, "reason": "Something is missing"})
    assert given.status_code == 201
    answers = [await shop.get(path, shop.root) for path in paths]
    assert [answer.status_code for answer in answers] == [200, 404]
    assert answers[0].json() == {"items": [], "next_cursor": None}
    [listed] = (await shop.get("/support-grants", shop.root)).json()["items"]
    assert listed == given.json()
    assert (await shop.post(f"/support-grants/{listed['grant_id']}/revoke", shop.second)).status_code == 200
    assert (await shop.get(paths[0], shop.root)).status_code == 403
    log = await shop.http.get("/audit", headers=bearer(shop.admin), params={"action": "support.read"})
    told = [(each["decision"], each["detail"]["reads"]) for each in reversed(log.json()["items"])]
    assert told == [
        ("refused", "payments"),
        ("refused", "payment pay_none"),
        ("allowed", "payments"),
        ("allowed", "payment pay_none"),
        ("refused", "payments"),
    ]


async def test_the_platform_has_no_part_in_an_organizations_own_matters(shop: Shop) -> None:
    root = bearer(shop.root)
    for method, path, body in (
        ("PATCH", "", {"name": "Ours"}),
        ("POST", "/unfreeze", None),
        ("POST", "/support-grants", {"hours": 1, "reason": "We would like to look"}),
        ("GET", "/credentials", None),
    ):
        answer = await shop.http.request(method, f"/organizations/{shop.id}{path}", headers=root, json=body)
        assert answer.status_code == 403, path
    for method, path in (("GET", "/users"), ("POST", "/users"), ("POST", "/api-keys"), ("GET", "/payments")):
        assert (await shop.http.request(method, path, headers=root, json={})).status_code == 403, path
    assert (await shop.get("", shop.admin)).json()["name"] == "Shop"
