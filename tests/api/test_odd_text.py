"""A NUL, which PostgreSQL cannot store, and half a character, which nobody can, in every place of every request:
refused, and never a fault of ours."""

import json
from typing import Any

import httpx2
import pytest

from mpesa_mcp.api.app import create_api
from mpesa_mcp.payments.core import Core

from .people import People, error_of
from .permissions import ROUTES
from .test_permissions import path_of

pytestmark = pytest.mark.anyio


def caller_for(let_in: frozenset[str]) -> str:
    return next((caller for caller in ("org_admin", "super_admin") if caller in let_in), "nobody")


def odd(example: Any) -> list[Any]:
    """The example twice for each text in it, which then ends with a NUL, or with the first half of a pair."""
    if isinstance(example, str):
        return [f"{example}\x00", f"{example}\ud800"]
    if isinstance(example, dict):
        return [example | {name: each} for name, value in example.items() for each in odd(value)]
    return [[each] for each in odd(example[0])] if isinstance(example, list) else []


async def test_a_text_that_nobody_can_store_is_refused_wherever_it_stands(
    http: httpx2.AsyncClient, core: Core, people: People
) -> None:
    document: dict[str, Any] = create_api(core).openapi()
    asked, wrong = 0, {}

    async def ask(method: str, path: str, caller: str, **sent: Any) -> None:
        nonlocal asked
        asked += 1
        headers = people.headers(caller) | {"Content-Type": "application/json"}
        answer = await http.request(method, path, headers=headers, **sent)
        if answer.status_code not in {404, 422}:
            wrong[method, path, json.dumps(sent)] = answer.status_code
        else:
            error_of(answer)

    for (method, path), let_in in ROUTES.items():
        caller, operation = caller_for(let_in), document["paths"][path][method.lower()]
        plain = path_of(path, people.organization_id)
        if "{" in path:
            before, _, last = path.rpartition("{")
            await ask(method, path_of(f"{before}a%00{last.partition('}')[2]}", people.organization_id), caller)
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "query":
                await ask(method, plain, caller, params={parameter["name"]: "a\x00"})
        if body := operation.get("requestBody"):
            name = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            for example in document["components"]["schemas"][name]["examples"]:
                for each in odd(example):
                    await ask(method, plain, caller, content=json.dumps(each))
    assert wrong == {}
    assert asked > 60


async def test_what_does_not_fit_is_told_what_would_and_nothing_of_itself(
    http: httpx2.AsyncClient, people: People
) -> None:
    async def told(method: str, path: str, **sent: Any) -> str:
        answer = await http.request(method, path, headers=people.headers("org_admin"), **sent)
        assert answer.status_code == 422, answer.text
        assert "hunter2" not in answer.text
        message: str = error_of(answer)["message"]
        return message.removesuffix(" See /api/v1/docs.")

    for limit in (0, 201, "hunter2"):
        assert await told("GET", "/users", params={"limit": limit}) == "limit must be a whole number from 1 to 200."
    assert await told("GET", "/payments", params={"from_date": "hunter2", "kind": "hunter2"}) == (
        "from_date must be a date, written YYYY-MM-DD. kind must be stk_push, b2c or reversal."
    )
    roles = "role must be org_admin, manager or user."
    for body, said in (
        ({}, "email is required. role is required."),
        ({"email": "hunter2@x", "role": "hunter2"}, roles),
        ({"email": 7, "role": "user"}, "email must be text of 3 to 254 characters."),
        ({"email": "hunter2\x00", "role": "user"}, "email must not contain the character U+0000."),
        ({"email": "a@b.example", "role": "user", "hunter2": 1}, "Only these fields are known: email, role."),
    ):
        assert await told("POST", "/users", json=body) == f"{said} Nothing was changed."
    assert await told("POST", "/users", content=b"[hunter2") == (
        "The body must be one JSON object, sent as application/json. Nothing was changed."
    )
    path = f"/organizations/{people.organization_id}/unfreeze"
    assert await told("POST", path, json={"hunter2": 1}) == "The body must be empty, or {}. Nothing was changed."
