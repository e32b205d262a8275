"""The console's cookie: what it is, what ends it, and that it is nobody's key to anything else."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from mpesa_mcp.app.web import create_web
from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.identity.console_cookies import LIFE, make_cookie, read_cookie
from mpesa_mcp.identity.principal import Unauthenticated
from mpesa_mcp.identity.standing import activate, suspend
from mpesa_mcp.identity.users import activate_user, change_role, deactivate_user
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.values import FrozenClock, Role
from tests.api.people import OPERATOR

from .office import Office, browser, field, sign_in, signed_in

pytestmark = pytest.mark.anyio
COOKIE = "mpesa_mcp"


def is_signed_out(answer: httpx2.Response) -> bool:
    return answer.status_code == 303 and answer.headers["location"].startswith("/console/sign-in")


async def test_signing_in_leads_to_the_page_that_was_asked_for_and_nowhere_else(office: Office) -> None:
    async with browser(office.url) as client:
        sent_away = await client.get("/payments", params={"status": "failed"})
        assert sent_away.headers["location"] == "/console/sign-in?next=/console/payments%3Fstatus%3Dfailed"
        asked = await client.get(sent_away.headers["location"].removeprefix("/console"))
        assert field(asked, "next") == "/console/payments?status=failed"
        for elsewhere in (
            "https://evil.example",
            "//evil.example",
            "/console//evil.example",
            "/console/\\evil",
            "/api/v1",
        ):
            answer = await sign_in(client, office.email("user"), after=elsewhere)
            assert (answer.status_code, answer.headers["location"]) == (303, "/console/")
        answer = await sign_in(client, office.email("user"), after="/console/payments?status=failed")
        assert answer.headers["location"] == "/console/payments?status=failed"


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(office: Office) -> None:
    async with browser(office.url) as client:
        here = (await sign_in(client, office.email("user"))).headers["set-cookie"]
    assert here.startswith(f"{COOKIE}=")
    assert "HttpOnly; " in here
    assert "SameSite=lax" in here
    assert "Secure" not in here, "on this machine itself there is no TLS"


async def test_over_https_the_cookie_is_for_this_host_and_tls_alone(office: Office) -> None:
    core = office.platform.core
    hosted = core.settings.model_copy(update={"base_url": "https://pay.example"})
    transport = httpx2.ASGITransport(create_web(replace(core, settings=hosted)))
    async with httpx2.AsyncClient(transport=transport, base_url="https://pay.example/console") as client:
        cookie = (await sign_in(client, office.email("user"))).headers["set-cookie"]
        assert cookie.startswith("__Host-mpesa_mcp=")
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))
        assert "Domain" not in cookie
        assert (await client.get("/payments")).status_code == 200


async def test_the_cookie_opens_no_api_and_a_bearer_token_no_page(office: Office) -> None:
    async with signed_in(office, "org_admin") as client:
        cookie = client.cookies[COOKIE]
        for path in ("/api/v1/payments", "/mcp"):
            with_cookie = await client.request("GET", f"{office.url}{path}")
            with_bearer = await client.get(f"{office.url}{path}", headers={"Authorization": f"Bearer {cookie}"})
            assert (with_cookie.status_code, with_bearer.status_code) == (401, 401), path
    for token in office.people.tokens.values():
        async with browser(office.url) as client:
            assert is_signed_out(await client.get("/payments", headers={"Authorization": f"Bearer {token}"}))
            client.cookies.set(COOKIE, token)
            assert is_signed_out(await client.get("/payments"))


async def test_a_cookie_that_was_changed_is_none(office: Office) -> None:
    async with signed_in(office, "user") as client:
        cookie = client.cookies[COOKIE]
    middle = cookie[:100] + ("B" if cookie[100] == "A" else "A") + cookie[101:]
    for changed in (middle, cookie[:-4], f"{cookie}AAAA", f"B{cookie[1:]}", "é", "", "A" * 5000):
        async with httpx2.AsyncClient(base_url=f"{office.url}/console") as bare:
            headers = {"Cookie": f"{COOKIE}={changed}".encode()}
            assert is_signed_out(await bare.get("/payments", headers=headers)), changed  # type: ignore[arg-type] # bytes


async def test_signing_out_ends_the_session_for_whoever_kept_the_cookie(office: Office) -> None:
    async with signed_in(office, "manager") as client, browser(office.url) as thief:
        thief.cookies.set(COOKIE, client.cookies[COOKIE])
        assert (await thief.get("/payments")).status_code == 200
        token = field(await client.get("/payments"))
        left = await client.post("/sign-out", data={"form_token": token})
        assert is_signed_out(left)
        assert COOKIE not in client.cookies
        assert is_signed_out(await thief.get("/payments"))


async def test_what_ends_a_persons_rights_counts_from_the_next_page_on(office: Office) -> None:
    core, acme = office.platform.core, office.people.organization_id
    manager: Any = {"organization_id": acme, "user_id": office.people.users["manager"].user_id, "actor": OPERATOR}
    async with signed_in(office, "manager") as client:
        await deactivate_user(core.store, core.clock, **manager)
        assert is_signed_out(await client.get("/payments"))
        await activate_user(core.store, core.clock, **manager, seats=seats_of)
        assert is_signed_out(await client.get("/payments")), "the session is over, not asleep"
    async with signed_in(office, "manager") as client:
        await change_role(core.store, core.clock, **manager, role=Role.USER)
        assert is_signed_out(await client.get("/payments"))
        await change_role(core.store, core.clock, **manager, role=Role.MANAGER)
    async with signed_in(office, "manager") as client, signed_in(office, "super_admin") as platform:
        await suspend(core.store, core.clock, organization_id=acme, actor=OPERATOR)
        assert is_signed_out(await client.get("/payments"))
        shut_out = await sign_in(client, office.email("manager"))
        assert (shut_out.status_code, "Your organization is suspended." in shut_out.text) == (403, True)
        assert (await sign_in(client, office.email("manager"), "not the password")).status_code == 401
        assert (await platform.get("/organizations")).status_code == 200
        async with core.store.session(acme) as session:
            await activate(session, core.clock, OPERATOR)
        assert (await client.get("/payments")).status_code == 200


async def test_guessing_is_slowed_down_here_and_at_the_api_together(office: Office) -> None:
    async with browser(office.url) as client:
        email = "guessed@acme.example"
        told = [await sign_in(client, email, "not the password") for _ in range(5)]
        assert {answer.status_code for answer in told} == {401}
        assert "The address or the password is wrong." in told[0].text
        assert f'value="{email}"' in told[0].text
        slowed = await sign_in(client, email, "not the password")
        assert slowed.status_code == 429
        assert 0 < int(slowed.headers["retry-after"]) <= 30
        login = {"email": email, "password": "not the password"}
        assert (await client.post(f"{office.url}/api/v1/auth/login", json=login)).status_code == 429


async def test_a_sign_in_that_was_not_asked_for_on_our_page_is_refused(office: Office) -> None:
    form = {"email": office.email("user"), "password": "correct horse battery", "next": ""}
    async with browser(office.url) as client, browser(office.url) as other:
        token = field(await other.get("/sign-in"))
        without = await client.post("/sign-in", data=form | {"form_token": token})
        assert (without.status_code, "sign in at http://127.0.0.1" in without.text) == (403, True)
        own = field(await client.get("/sign-in"))
        assert own != token
        for sent, headers in (
            (form, {}),
            (form | {"form_token": token}, {}),
            (form | {"form_token": own}, {"Sec-Fetch-Site": "cross-site"}),
        ):
            assert (await client.post("/sign-in", data=sent, headers=headers)).status_code == 403
        assert COOKIE not in client.cookies


async def test_a_cookie_lasts_a_working_day(keyring: Keyring, clock: FrozenClock) -> None:
    named = {"organization_id": "org_1", "user_id": "usr_1", "session_id": "ses_1"}
    cookie = (await make_cookie(keyring, clock, **named, generation=3)).reveal()
    assert not any(word in cookie for word in named.values())
    clock.advance(LIFE - timedelta(seconds=1))
    read = await read_cookie(keyring, clock, cookie)
    assert (read.organization_id, read.user_id, read.session_id, read.generation) == (*named.values(), 3)
    clock.advance(timedelta(seconds=1))
    with pytest.raises(Unauthenticated):
        await read_cookie(keyring, clock, cookie)


async def test_who_is_signed_out_in_the_middle_is_told_that_nothing_was_done_and_comes_back_to_the_same_page(
    office: Office,
) -> None:
    own = office.own
    for action, page in (
        (f"/approvals/{own['approval_id']}/approve", f"/approvals/{own['approval_id']}"),
        (f"/payments/{own['payment_id']}/withdraw", f"/payments/{own['payment_id']}"),
        (f"/rules/{own['scope']}", f"/rules/{own['scope']}"),
        (f"/rules/proposals/{own['proposal_id']}/confirm", "/rules"),
        (f"/keys/{own['key_id']}/revoke", "/keys"),
    ):
        async with browser(office.url) as client:
            sent_away = await client.post(action, data={"form_token": "of a session that is over"})
            asked = await client.get(sent_away.headers["location"].removeprefix("/console"))
            assert "so nothing was done" in asked.text, action
            assert field(asked, "next").replace("%3A", ":") == f"/console{page}"
            back = await sign_in(client, office.email("org_admin"), after=field(asked, "next"))
            assert back.headers["location"] == field(asked, "next")
            # A form of the session before leads to its page, too.
            stale = await client.post(action, data={"form_token": "of a session that is over"})
            assert stale.status_code == 403
            assert f'<a href="/console{page}">Open the page again</a>' in stale.text.replace("%3A", ":")
            # And so does the address of an action, which stands in the browser after a refusal.
            again = await client.get(action)
            if action != page:
                assert (again.status_code, again.headers["location"]) == (303, f"/console{page}")
    async with browser(office.url) as client:
        assert "so nothing was done" not in (await client.get("/sign-in", params={"next": "/console/keys"})).text
