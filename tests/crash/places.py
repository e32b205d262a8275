"""Where the code commits and where it calls Daraja: read from the source, so that nobody has to remember a new place.

A point is named after the module, the function and what happens there, numbered where it happens more than once:
`dispatch._commit_attempts:commit`, `dispatch._call:b2c`, `reconciliation.ask_about:commit#2`. A statement that crosses
organizations commits too; its point is the function that calls it (`inbox.claim_stored:claim_due`).
"""

import ast
import inspect
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import FrameType

import mpesa_mcp
from mpesa_mcp.daraja.client import DarajaClient

SOURCE = Path(mpesa_mcp.__file__).parent
# Where the store itself commits for others, and what it offers them: each call of one of these is a commit.
CROSSINGS = {"claim_due", "store_callbacks"}
_COMMITS = {"session", "platform", "unbound"}
_OPERATIONS = {
    name for name, _ in inspect.getmembers(DarajaClient, inspect.iscoroutinefunction) if not name.startswith("_")
}
_CLIENT = str(SOURCE / "daraja" / "client.py")


@dataclass(frozen=True)
class Place:
    """A call in the source that is a point, on these lines of this file, in this function."""

    point: str
    file: str
    function: str
    first: int
    last: int

    @property
    def operation(self) -> str | None:
        """The operation of the Daraja client that is called there, if it is one."""
        name = self.point.partition(":")[2]
        return name if name in _OPERATIONS else None

    @property
    def is_for_others(self) -> bool:
        """Whether this is a crossing's own commit, which is named after who calls the crossing."""
        return self.function in CROSSINGS


@cache
def places() -> Sequence[Place]:
    """Every place in the source, in the order of files and lines."""
    found: list[Place] = []
    for path in sorted(SOURCE.rglob("*.py")):
        if "simulator" not in path.parts:
            here = [place for node in ast.parse(path.read_text()).body for place in _within(node, path, "")]
            found += _numbered(sorted(here, key=lambda place: place.first))
    return found


def points_on(frame: FrameType | None) -> Iterator[str]:
    """The points that the program is at, innermost first: it stands on their line, or awaits their operation."""
    known = by_file()
    operations = set()
    while frame is not None:
        file, function = frame.f_code.co_filename, frame.f_code.co_name
        if file == _CLIENT:
            operations.add(function)
        for place in known.get(file, ()):
            if place.operation is not None:
                # A call of the client is made on this line and awaited on another.
                if place.function == function and {place.operation, "_post"} <= operations:
                    yield place.point
            elif place.first <= frame.f_lineno <= place.last and not place.is_for_others:
                yield place.point
        frame = frame.f_back


@cache
def by_file() -> Mapping[str, Sequence[Place]]:
    """The places of each file that has any."""
    known: dict[str, list[Place]] = defaultdict(list)
    for place in places():
        known[place.file].append(place)
    return known


def _within(node: ast.AST, path: Path, function: str) -> Iterator[Place]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        function = node.name
    if isinstance(node, ast.Call) and (what := _what(node, path, function)):
        last = node.end_lineno or node.lineno
        yield Place(f"{path.stem}.{function}:{what}", str(path), function, node.lineno, last)
    for child in ast.iter_child_nodes(node):
        yield from _within(child, path, function)


def _what(call: ast.Call, path: Path, function: str) -> str | None:
    """What the point at this call is called after the colon; None where nothing is committed or sent."""
    match call.func:
        case ast.Attribute(attr=method, value=ast.Name(id=owner) | ast.Attribute(attr=owner)):
            if method in _COMMITS and owner.endswith("store"):
                return "commit"
            if method == "in_one_visit" and any(
                word.arg == "writing" and getattr(word.value, "value", None) is True for word in call.keywords
            ):
                return "commit"
            if method in _OPERATIONS and owner != "self":
                return method
            if method == "_post":
                return "post"
        case ast.Name(id=name) if name in CROSSINGS:
            return name
        case ast.Name(id="exchange") if str(path) != _CLIENT or function != "_post":
            return "exchange"  # that of `_post` is named after who calls `_post`
    return None


def _numbered(here: Sequence[Place]) -> Iterator[Place]:
    often = Counter(place.point for place in here)
    seen: Counter[str] = Counter()
    for place in here:
        seen[place.point] += 1
        yield replace(place, point=f"{place.point}#{seen[place.point]}") if often[place.point] > 1 else place
