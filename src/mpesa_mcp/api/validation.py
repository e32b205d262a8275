"""What is said about a request that does not fit its route: what is acceptable, read off the OpenAPI document.

So that the refusal says what the documentation says. What was sent is never repeated, nor the name of an unknown field.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic_core import PydanticCustomError

NUL: Final = "\x00"
_NUL_TYPE: Final = "nul"
_NUMBER_TYPES: Final = {"int_type", "float_type", "int_parsing", "float_parsing"}
NO_NUL: Final = "must not contain the character U+0000"
_DEEP_TYPE: Final = "deep"
_DEEPEST: Final = 20
_NOT_DEEP: Final = f"must not be nested more than {_DEEPEST} deep"
_HALF_TYPE: Final = "half"
_NO_HALF: Final = "must not contain half a character (a lone surrogate)"
_HALF: Final = re.compile("[\ud800-\udfff]")
_UNFIT: Final = {_NUL_TYPE: NO_NUL, _DEEP_TYPE: _NOT_DEEP, _HALF_TYPE: _NO_HALF}
_NO_OBJECT: Final = "The body must be one JSON object, sent as application/json."

Schema = Mapping[str, Any]


def fit_to_read(value: Any) -> Any:
    """The value as it is. Raises PydanticCustomError for what nobody can store or read.

    A NUL, which PostgreSQL does not take; half a character, which nothing can encode; and lists in lists without end,
    which overflow whoever walks through them.
    """
    level = [value]
    for _ in range(_DEEPEST):
        if any(isinstance(each, str) and NUL in each for each in level):
            raise PydanticCustomError(_NUL_TYPE, NO_NUL)
        if any(isinstance(each, str) and _HALF.search(each) for each in level):
            raise PydanticCustomError(_HALF_TYPE, _NO_HALF)
        level = [inside for each in level for inside in _inside(each)]
        if not level:
            return value
    raise PydanticCustomError(_DEEP_TYPE, _NOT_DEEP)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return [each for pair in value.items() for each in pair]
    return value if isinstance(value, list) else ()


def sentences(problems: Sequence[Mapping[str, Any]], document: Schema, *, path: str, method: str) -> str:
    """One sentence for each field that is missing or not acceptable, and one for those that are unknown."""
    operation = document["paths"].get(path, {}).get(method.lower(), {})
    said: list[str] = []
    for problem in problems:
        place, *field = problem["loc"]
        if problem["type"] == "json_invalid" or not field:
            said.append(_NO_OBJECT)
            continue
        name, schema = ".".join(map(str, field)), _schema_of(document, operation, str(place), field)
        match problem["type"]:
            case "missing":
                said.append(f"{name} is required.")
            case "extra_forbidden":
                around = _schema_of(document, operation, str(place), field[:-1])
                said.append(_known(alternatives(around or {}, document)))
            case kind:
                accepted = _UNFIT.get(kind) or must_be(schema or {}, document)
                as_text = place == "body" and kind in _NUMBER_TYPES and isinstance(problem.get("input"), str)
                said.append(f"{name} {accepted or 'is not acceptable'}{', not text' if as_text else ''}.")
    # Of a field with several possible types each is a problem of its own.
    return " ".join([*dict.fromkeys(said), *([] if method in {"GET", "HEAD"} else ["Nothing was changed."])])


def must_be(schema: Schema, document: Schema) -> str | None:
    """ "must be ..." for a field with this schema; None for one that says nothing."""
    words = dict.fromkeys(filter(None, (_words(each) for each in alternatives(schema, document))))
    return f"must be {' or '.join(words)}" if words else None


def _words(schema: Schema) -> str | None:
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        *most, last = map(str, schema["enum"])
        return f"{', '.join(most)} or {last}" if most else last
    match schema.get("type"):
        case "integer" | "number":
            bounds = _between(schema.get("minimum"), schema.get("maximum"))
            number = "a whole number" if schema["type"] == "integer" else "a number"
            return f"{number} {'from' if ' to ' in bounds else 'of'} {bounds}" if bounds else number
        case "boolean":
            return "true or false"
        case "string" if schema.get("format") == "date":
            return "a date, written YYYY-MM-DD"
        case "string" if schema.get("format") == "date-time":
            return "a moment such as 2026-11-25T08:30:00Z"
        case "string":
            length = _between(schema.get("minLength"), schema.get("maxLength"))
            return f"text of {length} characters" if length else "text"
        case "array":
            length = _between(schema.get("minItems"), schema.get("maxItems"))
            return f"a list of {length}" if length else "a list"
        case "object":
            return "an object"
        case _:
            return None


def _between(least: float | None, most: float | None) -> str | None:
    if least is None:
        return None if most is None else f"at most {_plain(most)}"
    return f"at least {_plain(least)}" if most is None else f"{_plain(least)} to {_plain(most)}"


def _plain(bound: float) -> str:
    """1,000, not 1000.0, which is how the document has it."""
    return f"{int(bound):,}" if bound == int(bound) else f"{bound:,}"


def _known(around: Sequence[Schema]) -> str:
    names = ", ".join(name for each in around for name in each.get("properties", {}))
    return f"Only these fields are known: {names}." if names else "The body must be empty, or {}."


def _schema_of(document: Schema, operation: Schema, place: str, field: Sequence[str | int]) -> Schema | None:
    """The schema of a field, by its way from the body, or by its name in the path or query."""
    if place != "body":
        named = (each["schema"] for each in operation.get("parameters", ()) if each["name"] == field[0])
        return next(named, None)
    content = operation.get("requestBody", {}).get("content", {})
    found: Schema | None = content.get("application/json", {}).get("schema", {})
    for step in field:
        inside = None
        for each in alternatives(found or {}, document):
            inside = inside or (each.get("items") if isinstance(step, int) else each.get("properties", {}).get(step))
        found = inside
    return found


def alternatives(schema: Schema, document: Schema) -> list[Schema]:
    """What the schema may be, followed to its definition; without null, which is said by leaving a field out."""
    if "$ref" in schema:
        return alternatives(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    if "anyOf" in schema:
        return [found for each in schema["anyOf"] for found in alternatives(each, document)]
    return [] if schema.get("type") == "null" else [schema]
