"""Sign-in over HTTP: the contract's shapes, one answer for every mistake, changes that count from the next request."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
import jwt
import pytest

from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.identity.invitations import invite
from mpesa_mcp.identity.organizations import get_organization
from mpesa_mcp.identity.standing import activate, suspend
from mpesa_mcp.identity.users import UserRecord, add_user, change_role, deactivate_user
from mpesa_mcp.payments.core import Core
from mpesa_mcp.values import Role, new_id

from .people import OPERATOR, PASSWORD, People, error_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def jane(core: Core, people: People) -> UserRecord:
    """A manager who signs in with PASSWORD."""
    known = people.users["user"]
    async with core.store.session(people.organization_id) as session:
        from mpesa_mcp.identity.models import User

        password_hash = (await session.get(User, known.user_id)).password_hash  # type: ignore[union-attr] # it is there
        return await add_user(
            session,
            core.clock,
            email=f"{new_id('jane')}@acme.example",
            role=Role.MANAGER,
            password_hash=password_hash,
            actor=OPERATOR.name,
            seats=seats_of,
        )


async def login(http: httpx2.AsyncClient, email: str, password: str = PASSWORD) -> dict[str, Any]:
    answer = await http.post("/auth/login", json={"email": email, "password": password})
    assert answer.status_code == 200, answer.text
    tokens: dict[str, Any] = answer.json()
    return tokens


def bearer(tokens: Mapping[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens['access_token']}"}


async def test_signing_in_answers_what_the_contract_says(
    http: httpx2.AsyncClient, people: People, jane: UserRecord
) -> None:
    tokens = await login(http, jane.email)
    assert set(tokens) == {"access_token", "refresh_token", "expires_in", "role", "organization_id"}
    assert (tokens["expires_in"], tokens["role"]) == (900, "manager")
    assert tokens["organization_id"] == people.organization_id
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    assert claims["sub"] == jane.user_id
    assert (claims["role"], claims["organization_id"]) == ("manager", people.organization_id)
    assert (await http.get("/payments", headers=bearer(tokens))).status_code == 200


async def test_every_wrong_sign_in_reads_the_same_and_the_sixth_must_wait(
    http: httpx2.AsyncClient, jane: UserRecord
) -> None:
    told = {}
    for email in (jane.email, f"{new_id('nobody')}@acme.example"):
        answers = [
            await http.post("/auth/login", json={"email": email, "password": "not the password"}) for _ in range(6)
        ]
        told[email] = [(answer.status_code, error_of(answer)["code"]) for answer in answers]
        assert int(answers[-1].headers["retry-after"]) > 0
    assert told[jane.email] == [(401, "wrong_sign_in")] * 5 + [(429, "too_many_failures")]
    assert len({str(each) for each in told.values()}) == 1


async def test_a_refresh_token_shown_twice_ends_the_session_with_its_access_token(
    http: httpx2.AsyncClient, jane: UserRecord
) -> None:
    first, other = await login(http, jane.email), await login(http, jane.email)
    second = (await http.post("/auth/refresh", json={"refresh_token": first["refresh_token"]})).json()
    assert (await http.get("/payments", headers=bearer(second))).status_code == 200
    again = await http.post("/auth/refresh", json={"refresh_token": first["refresh_token"]})
    assert (again.status_code, error_of(again)["code"]) == (401, "session_ended")
    assert (await http.get("/payments", headers=bearer(second))).status_code == 401
    assert (await http.post("/auth/refresh", json={"refresh_token": second["refresh_token"]})).status_code == 401
    assert (await http.get("/payments", headers=bearer(other))).status_code == 200


async def test_signing_out_counts_at_once_and_says_nothing_of_strangers_tokens(
    http: httpx2.AsyncClient, jane: UserRecord
) -> None:
    tokens = await login(http, jane.email)
    for refresh_token in (tokens["refresh_token"], tokens["refresh_token"], "never was one"):
        answer = await http.post("/auth/logout", json={"refresh_token": refresh_token})
        assert (answer.status_code, answer.content) == (204, b"")
    refused = await http.get("/payments", headers=bearer(tokens))
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")


async def test_signing_out_without_a_body_ends_the_bearers_own_session_and_no_other(
    http: httpx2.AsyncClient, people: People, jane: UserRecord
) -> None:
    leaving, staying = await login(http, jane.email), await login(http, jane.email)
    assert (await http.post("/auth/logout", headers=bearer(leaving))).status_code == 204
    statuses = [(await http.get("/payments", headers=bearer(each))).status_code for each in (leaving, staying)]
    assert statuses == [401, 200]
    assert (await http.post("/auth/logout", headers=bearer(leaving))).status_code == 401
    for sessionless in ({}, people.headers("org_admin_key")):
        refused = await http.post("/auth/logout", headers=sessionless)
        assert (refused.status_code, error_of(refused)["code"]) == (422, "invalid_input")
        assert "refresh_token, which signing in gave" in error_of(refused)["message"]


async def test_a_change_of_what_somebody_may_do_counts_from_the_next_request(
    http: httpx2.AsyncClient, core: Core, people: People, jane: UserRecord
) -> None:
    tokens = await login(http, jane.email)
    assert (await http.get("/payments", headers=bearer(tokens))).status_code == 200
    who: dict[str, Any] = {
        "organization_id": people.organization_id,
        "user_id": jane.user_id,
        "actor": OPERATOR,
    }
    await change_role(core.store, core.clock, role=Role.USER, **who)
    assert (await http.get("/payments", headers=bearer(tokens))).status_code == 401
    tokens = await login(http, jane.email)
    assert tokens["role"] == "user"
    await deactivate_user(core.store, core.clock, **who)
    assert (await http.get("/payments", headers=bearer(tokens))).status_code == 401


async def test_whoever_knows_the_password_is_told_why_they_are_shut_out_and_nobody_else_is(
    http: httpx2.AsyncClient, core: Core, people: People, jane: UserRecord
) -> None:
    async def told(email: str, password: str) -> tuple[int, Any]:
        answer = await http.post("/auth/login", json={"email": email, "password": password})
        return answer.status_code, error_of(answer)

    acme: dict[str, Any] = {"organization_id": people.organization_id, "actor": OPERATOR}
    strangers: dict[str, Any] = {"organization_id": people.strangers_organization_id, "actor": OPERATOR}
    nobody = await told(f"{new_id('nobody')}@acme.example", PASSWORD)
    await deactivate_user(core.store, core.clock, user_id=jane.user_id, **acme)
    await suspend(core.store, core.clock, **strangers)
    for email, code, whom in (
        (jane.email, "user_deactivated", "Ask an org_admin"),
        (people.users["stranger"].email, "organization_suspended", "Ask whoever runs this platform"),
    ):
        status, error = await told(email, PASSWORD)
        assert (status, error["code"], error["advice"]) == (403, code, "ask_a_person")
        assert whom in error["message"]
        assert await told(email, "not the password") == nobody
    async with core.store.session(people.strangers_organization_id) as session:
        await activate(session, core.clock, OPERATOR)


async def test_changing_ones_password_needs_the_old_one_and_ends_every_session(
    http: httpx2.AsyncClient, jane: UserRecord
) -> None:
    tokens, other = await login(http, jane.email), await login(http, jane.email)
    body = {"current_password": "not the password", "new_password": "an even better horse"}
    assert (await http.post("/auth/password", headers=bearer(tokens), json=body)).status_code == 401
    short = body | {"current_password": PASSWORD, "new_password": "short"}
    assert (await http.post("/auth/password", headers=bearer(tokens), json=short)).status_code == 422
    assert (
        await http.post("/auth/password", headers=bearer(tokens), json=body | {"current_password": PASSWORD})
    ).status_code == 204
    for ended in (tokens, other):
        assert (await http.get("/payments", headers=bearer(ended))).status_code == 401
    await login(http, jane.email, "an even better horse")


async def test_an_invitation_makes_a_user_once_and_of_no_other_role(
    http: httpx2.AsyncClient, core: Core, people: People
) -> None:
    async with core.store.reading(people.organization_id) as session:
        assert (await get_organization(session)).slug == "acme"
    email = f"{new_id('joe')}@acme.example"
    invited = await invite(
        core.store,
        core.clock,
        organization_id=people.organization_id,
        email=email,
        role=Role.USER,
        actor=OPERATOR,
        seats=seats_of,
    )
    acceptance = {"token": invited.token.reveal(), "password": PASSWORD}
    told = (await http.post("/auth/invitations/read", json={"token": invited.token.reveal()})).json()
    assert (told["organization"], told["email"], told["role"]) == ("Acme", email, "user")
    for smuggled in ({"role": "org_admin"}, {"organization_id": people.strangers_organization_id}):
        refused = await http.post("/auth/invitations/accept", json=acceptance | smuggled)
        assert (refused.status_code, error_of(refused)["code"]) == (422, "invalid_input")
    made = await http.post("/auth/invitations/accept", json=acceptance)
    assert (made.status_code, made.json()["role"], made.json()["email"]) == (201, "user", email)
    for path, again in (("accept", acceptance), ("read", {"token": invited.token.reveal()}), ("read", {"token": "0"})):
        assert (await http.post(f"/auth/invitations/{path}", json=again)).status_code == 404
    assert (await login(http, email))["role"] == "user"


async def test_no_forged_token_is_anybodys(http: httpx2.AsyncClient, core: Core, jane: UserRecord) -> None:
    good = (await login(http, jane.email))["access_token"]
    header, claims = jwt.get_unverified_header(good), jwt.decode(good, options={"verify_signature": False})
    guessed = "0" * 64
    edited = jwt.encode(claims | {"role": "org_admin"}, guessed, headers=header)
    forged = {
        "alg none": jwt.encode(claims, "", algorithm="none", headers=header | {"alg": "none"}),
        "another key": jwt.encode(claims, guessed, headers=header),
        "another key id": jwt.encode(claims, guessed, headers=header | {"kid": "2026-01"}),
        "another algorithm": jwt.encode(claims, guessed, algorithm="HS512", headers=header | {"alg": "HS512"}),
        "edited": f"{edited.rpartition('.')[0]}.{good.rpartition('.')[2]}",
        "truncated": good[:-1],
    }
    told = set()
    for token in forged.values():
        answer = await http.get("/payments", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401
        told.add(str(error_of(answer)))
    for header_value in ("", good, f"Basic {good}", "Bearer"):
        answer = await http.get("/payments", headers={"Authorization": header_value})
        told.add(str(error_of(answer)))
    assert len(told) == 1
    assert (await http.get("/payments", headers={"Authorization": f"bearer {good}"})).status_code == 200


async def test_a_body_that_is_too_large_or_none_is_refused_in_our_words(http: httpx2.AsyncClient) -> None:
    large = await http.post("/auth/login", json={"email": "jane@acme.example", "password": "x" * (256 * 1024)})
    assert (large.status_code, error_of(large)["code"]) == (413, "body_too_large")

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(257):
            yield b" " * 1024

    streamed = await http.post("/auth/login", content=endless())
    assert (streamed.status_code, error_of(streamed)["code"]) == (413, "body_too_large")
    secret = "hunter2-hunter2"
    for body in (b"{", b"[]", b"\xff\xfe", f'{{"email": 7, "password": "{secret}"}}'.encode()):
        answer = await http.post("/auth/login", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in {400, 422}, body
        assert secret not in answer.text
        assert "pydantic" not in answer.text
        assert error_of(answer)["code"] == "invalid_input"
    missing = await http.get("/nowhere")
    assert (missing.status_code, error_of(missing)["code"]) == (404, "not_found")
    method = await http.delete("/auth/login")
    assert (method.status_code, error_of(method)["code"]) == (405, "method_not_allowed")


async def test_the_documentation_is_served_from_here_alone(http: httpx2.AsyncClient) -> None:
    page = await http.get("/docs")
    assert page.status_code == 200
    assert "https://" not in page.text.replace("https://fastapi", "")
    document = (await http.get("/openapi.json")).json()
    assert document["servers"] == [{"url": "/api/v1"}]
