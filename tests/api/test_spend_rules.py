"""Rules over HTTP: who changes them, and that what allows more takes two org_admins who were there before."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.errors import ConflictError
from mpesa_mcp.identity.models import User
from mpesa_mcp.identity.passwords import hash_password
from mpesa_mcp.identity.principal import Actor, NotAllowed
from mpesa_mcp.identity.users import add_user
from mpesa_mcp.payments.core import Core
from mpesa_mcp.policy.changes import change_rule, confirm, set_rule
from mpesa_mcp.policy.proposals import list_proposals
from mpesa_mcp.policy.words import rule_from
from mpesa_mcp.values import EAT, FrozenClock, Role, Secret, new_id

from .people import OPERATOR, PASSWORD, People, a_key, error_of, signed_in

pytestmark = pytest.mark.anyio
DEFAULT = {"approval_above": 10_000, "per_day": 100_000}


@dataclass(frozen=True)
class Shop:
    """An organization of one test; `admin` and `second` are tokens of its org_admins."""

    core: Core
    http: httpx2.AsyncClient
    id: str
    admin: str
    second: str

    async def ask(self, method: str, path: str, token: str, body: Any = None) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return await self.http.request(method, f"/spend-rules{path}", headers=headers, json=body)

    async def rule(self, scope: str = "organization") -> dict[str, Any] | None:
        listed = (await self.ask("GET", "", self.admin)).json()["items"]
        found = [each for each in listed if each["scope"] == scope]
        beside = {"scope", "is_default", "changed_at", "changed_by", "key_ended"}
        return (
            {name: value for name, value in found[0].items() if value is not None and name not in beside}
            if found
            else None
        )


async def an_admin(core: Core, organization_id: str, slug: str, name: str) -> str:
    password_hash = await hash_password(Secret(PASSWORD))
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
    return await signed_in(core, user.email)


@pytest.fixture
async def shop(core: Core, http: httpx2.AsyncClient, people: People) -> Shop:
    slug = f"rules-{new_id('x')[-12:]}"
    headers = people.headers("super_admin")
    made = (await http.post("/organizations", headers=headers, json={"name": "Rules", "slug": slug})).json()
    organization_id = made["organization_id"]
    admin = await an_admin(core, organization_id, slug, "admin")
    return Shop(core, http, organization_id, admin, await an_admin(core, organization_id, slug, "second"))


async def test_what_is_stricter_holds_at_once_and_what_allows_more_when_another_org_admin_agrees(shop: Shop) -> None:
    assert await shop.rule() == DEFAULT
    stricter = {"approval_above": 5000, "per_day": 100_000, "hours": "08:00-18:00", "days": ["mon", "tue"]}
    done = await shop.ask("PUT", "/organization", shop.admin, stricter)
    assert (done.status_code, done.json()) == (200, {"done": True, "proposal": None})
    assert await shop.rule() == stricter

    wider = stricter | {"approval_above": 6000}
    proposed = await shop.ask("PUT", "/organization", shop.admin, wider)
    assert proposed.status_code == 202
    proposal = proposed.json()["proposal"]
    assert (proposal["status"], proposal["before"]["approval_above"]) == ("pending", 5000)
    assert await shop.rule() == stricter
    path = f"/proposals/{proposal['proposal_id']}"
    assert error_of(await shop.ask("POST", f"{path}/confirm", shop.admin))["code"] == "another_person_needed"
    assert await shop.rule() == stricter
    confirmed = await shop.ask("POST", f"{path}/confirm", shop.second)
    assert (confirmed.status_code, confirmed.json()["status"]) == (200, "confirmed")
    assert await shop.rule() == wider
    assert error_of(await shop.ask("POST", f"{path}/confirm", shop.second))["code"] == "proposal_closed"

    audit = await shop.http.get("/audit", headers={"Authorization": f"Bearer {shop.admin}"}, params={"limit": 50})
    told = [each for each in audit.json()["items"] if each["action"].startswith("rule.")]
    assert [each["action"] for each in told] == ["rule.set", "rule.proposed", "rule.set"]
    assert (told[0]["before"], told[0]["after"]) == (stricter, wider)


async def test_taking_a_rule_away_allows_more_and_a_first_rule_of_a_scope_never_does(shop: Shop) -> None:
    assert (await shop.ask("PUT", "/role:manager", shop.admin, {"per_day": 500})).status_code == 200
    proposed = await shop.ask("DELETE", "/role:manager", shop.second)
    assert (proposed.status_code, proposed.json()["proposal"]["after"]) == (202, None)
    path = f"/proposals/{proposed.json()['proposal']['proposal_id']}"
    declined = await shop.ask("POST", f"{path}/decline", shop.admin)
    assert declined.json()["status"] == "declined"
    assert error_of(await shop.ask("POST", f"{path}/confirm", shop.admin))["code"] == "proposal_closed"
    assert await shop.rule("role:manager") == {"per_day": 500}


async def test_a_proposal_about_a_rule_that_has_changed_meanwhile_is_void(shop: Shop) -> None:
    proposed = (await shop.ask("PUT", "/organization", shop.admin, {"per_day": 200_000})).json()["proposal"]
    assert (await shop.ask("PUT", "/organization", shop.second, DEFAULT | {"per_day": 50})).status_code == 200
    late = await shop.ask("POST", f"/proposals/{proposed['proposal_id']}/confirm", shop.second)
    assert error_of(late)["message"].startswith("This proposal is void")
    assert await shop.rule() == DEFAULT | {"per_day": 50}
    await shop.ask("PUT", "/organization", shop.admin, {"per_day": 200_000})
    newest = (await shop.ask("GET", "/proposals?limit=1", shop.admin)).json()
    older = (await shop.ask("GET", f"/proposals?limit=1&cursor={newest['next_cursor']}", shop.admin)).json()
    assert [page["items"][0]["status"] for page in (newest, older)] == ["pending", "void"]
    assert older["next_cursor"] is None


async def test_who_became_org_admin_for_the_purpose_has_no_part_in_it_and_after_a_week_nobody_has(shop: Shop) -> None:
    proposed = (await shop.ask("PUT", "/organization", shop.admin, {})).json()["proposal"]
    later = await an_admin(shop.core, shop.id, shop.id.replace("_", "-"), "third")
    refused = await shop.ask("POST", f"/proposals/{proposed['proposal_id']}/confirm", later)
    assert error_of(refused)["code"] == "newer_than_proposal"
    core, clock = shop.core, FrozenClock(shop.core.clock.now() + timedelta(days=7))
    async with core.store.reading(shop.id) as session:
        user = await session.get(User, (await core.authentication.principal(shop.second)).user_id or "")
    assert user is not None
    second = Actor(f"user:{user.id}", Role.ORG_ADMIN, user.id, is_person=True)
    with pytest.raises(ConflictError, match="expired"):
        await confirm(core.store, clock, organization_id=shop.id, proposal_id=proposed["proposal_id"], actor=second)
    [record] = await list_proposals(core.store, clock, shop.id)
    assert record.status == "expired"


async def test_the_command_line_only_proposes_what_allows_more_where_two_can_agree(shop: Shop) -> None:
    core, place = shop.core, {"organization_id": shop.id, "scope": "organization"}
    # The same once more is the same proposal; another person's is their own, of which they are not the second.
    proposal, again = [
        (
            await change_rule(
                core.store, core.clock, **place, words={"per_day": 500_000}, cleared=["approval_above"], actor=OPERATOR
            )
        ).proposal
        for _ in range(2)
    ]
    assert proposal is not None
    assert again == proposal
    theirs = await shop.ask("PUT", "/organization", shop.admin, {"per_day": 500_000})
    assert theirs.json()["proposal"]["proposal_id"] != proposal.proposal_id
    assert await shop.rule() == DEFAULT
    with pytest.raises(NotAllowed):
        await confirm(core.store, core.clock, organization_id=shop.id, proposal_id=proposal.proposal_id, actor=OPERATOR)
    confirmed = await shop.ask("POST", f"/proposals/{proposal.proposal_id}/confirm", shop.second)
    assert confirmed.status_code == 200
    assert await shop.rule() == {"per_day": 500_000}


@pytest.mark.parametrize("removed_by", [("POST", "/deactivate", {}), ("PATCH", "", {"role": "manager"})])
async def test_who_removes_the_other_org_admin_cannot_loosen_alone_for_a_day(
    shop: Shop, removed_by: tuple[str, str, dict[str, str]]
) -> None:
    core, (method, path, body) = shop.core, removed_by
    admin, second = [await core.authentication.principal(token) for token in (shop.admin, shop.second)]
    headers = {"Authorization": f"Bearer {shop.admin}"}
    removed = await shop.http.request(method, f"/users/{second.user_id}{path}", headers=headers, json=body)
    assert removed.status_code == 200
    tomorrow = core.clock.now() + timedelta(hours=24, seconds=1)

    wider = DEFAULT | {"per_day": 200_000}
    assert (await shop.ask("PUT", "/organization", shop.admin, DEFAULT | {"per_day": 50_000})).status_code == 200
    proposed = await shop.ask("PUT", "/organization", shop.admin, wider)
    assert (proposed.status_code, proposed.json()["done"]) == (202, False)
    proposal = proposed.json()["proposal"]
    assert f"make the change again from {tomorrow.astimezone(EAT):%Y-%m-%d}" in proposal["next_step"]
    refused = error_of(await shop.ask("POST", f"/proposals/{proposal['proposal_id']}/confirm", shop.admin))
    assert (refused["code"], proposal["next_step"] in refused["message"]) == ("another_person_needed", True)

    # The operator is one of two, and the org_admin who is left the other.
    place = {"organization_id": shop.id, "scope": "organization"}
    change = await change_rule(core.store, core.clock, **place, words={}, cleared=["per_day"], actor=OPERATOR)
    by_operator = change.proposal
    assert by_operator is not None
    confirmed = await shop.ask("POST", f"/proposals/{by_operator.proposal_id}/confirm", shop.admin)
    assert (confirmed.json()["status"], confirmed.json()["next_step"]) == ("confirmed", None)

    await shop.ask("PUT", "/organization", shop.admin, DEFAULT)
    rule, clock = rule_from(wider), FrozenClock(tomorrow)
    assert (await set_rule(core.store, core.clock, **place, rule=rule, actor=admin.as_actor)).proposal is not None
    assert (await set_rule(core.store, clock, **place, rule=rule, actor=admin.as_actor)).proposal is None
    assert await shop.rule() == wider


async def test_an_organization_with_one_org_admin_does_it_alone(core: Core, people: People) -> None:
    actor = Actor(f"user:{people.users['stranger'].user_id}", Role.ORG_ADMIN, people.users["stranger"].user_id, True)
    wider = rule_from({"per_day": 500_000})
    place = {"organization_id": people.strangers_organization_id, "scope": "organization"}
    assert (await set_rule(core.store, core.clock, **place, rule=wider, actor=actor)).proposal is None
    for assistant in (
        replace(actor, is_person=False),
        replace(actor, role=Role.MANAGER),
        Actor("key:1", Role.ORG_ADMIN),
    ):
        with pytest.raises(NotAllowed):
            await set_rule(core.store, core.clock, **place, rule=None, actor=assistant)


async def test_an_org_admins_api_key_changes_nothing_and_a_key_of_nobodys_has_no_rule(shop: Shop) -> None:
    key = await a_key(shop.core, shop.id, Role.ORG_ADMIN)
    assert error_of(await shop.ask("PUT", "/organization", key, {"per_day": 1}))["code"] == "person_needed"
    assert (await shop.ask("PUT", "/key:key_00000000000000000000000000", shop.admin, {})).status_code == 404
    unknown = await shop.ask("PUT", "/role:super_admin", shop.admin, {})
    assert (unknown.status_code, unknown.json()["error"]["message"][:5]) == (422, "scope")
    assert (await shop.ask("PUT", "/tool:stk_push", shop.admin, {"approval_above": 1})).status_code == 422


async def test_a_limit_written_as_text_is_refused_in_words_and_nothing_else_is_named(shop: Shop) -> None:
    refused = error_of(await shop.ask("PUT", "/organization", shop.admin, {"per_payment": 500, "per_day": "1000000"}))
    assert refused["message"] == (
        "per_day must be a whole number from 0 to 1,000,000,000, not text. Nothing was changed. See /api/v1/docs."
    )


async def test_a_caller_reads_what_binds_it_with_the_numbers_of_phones_masked(shop: Shop) -> None:
    key = await a_key(shop.core, shop.id, Role.MANAGER)
    await shop.ask("PUT", "/role:manager", shop.admin, {"denied_recipients": ["0712345678"], "payments_per_day": 3})
    limits = (await shop.ask("GET", "/limits", key)).json()
    assert limits["tools"] == ["stk_push", "b2c_payment", "reverse", "bulk_payment"]
    own, role = limits["rules"]
    assert (own["scope"], own["limits"][0]["limit"], own["limits"][0]["left"]) == (
        "organization",
        "100000.00",
        "100000.00",
    )
    assert role["rule"]["denied_recipients"] == ["2547*****678"]
    assert (role["limits"][0]["payments"], role["limits"][0]["payments_left"]) == (3, 3)
    assert (await shop.ask("GET", "/limits", await a_key(shop.core, shop.id, Role.USER))).json()["rules"] == []


async def test_every_member_reads_the_rules_and_only_who_changes_them_sees_whose_numbers_are_in_them(
    shop: Shop,
) -> None:
    await shop.ask("PUT", "/role:manager", shop.admin, {"denied_recipients": ["0712345678"]})
    for role, shown in ((Role.USER, "2547*****678"), (Role.MANAGER, "2547*****678"), (Role.ORG_ADMIN, "254712345678")):
        own, for_managers = (await shop.ask("GET", "", await a_key(shop.core, shop.id, role))).json()["items"]
        assert (own["scope"], own["per_day"]) == ("organization", 100_000)
        assert for_managers["denied_recipients"] == [shown]


async def test_the_successor_of_a_key_has_its_rule(shop: Shop) -> None:
    made = await shop.http.post(
        "/api-keys", headers={"Authorization": f"Bearer {shop.admin}"}, json={"name": "a", "role": "manager"}
    )
    key_id = made.json()["key_id"]
    await shop.ask("PUT", f"/key:{key_id}", shop.admin, {"per_payment": 50})
    rotated = await shop.http.post(
        f"/api-keys/{key_id}/rotate", headers={"Authorization": f"Bearer {shop.admin}"}, json={}
    )
    assert await shop.rule(f"key:{rotated.json()['key_id']}") == {"per_payment": 50}


async def test_the_rule_of_a_revoked_key_is_listed_as_such_and_one_person_takes_it_away(shop: Shop) -> None:
    headers = {"Authorization": f"Bearer {shop.admin}"}
    made = await shop.http.post("/api-keys", headers=headers, json={"name": "a", "role": "manager"})
    scope = f"key:{made.json()['key_id']}"
    await shop.ask("PUT", f"/{scope}", shop.admin, {"per_payment": 50})
    await shop.ask("PUT", "/role:user", shop.admin, {"per_payment": 50})
    assert (await shop.ask("DELETE", f"/{scope}", shop.admin)).status_code == 202, "it still binds somebody"
    await shop.http.post(f"/api-keys/{made.json()['key_id']}/revoke", headers=headers, json={})
    listed = (await shop.ask("GET", "", shop.admin)).json()["items"]
    assert [(each["scope"], each["key_ended"]) for each in listed] == [
        ("organization", False),
        ("role:user", False),
        (scope, True),
    ]
    looser = await shop.ask("PUT", f"/{scope}", shop.admin, {"per_payment": 500})
    assert looser.status_code == 202
    removed = await shop.ask("DELETE", f"/{scope}", shop.admin)
    assert (removed.status_code, removed.json()) == (200, {"done": True, "proposal": None})
    assert await shop.rule(scope) is None
