"""Every tool asked about Theirs: which arguments, with which values, and that nothing comes of it.

The matrix is made of the tools' own schemas: each argument that takes text gets each value that names something of
Theirs, and one that names nothing. A tool that is added needs arguments it accepts here, and a case for nothing else.
"""

import itertools
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mcp.types import CallToolResult

from mpesa_mcp.app.local import LocalPlatform
from mpesa_mcp.payments.states import PaymentStatus
from mpesa_mcp.tools.caller import Caller
from mpesa_mcp.tools.catalogue import all_tools
from mpesa_mcp.tools.server import ToolServer

from .factories import PHONE, Theirs, manager_of, marks_in, own_payment, scrubbed, unlike

Choice = Callable[[Theirs], Iterator["Case"]]
Calling = Callable[[str, dict[str, Any]], Awaitable[CallToolResult]]
_numbers = itertools.count(10_000_000)

# What each tool accepts; FRESH is another value at each call, FRESH_ROWS a payout that nobody got before, OWN_RECEIPT
# that of a new collection of the asker.
FRESH, FRESH_ROWS, OWN_RECEIPT = "fresh", "fresh rows", "own receipt"
ACCEPTED: dict[str, dict[str, Any]] = {
    "stk_push": {
        "phone": PHONE,
        "amount": 4321,
        "reference": "INV-1",
        "description": "",
        "idempotency_key": FRESH,
        "wait_seconds": 0,
    },
    "b2c_payment": {
        "phone": PHONE,
        "amount": 4321,
        "idempotency_key": FRESH,
        "remarks": "Tomatoes",
        "purpose": "business",
        "occasion": "",
        "wait_seconds": 0,
    },
    "check_balance": {"max_age_seconds": 86_400, "wait_seconds": 0},
    "reverse": {"receipt": OWN_RECEIPT, "reason": "Ordered twice", "idempotency_key": FRESH, "wait_seconds": 0},
    "transaction_status": {"receipt": "UKN7Z8CJ88", "wait_seconds": 0},
    "bulk_payment": {
        "name": "Suppliers",
        "payments": FRESH_ROWS,
        "purpose": "business",
        "idempotency_key": FRESH,
        "expected_total": 4321,
        "expected_count": 1,
    },
    "get_batch": {"batch_id": "bat_00000000000000000000000000"},
    "get_payment": {"id": "nobodys-key", "wait_seconds": 0},
    "list_payments": {
        "from_date": "",
        "to_date": "",
        "status": "",
        "kind": "",
        "phone": "",
        "reference": "",
        "limit": 100,
        "cursor": "",
    },
    "transaction_report": {
        "from_date": "2026-01-01",
        "to_date": "2026-12-31",
        "group_by": "reference",
        "kind": "",
        "status": "",
        "reference": "",
        "phone": "",
    },
    "get_limits": {},
    "list_approvals": {"status": ""},
}


@dataclass(frozen=True)
class Case:
    """One argument of one tool, and a value of Theirs in it.

    `names` says whether the argument has a form, as what names something does; free text has none. `fits` says whether
    the schema lets the value through to the tool.
    """

    tool: str
    argument: str
    what: str
    value: str
    names: bool
    fits: bool

    def __str__(self) -> str:
        return f"{self.tool}({self.argument}={self.what})"


def few(theirs: Theirs) -> Iterator[Case]:
    """What the schemas let through, each shape of value once: over HTTP every call costs ten times as much."""
    seen = set()
    for case in cases(theirs):
        kind = _shape(case.value) if case.names else ""
        if case.fits and (case.tool, case.argument, kind) not in seen:
            seen.add((case.tool, case.argument, kind))
            yield case


def every(theirs: Theirs) -> Iterator[Case]:
    """Whatever the schemas let through, as `make isolation` asks; what they refuse reaches no tool: each shape once."""
    seen = set()
    for case in cases(theirs):
        kind = (case.tool, case.argument, _shape(case.value))
        if case.fits or kind not in seen:
            seen.add(kind)
            yield case


