"""Schemathesis reads the OpenAPI document and asks every route as everybody: what comes back is what is documented."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
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


def ask_everything(address: str, callers: Mapping[str, dict[str, str]]) -> dict[str, Counter[int]]:
    """Asks each operation some times, the same as everybody; how often each of them was answered with which status.

    Raises what Schemathesis finds.
    """
    document: dict[str, Any] = httpx2.get(f"{address}/openapi.json", timeout=60).json()
    schema = schemathesis.openapi.from_dict(document)
    seen: dict[str, Counter[int]] = {caller: Counter() for caller in callers}
    operations = [
        each.ok()  # type: ignore[union-attr] # it raises what is wrong with the document
        for each in schema.get_all_operations()
    ]
    # Signing out comes last: without a body it ends the session that asks.
    for operation in sorted(operations, key=lambda each: each.path == "/auth/logout"):

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
            for caller, headers in callers.items():
                try:
                    answer = case.call_and_validate(base_url=address, headers=headers, checks=CHECKS)
                except BaseException as wrong:
                    wrong.add_note(f"Asked as {caller}.")
                    raise
                seen[caller][answer.status_code] += 1

        ask()
    return seen


async def test_no_route_answers_what_its_document_does_not_say(core: Core, address: str) -> None:
    callers = {}
    for caller in CALLERS:
        # People of their own: what is asked may end them.
        people = await make_people(core, slug=caller.replace("_", "-"))
        callers[caller] = people.headers(caller) | {"Connection": "close"}
    seen = await anyio.to_thread.run_sync(ask_everything, address, callers)
    for caller, statuses in seen.items():
        assert statuses[500] == 0, caller
        assert statuses[200] > 0 or caller == "nobody", (caller, statuses)
