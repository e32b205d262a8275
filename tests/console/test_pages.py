"""Every page of the console, asked for by everybody: whom it is shown, what it carries, and what a form needs."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from hashlib import sha256

import httpx2
import pytest

from mpesa_mcp.api.app import ROUTERS
from mpesa_mcp.api.routes import PermittedRoute
from mpesa_mcp.billing.states import Act
from mpesa_mcp.console.app import ROUTES
from mpesa_mcp.console.rendering import FILES

from .office import HOSTILE, Office, browser, signed_in
from .permissions import EVERYBODY, PAGES, PAYING_OUT

pytestmark = pytest.mark.anyio
VISITORS = ("user", "manager", "org_admin", "super_admin")
# An id of nothing.
NOTHING = "none_00000000000000000000000000"


@pytest.fixture(scope="module")
async def visitors(office: Office) -> AsyncIterator[Mapping[str, httpx2.AsyncClient]]:
    """A browser for each role, signed in, and one that is not."""
    async with AsyncExitStack() as stack:
        opened = {caller: await stack.enter_async_context(signed_in(office, caller)) for caller in VISITORS}
        yield {**opened, "nobody": await stack.enter_async_context(browser(office.url))}


def path_of(path: str, ids: Mapping[str, str] | None = None) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: (ids or {}).get(found.group(1), NOTHING), path)


def test_every_page_is_in_the_table_and_the_table_has_no_other() -> None:
    there = {(method, route.path) for route in ROUTES for method in route.methods or () if method != "HEAD"}
    assert there == set(PAGES)


def test_a_page_and_a_route_about_the_same_are_for_the_same_people_and_let_the_same_money_out() -> None:
    routes = {
        (method, route.path): route.declared
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, PermittedRoute)
        for method in route.methods or ()
    }
    both = {"/rules": "/spend-rules", "/keys": "/api-keys", "/result.csv": "/result"}
    compared, paying_out = set(), set()
    for shown in ROUTES:
        permission, act = (getattr(shown.endpoint, name, None) for name in ("permission", "act"))
        path = shown.path
        for here, there in both.items():
            path = path.replace(here, there)
        for method in shown.methods or ():
            if act is Act.PAY_OUT:
                paying_out.add((method, shown.path))
            if permission is not None and (route := routes.get((method, path))):
                same = (route.permission.least, route.permission.platform, route.act)
                assert (permission.least, permission.platform, act) == same, path
                compared.add((method, path))
    assert paying_out == PAYING_OUT
    assert len(compared) >= 18, compared


def test_htmx_is_the_one_its_authors_publish() -> None:
    published = "71ea67185bfa8c98c39d31717c6fce5d852370fcdfd129db4543774d3145c0de"
    assert sha256((FILES / "htmx.min.js").read_bytes()).hexdigest() == published


async def test_a_page_is_shown_to_whom_the_table_says_and_to_nobody_else(
    visitors: Mapping[str, httpx2.AsyncClient],
) -> None:
    wrong = {}
    for (method, path), shown_to in PAGES.items():
        for caller, client in visitors.items():
            if method == "POST" and shown_to is EVERYBODY:
                continue
            answer = await client.request(method, path_of(path), data={} if method == "POST" else None)
            # Whoever may see it and sent a form without its token is told of the form.
            is_refused = answer.status_code == 403 and "This form is not good" not in answer.text
            is_sent_away = answer.headers.get("location", "").startswith("/console/sign-in")
            expected = (
                (False, False)
                if caller in shown_to or shown_to is EVERYBODY
                else (caller != "nobody", caller == "nobody")
            )
            if (is_refused, is_sent_away) != expected:
                wrong[method, path, caller] = answer.status_code
    assert wrong == {}


async def test_every_answer_forbids_scripts_and_assets_from_elsewhere(
    visitors: Mapping[str, httpx2.AsyncClient], office: Office
) -> None:
    for caller, client in visitors.items():
        for method, path in [*PAGES, ("GET", "/nothing"), ("PUT", "/payments")]:
            answer = await client.request(method, path_of(path, office.own), data={} if method == "POST" else None)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy, (caller, path)
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-request-id"].startswith("req_")
            is_page = answer.headers.get("content-type", "").startswith("text/html")
            assert answer.headers["cache-control"] == "no-store" or not is_page
            if is_page:
                assert not re.search(r"https?://|\sstyle=|\son\w+=|<script>|<style", answer.text), path


async def test_a_form_that_does_not_carry_this_sessions_token_changes_nothing(
    visitors: Mapping[str, httpx2.AsyncClient], office: Office
) -> None:
    admin = visitors["org_admin"]
    own = _token(await admin.get("/payments"))
    others = _token(await visitors["manager"].get("/payments"))
    forms: list[tuple[dict[str, str], dict[str, str]]] = [
        ({}, {}),
        ({"form_token": ""}, {}),
        ({"form_token": others}, {}),
        ({"form_token": own}, {"Sec-Fetch-Site": "cross-site"}),
        ({"form_token": own}, {"Sec-Fetch-Site": "same-site"}),
    ]
    for (method, path), shown_to in PAGES.items():
        if method == "POST" and shown_to is not EVERYBODY:
            for form, headers in forms:
                sent = form | {"reason": "by another site", "outcome": "failed"}
                answer = await admin.post(path_of(path, office.own), data=sent, headers=headers)
                assert answer.status_code == 403, (path, form)
                assert "This form is not good any more" in answer.text
            as_json = await admin.post(path_of(path, office.own), json={"form_token": own})
            assert as_json.status_code == 400
    assert (await admin.get("/payments")).status_code == 200, "still signed in"
    assert "queued" in (await admin.get(f"/payments/{office.own['payment_id']}")).text


async def test_what_is_another_organizations_is_answered_as_what_is_not_there(
    visitors: Mapping[str, httpx2.AsyncClient], office: Office
) -> None:
    admin = visitors["org_admin"]
    token = _token(await admin.get("/payments"))
    asked = 0
    for method, path in PAGES:
        if "{" in path:
            form = {"form_token": token, "reason": "looking around", "outcome": "failed"} if method == "POST" else None
            told = [await admin.request(method, path_of(path, ids), data=form) for ids in (office.theirs, {})]
            assert [answer.status_code for answer in told] == [404, 404], (method, path)
            assert told[0].text == told[1].text
            asked += 1
    assert asked >= 4
    foreign_cursor = await admin.get("/payments", params={"cursor": office.theirs["payment_id"]})
    no_cursor = await admin.get("/payments", params={"cursor": NOTHING})
    assert foreign_cursor.status_code == no_cursor.status_code == 422


async def test_a_menu_leads_only_where_the_visitor_may_go(visitors: Mapping[str, httpx2.AsyncClient]) -> None:
    for caller in VISITORS:
        client = visitors[caller]
        start = await client.get((await client.get("/")).headers["location"].removeprefix("/console"))
        menu = start.text[start.text.index("<nav") : start.text.index("</nav>")]
        paths = re.findall(r'href="/console(/[^"]+)"', menu)
        assert paths
        for path in paths:
            assert caller in PAGES["GET", path]
            assert (await client.get(path)).status_code == 200


async def test_what_somebody_outside_typed_is_shown_apart_and_as_text(
    visitors: Mapping[str, httpx2.AsyncClient], office: Office
) -> None:
    page = (await visitors["user"].get(f"/payments/{office.own['payment_id']}")).text
    assert "<script>alert" not in page
    shown = re.search(r'<figure class="foreign">.*?</figure>', page, re.DOTALL)
    assert shown
    assert HOSTILE.replace("<", "&lt;").replace(">", "&gt;") in shown.group()
    assert page.count("ignore previous instructions") == 1


async def test_a_whole_phone_number_is_for_those_who_pay_out(
    visitors: Mapping[str, httpx2.AsyncClient], office: Office
) -> None:
    path = f"/payments/{office.own['payment_id']}"
    for caller, sees in (("user", False), ("manager", True), ("org_admin", True)):
        page = (await visitors[caller].get(path)).text
        assert ("0700 000 001" in page) == sees
        assert ("2547*****001" in page) != sees


def _token(answer: httpx2.Response) -> str:
    found = re.search('name="form_token" value="([^"]+)"', answer.text)
    assert found
    return found.group(1)


async def test_numbers_and_days_beyond_all_that_is_stored_are_pages_like_others(
    visitors: Mapping[str, httpx2.AsyncClient], office: Office
) -> None:
    batch = f"/batches/{office.own['batch_id']}"
    for path in (
        *(f"{batch}?after={digit * count}" for digit in ("9", "\u0669") for count in (9, 30, 5_000)),
        *(f"/payments?{day}" for day in ("from=0001-01-01", "to=9999-12-31", "from=9999-12-31&to=0001-01-01")),
    ):
        assert (await visitors["manager"].get(path)).status_code == 200, path[:80]
