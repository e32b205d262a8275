"""Comparing bodies by their shape: keys, order of items and kinds of values, whatever the values are."""

from typing import Any


def shape(value: Any) -> Any:
    """Numbers are one kind, strings another; items of Daraja's lists keep their names and whether they have a value."""
    if isinstance(value, dict):
        name = value.get("Key", value.get("Name"))
        if isinstance(name, str):
            return (name, shape(value["Value"]) if "Value" in value else "no value")
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    if isinstance(value, bool) or value is None:
        return repr(value)
    return "number" if isinstance(value, int | float) else "text"
