"""Strict reading of JSON that came over the network.

Numbers keep the text they were written with, so no float ever touches money and `0`, `-0` and `0.0` stay apart.
Whatever could be read in two ways (a key twice in one object, NaN, another encoding than UTF-8) is refused.
"""

import json
import re
from typing import Final, NoReturn

from mpesa_mcp.errors import InputError

# Daraja's bodies stay under 4 KB; the callback path takes no more than this (daraja/security.md §5).
MAX_BODY_BYTES: Final = 64 * 1024

# Ids are opaque and their formats drift (daraja/api.md "Identifier formats"), but they are short and printable.
_ID = re.compile(r"[!-~]{1,80}")
MAX_CODE: Final = 64
_CODE = re.compile(rf"[A-Za-z0-9_.\-]{{1,{MAX_CODE}}}")
_WHOLE = re.compile(r"-?[0-9]+")
_MAX_PROSE: Final = 1024


class Malformed(InputError, ValueError):
    """A body that cannot be read, or that could be read in two ways. It proves nothing, least of all success."""

    code = "malformed"

    def __init__(self, what: str) -> None:
        super().__init__(f"The message from Safaricom is malformed: {what}.")


class Number(str):
    """A JSON number, as the text it was written with."""

    __slots__ = ()


def read_object(raw: bytes) -> dict[str, object]:
    """The JSON object in `raw`: UTF-8 with or without a byte order mark. Raises Malformed."""
    if len(raw) > MAX_BODY_BYTES:
        raise Malformed("it is too large")
    try:
        text = raw.decode("utf-8-sig")
        value: object = json.loads(
            text, parse_int=Number, parse_float=Number, parse_constant=_constant, object_pairs_hook=_object
        )
    except Malformed:
        raise
    except (ValueError, RecursionError) as unreadable:
        raise Malformed("it is not readable JSON") from unreadable
    if not isinstance(value, dict):
        raise Malformed("it is not a JSON object")
    return value


def object_at(parent: dict[str, object], key: str) -> dict[str, object]:
    """The object under `key`. Raises Malformed when it is absent or something else."""
    value = parent.get(key)
    if not isinstance(value, dict):
        raise Malformed(f"{key} is missing")
    return value


def code_at(parent: dict[str, object], key: str) -> str:
    """A code as a stripped string, whether it was written `0` or `"0"` (quirk 13).

    Raises Malformed when it is absent, null, boolean, fractional, empty, a list or an object: never success.
    """
    value = parent.get(key)
    if not isinstance(value, str):
        raise Malformed(f"{key} is missing or not a code")
    if isinstance(value, Number) and not _WHOLE.fullmatch(value):
        raise Malformed(f"{key} is not a whole number")
    code = str(value).strip()
    if not _CODE.fullmatch(code):
        raise Malformed(f"{key} is not a code")
    return code


def id_at(parent: dict[str, object], *keys: str) -> str | None:
    """The first id present under one of `keys`; null and empty count as absent. Raises Malformed for non-ids."""
    for key in keys:
        value = parent.get(key)
        if value is None or value == "":
            continue
        found = as_id(value) if isinstance(value, str) else None
        if found is None:
            raise Malformed(f"{key} is not an id")
        return found
    return None


def as_id(text: str | None) -> str | None:
    stripped = str(text or "").strip()
    return stripped if _ID.fullmatch(stripped) else None


def text_at(parent: dict[str, object], key: str) -> str:
    """Foreign prose, capped; empty when absent. Lone surrogates and NUL go, because no database stores them."""
    value = parent.get(key)
    return storable(value)[:_MAX_PROSE] if isinstance(value, str) else ""


def storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise Malformed("an object names one key twice")
    return result


def _constant(_: str) -> NoReturn:
    raise Malformed("it contains a number that is none")
