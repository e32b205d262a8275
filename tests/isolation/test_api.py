"""Every route of the API, asked with what names something of Theirs: the answer is the one for what does not exist.

The matrix is made of the OpenAPI document: each text in a path, a query or a body gets what it is named after and, in
turn, some other values that name something of Theirs; what else a body needs is its documented example. There are more
of them on SQLite, where row-level security does not hide a hole in the filter. `make isolation` asks about each shape
of value everywhere.
"""

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from mpesa_mcp.api.app import create_api
from mpesa_mcp.app.local import LocalPlatform
from mpesa_mcp.app.web import create_web
from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.identity.sessions import Sessions
from mpesa_mcp.identity.users import create_user
from mpesa_mcp.values import Role, Secret

from .factories import ACTOR, Theirs, marks_in, rows_of, scrubbed, unlike

pytestmark = pytest.mark.anyio
EMAIL, PASSWORD = "admin@ours.example", "correct horse battery"
# Passwords tell nobody apart, which tests/api shows; they are slow on purpose, and the fifth wrong one is told to wait.
PASSWORDS = {"/auth/login", "/auth/password"}
# Ids, keys and tokens that an answer brings with it.
NEW_EACH_TIME = re.compile(r"\b[a-z]{3}_[0-9a-z]{26}\b|\bmpk_\w+|\b[0-9a-f]{64}\b")
# Whoever has it is the one who is invited.
BEARER = "the token of an invitation"
# Of how many values a text gets one where not all are asked about: where the filter holds alone, and behind both locks.
ONE_OF, ONE_OF_BEHIND_BOTH = 4, 8


@dataclass(frozen=True)
class Case:
    """One text of one route: where it stands ("path", "query" or "body"), and the rest of the request."""

    method: str
    path: str
    place: str
    name: str
    example: Any

    def __str__(self) -> str:
        return f"{self.method} {self.path} ({self.place} {self.name})"


@pytest.fixture(scope="module")
async def http(platform: LocalPlatform) -> AsyncIterator[httpx2.AsyncClient]:
    """As an org_admin of ours who is at the desk."""
    core = platform.core
    await create_user(
        core.store,
        core.clock,
        organization_id=platform.organization.organization_id,
        email=EMAIL,
        role=Role.ORG_ADMIN,
        password=Secret(PASSWORD),
        actor=Actor(ACTOR, None),
        seats=seats_of,
    )
    signed_in = await Sessions(core.store, core.keyring, core.settings, core.clock).sign_in(EMAIL, Secret(PASSWORD))
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(create_web(core)),
        base_url=f"{core.settings.reached_at}/api/v1",
        headers={"Authorization": f"Bearer {signed_in.access_token.reveal()}"},
    ) as client:
        yield client


def cases(document: dict[str, Any]) -> Iterator[Case]:
    # Readers first, and last who changes what others show: what a route stored for us would otherwise be found.
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    for method, path, operation in sorted(operations, key=lambda each: (each[0] != "GET", each[0] == "PATCH")):
        if path in PASSWORDS:
            continue
        example = _example(document, operation)
        for parameter in operation.get("parameters", ()):
            if parameter["in"] in {"path", "query"} and _is_text(parameter["schema"]):
                yield Case(method, path, parameter["in"], parameter["name"], example)
        for name, value in (example or {}).items():
            if isinstance(value, str):
                yield Case(method, path, "body", name, example)


def _example(document: dict[str, Any], operation: dict[str, Any]) -> Any:
    body = operation.get("requestBody")
    if body is None:
        return None
    name = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    return document["components"]["schemas"][name]["examples"][0]


def _is_text(schema: dict[str, Any]) -> bool:
    allowed = schema.get("anyOf", [schema])
    return any(each.get("type") == "string" and not {"enum", "format"} & set(each) for each in allowed)


def shapes(theirs: Theirs) -> Iterator[tuple[str, str]]:
    """A value of each shape that names something of Theirs, after what it names."""
    seen = set()
    for what, value in theirs.named.items():
        shape = re.sub(r"[a-z0-9]+", "x", value.partition("_")[0] + value.partition("_")[2], flags=re.IGNORECASE)
        kind = (value.partition("_")[0] if "_" in value else "", shape, what.split()[1])
        if kind not in seen and what != BEARER:
            seen.add(kind)
            yield what, value


def asked_about(case: Case, number: int, theirs: Theirs, one_of: int) -> Iterator[str]:
    """What the text is named after (`user_id`: a user) and one of so many others, in turn."""
    word = case.name.removesuffix("_id")
    for turn, (what, value) in enumerate(shapes(theirs)):
        if word in re.findall(r"\w+", what) or turn % one_of == number % one_of:
            yield value


async def answer_to(http: httpx2.AsyncClient, case: Case, value: str, organization_id: str) -> httpx2.Response:
    filled = {"organization_id": organization_id} | ({case.name: value} if case.place == "path" else {})
    path = re.sub(r"\{(\w+)\}", lambda found: filled.get(found.group(1), "none"), case.path)
    body = case.example | {case.name: value} if case.place == "body" else case.example
    return await http.request(
        case.method, path, params={case.name: value} if case.place == "query" else None, json=body
    )


async def test_whatever_names_theirs_is_answered_as_what_names_nothing(
    platform: LocalPlatform, theirs: Theirs, http: httpx2.AsyncClient
) -> None:
    one_of = ONE_OF_BEHIND_BOTH if platform.core.store.is_postgresql else ONE_OF
    assert await _asked(platform, theirs, http, one_of) > 300


@pytest.mark.slow
async def test_each_text_asked_about_each_shape_is_answered_as_what_names_nothing(
    platform: LocalPlatform, theirs: Theirs, http: httpx2.AsyncClient
) -> None:
    assert await _asked(platform, theirs, http, 1) > 1000


async def _asked(platform: LocalPlatform, theirs: Theirs, http: httpx2.AsyncClient, one_of: int) -> int:
    """How often something was asked; each answer was the right one."""
    before = await rows_of(platform.core, theirs.organization.organization_id)
    own = platform.organization.organization_id
    asked = 0
    for number, case in enumerate(cases(create_api(platform.core).openapi())):
        for value in asked_about(case, number, theirs, one_of):
            told = []
            for given in (value, unlike(value)):
                answer = await answer_to(http, case, given, own)
                assert not marks_in(answer.text, theirs, given), case
                said = NEW_EACH_TIME.sub("<new>", scrubbed(answer.text, given))
                told.append((answer.status_code, said))
            assert told[0] == told[1], case
            asked += 1
    assert await rows_of(platform.core, theirs.organization.organization_id) == before
    return asked
