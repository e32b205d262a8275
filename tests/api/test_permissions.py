"""Every route, called by everybody: who gets past its permission is what the table says, and nobody else does."""

import re
from collections.abc import Iterator

import httpx2
import pytest

from mpesa_mcp.api.app import ROUTERS
from mpesa_mcp.api.routes import PermittedRoute
from mpesa_mcp.billing.states import Act

from .people import CALLERS, People, error_of
from .permissions import PAYING_OUT, PUBLIC, ROUTES

pytestmark = pytest.mark.anyio
# An id of nothing, for every place of a path but the organization's.
NOTHING = "none_00000000000000000000000000"


def all_routes(*acts: Act) -> Iterator[tuple[str, str]]:
    """Those that come to one of these acts."""
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, PermittedRoute)
            for method in route.methods or ():
                if route.declared.act in acts:
                    yield method, route.path


def path_of(path: str, organization_id: str) -> str:
    return re.sub(r"\{\w+\}", NOTHING, path.replace("{organization_id}", organization_id))


def test_every_route_is_in_the_table_and_the_table_has_no_other() -> None:
    assert set(all_routes(*Act)) == set(ROUTES)


def test_what_lets_money_out_says_so_where_it_stands_and_nothing_else_does() -> None:
    assert set(all_routes(Act.PAY_OUT)) == PAYING_OUT
    assert set(all_routes(Act.READ)) == set(ROUTES) - PAYING_OUT


@pytest.mark.parametrize("caller", CALLERS)
async def test_whoever_the_table_lets_in_gets_past_the_permission_and_nobody_else(
    http: httpx2.AsyncClient, people: People, caller: str
) -> None:
    wrong: dict[tuple[str, str], object] = {}
    for (method, path), let_in in ROUTES.items():
        # Nothing that could be accepted: whoever is let in is told so, or is told of an id that leads nowhere.
        answer = await http.request(
            method, path_of(path, people.organization_id), headers=people.headers(caller), json={"nothing": True}
        )
        expected = 401 if caller == "nobody" else 403
        is_refused = answer.status_code in {401, 403}
        if let_in is not PUBLIC and (
            is_refused == (caller in let_in) or (is_refused and answer.status_code != expected)
        ):
            wrong[method, path] = answer.status_code
        if is_refused:
            code = error_of(answer)["code"]
            # What a person of the same role could do is told so.
            is_person_needed = "org_admin" in let_in and caller in {"org_admin_key", "org_admin_on_mcp"}
            if is_person_needed != (code == "person_needed"):
                wrong[method, path] = code
    assert wrong == {}


async def test_another_organizations_path_is_not_found_whatever_else_is_sent(
    http: httpx2.AsyncClient, people: People
) -> None:
    for method, path in ROUTES:
        if "{organization_id}" in path:
            told = [
                await http.request(
                    method, path_of(path, organization_id), headers=people.headers("stranger"), json={"nothing": True}
                )
                for organization_id in (people.organization_id, "org_00000000000000000000000000")
            ]
            assert [answer.status_code for answer in told] == [404, 404], (method, path)
            assert error_of(told[0]) == error_of(told[1])


async def test_a_refused_caller_learns_nothing_from_a_body_that_is_none(
    http: httpx2.AsyncClient, people: People
) -> None:
    for (method, path), let_in in ROUTES.items():
        if method in {"POST", "PUT", "PATCH"} and let_in is not PUBLIC:
            answer = await http.request(
                method,
                path_of(path, people.organization_id),
                headers={"Content-Type": "application/json"},
                content=b"{",
            )
            assert answer.status_code == 401, (method, path)
