"""What the documentation shows: one example of each shape, written beside it, all of it invented.

An answer's example says what its shape does not: what it leaves out is the example of the answer inside, the default,
or null.
"""

from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, ConfigDict, JsonValue

from mpesa_mcp.api.validation import Schema, alternatives

ORGANIZATION: Final = "org_01kb0c3v5nq4m2tq6y8hzt7w1e"
JANE: Final = "usr_01kb0c4a7f2e9d6xk3m5q8r0vb"
# Somebody of the platform.
ROOT: Final = "usr_01kaz0s7v3b5k8q1gt4y6w9m2c"
JANES_ADDRESS: Final = "jane@acme.example"
KEY: Final = "key_01kb0c5d1h8n4s7yw2z6t9p3gj"
PAYMENT: Final = "pay_01kb0d2k6r3v9x4bq7f1m8c5na"
BATCH: Final = "bat_01kb0d3n8t5w1y6ds9h2p4e7qc"
APPROVAL: Final = "apr_01kb0d4q0v7x3z8fv1k4r6g9se"
DIGEST: Final = "9f2c6a1d0e5b48379f2c6a1d0e5b48379f2c6a1d0e5b48379f2c6a1d0e5b4837"
# A morning in Nairobi, some seconds later, the next day, and the afternoon before.
AT: Final = "2026-11-25T08:30:00Z"
SOON: Final = "2026-11-25T08:30:04Z"
NEXT_DAY: Final = "2026-11-26T08:30:00Z"
DAY_BEFORE: Final = "2026-11-24T14:05:00Z"


def example(**fields: JsonValue) -> ConfigDict:
    """The configuration of a shape with this example."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


def example_of(shape: type[BaseModel]) -> dict[str, JsonValue]:
    """The whole example: what is written beside the shape and its bases, and what follows from its fields."""
    written: dict[str, JsonValue] = {}
    for base in reversed(shape.__mro__):
        extra = getattr(base, "model_config", {}).get("json_schema_extra", {})
        written |= extra.get("examples", [{}])[0]
    return {
        name: _inside(field.annotation) if field.is_required() or field.default is None else field.default
        for name, field in shape.model_fields.items()
    } | written


def in_full(document: dict[str, Any]) -> dict[str, Any]:
    """The document with its examples as they are answered: FastAPI leaves nulls out, and sorts by name."""
    for schema in document["components"]["schemas"].values():
        if "examples" in schema:
            schema["examples"] = [_in_full(each, schema, document) for each in schema["examples"]]
    return document


def _in_full(shown: JsonValue, schema: Schema, document: Schema) -> JsonValue:
    for each in alternatives(schema, document):
        if isinstance(shown, list) and "items" in each:
            return [_in_full(item, each["items"], document) for item in shown]
        if isinstance(shown, dict) and "properties" in each:
            known = {
                name: _in_full(shown.get(name), inside, document)
                for name, inside in each["properties"].items()
                if name in shown or name in each.get("required", ())
            }
            return known | {name: shown[name] for name in shown if name not in known}
    return shown


def _inside(annotation: Any) -> JsonValue:
    """The example of a shape, or a list of one, where the type has such; else null."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return example_of(annotation)
    found = next((inside for each in get_args(annotation) if (inside := _inside(each)) is not None), None)
    return [found] if found is not None and get_origin(annotation) is list else found