def each_thing(theirs: Theirs) -> Iterator[Case]:
    """What names something gets each thing that can be named, payments in one status. Free text gets each shape once,
    and what it is called after; what a schema refuses is asked once for each argument.
    """
    seen = set()
    for case in cases(theirs):
        thing = case.what.partition(" that is ")[0]
        if not case.fits:
            thing = "refused"
        elif not case.names and case.argument not in thing:
            thing = _shape(case.value)
        if (kind := (case.tool, case.argument, thing)) not in seen:
            seen.add(kind)
            yield case


def each_kind(theirs: Theirs) -> Iterator[Case]:
    """What the schemas let through, one value of each kind of id and of each other shape."""
    seen = set()
    for case in cases(theirs):
        kind = (case.tool, case.argument, case.value.rpartition("_")[0], _shape(case.value))
        if case.fits and kind not in seen:
            seen.add(kind)
            yield case


def _shape(value: str) -> str:
    return re.sub(r"_.*|[a-z]+|[A-Z]+|\d+", "x", value)


def cases(theirs: Theirs) -> Iterator[Case]:
    """Readers first: what a writing tool stored for the asker with such a value would otherwise be found."""
    for offered in sorted(all_tools(), key=lambda each: not each.tool.annotations.read_only_hint):  # type: ignore[union-attr] # all have them, as another test says
        for argument, schema in offered.tool.parameters["properties"].items():
            if schema.get("type") == "string":
                for what, value in theirs.named.items():
                    yield Case(offered.tool.name, argument, what, value, "pattern" in schema, _fits(schema, value))


def as_asker(platform: LocalPlatform, organization_id: str = "") -> Calling:
    """The tools themselves, without HTTP, called as the asking organization, or as this one."""

    async def caller() -> Caller:
        return Caller(platform.core, manager_of(organization_id or platform.organization.organization_id))

    server = ToolServer(caller, all_tools())

    async def call_tool(tool: str, arguments: dict[str, Any]) -> CallToolResult:
        result = await server.call_tool(tool, arguments)
        assert isinstance(result, CallToolResult)
        return result

    return call_tool


async def nothing_comes_of(platform: LocalPlatform, theirs: Theirs, call: Calling, case: Case) -> None:
    """The answer with the value of Theirs is the one with a value that names nothing, and tells nothing of Theirs."""
    answers = []
    for value in (case.value, unlike(case.value)):
        arguments = await accepted(platform, case.tool)
        given = [value, *(each for each in arguments.values() if isinstance(each, str) and len(each) > 7)]
        said = (await call(case.tool, arguments | {case.argument: value})).model_dump_json()
        assert not marks_in(said, theirs, *given), case
        answers.append(scrubbed(said, *given))
    assert answers[0] == answers[1], case


async def accepted(platform: LocalPlatform, tool: str) -> dict[str, Any]:
    """Arguments that the tool accepts from the asker."""
    arguments = dict(ACCEPTED[tool])
    for name, value in arguments.items():
        if value == FRESH:
            arguments[name] = f"own-key-{next(_numbers)}"
        if value == FRESH_ROWS:
            phone = f"07{next(_numbers)}"
            arguments[name] = [{"phone": phone, "amount": 4321, "reference": "SUP-1", "remarks": "Tomatoes"}]
        if value == OWN_RECEIPT:
            receipt = f"OW{next(_numbers)}"
            await own_payment(platform, PaymentStatus.SUCCEEDED, receipt=receipt)
            arguments[name] = receipt
    return arguments


def _fits(schema: dict[str, Any], value: str) -> bool:
    """Whether the schema lets the value through to the tool."""
    if "enum" in schema or len(value) > schema.get("maxLength", len(value)):
        return False
    return re.search(schema.get("pattern", ""), value) is not None
