"""Schemathesis reads the OpenAPI document and asks every route as everybody: what comes back is what is documented."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import anyio
import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from schemathesis.checks import (
    not_a_server_error,
)
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from mpesa_mcp.app.http import listen, port_of, serving
from mpesa_mcp.app.web import create_web
from mpesa_mcp.payments.core import Core

from .people import CALLERS, make_people

pytestmark = pytest.mark.anyio
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 2


@pytest.fixture(scope="module")
async def address(core: Core) -> AsyncIterator[str]:
    opened = listen("127.0.0.1", 0)
    async with serving(create_web(core), opened):
        yield f"http://127.0.0.1:{port_of(opened)}/api/v1"


def ask_everything(address: str, headers: dict[str, str]) -> dict[str, int]:
    """Asks each operation some times; how often each status came. Raises what Schemathesis finds."""
    document: dict[str, Any] = httpx2.get(f"{address}/openapi.json", timeout=60).json()
    schema = schemathesis.openapi.from_dict(document)
    seen: dict[str, int] = {}
    for each in schema.get_all_operations():
        operation = each.ok()  # type: ignore[union-attr] # it raises what is wrong with the document

        @hypothesis_settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case[Any]) -> None:
            answer = case.call_and_validate(base_url=address, headers=headers, checks=CHECKS)
            seen[str(answer.status_code)] = seen.get(str(answer.status_code), 0) + 1

        ask()
    return seen


@pytest.mark.parametrize("caller", CALLERS)
async def test_no_route_answers_what_its_document_does_not_say(core: Core, address: str, caller: str) -> None:
    # People of their own: what is asked may end them.
    people = await make_people(core, slug=caller.replace("_", "-"))
    seen = await anyio.to_thread.run_sync(
        partial(ask_everything, address, people.headers(caller) | {"Connection": "close"})
    )
    assert seen.get("500", 0) == 0
    if caller != "nobody":
        assert seen.get("200", 0) > 0, seen
