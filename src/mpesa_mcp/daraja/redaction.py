"""Takes our own secrets out of a body before it is stored. Pure.

A QueueTimeOut may echo our request, SecurityCredential and callback addresses included, and an error may echo the
access token (quirk 28, daraja/security.md §4). The body need not be JSON, and it stays as it came in every other
character, because it is read again later. Everything here takes time linear in the body's length.
"""

import json
import re
from typing import Final

_GONE: Final = "…"
_NAMES: Final = (
    "securitycredential|initiatorpassword|initiatorname|initiator|password|passkey|"
    "access_?token|authorization|consumer_?key|consumer_?secret"
)
_SECRET_NAME = re.compile(_NAMES, re.IGNORECASE)
# What names and carries a value in Daraja's lists: {"Key": "SecurityCredential", "Value": "..."}.
_NAMING: Final = frozenset({"key", "name"})

# A JSON string, closed or running to the end; possessive, so that no input makes the search go back.
_STRING = re.compile(r'"((?:[^"\\]|\\.|\\\Z)*+)(?:"|\Z)', re.DOTALL)
_BARE_VALUE = re.compile(r"\A(\s*+:\s*+)[^\s\"{}\[\],]++")

_SCHEME = re.compile(r"(?P<scheme>\b(?:bearer|basic)\s{1,8}+)[\w.~+/=\-]{8,}+", re.IGNORECASE)
# In prose, in broken JSON, in forms and in XML.
_LOOSE = re.compile(
    rf"(?P<name>\b(?:{_NAMES})\b\\?[\"']?\s{{0,8}}+[=:>]\s{{0,8}}+\\?[\"']?)"
    r"(?:(?:bearer|basic)\s{1,8}+)?[^\s\"'<>&,;{}\[\]\\]++",
    re.IGNORECASE,
)
_CALLBACK_PATH = re.compile(r"(?P<cb>(?:\\?/|%2f)cb(?:\\?/|%2f))(?:[^\s\"'<>\\]|\\/)++", re.IGNORECASE)
_ECHOED_TOKEN = re.compile(r"(?P<prose>invalid access token\s{0,8}+-\s{0,8}+)[A-Za-z0-9]{16,}+", re.IGNORECASE)
# Longer than any id: a SecurityCredential has 344 characters of base64, an STK Password over 100.
_LONG_BASE64 = re.compile(r"(?:[A-Za-z0-9+=]|\\?/){96,}+")


# Everything that a pattern here must contain to match, as it stands in a body of plain ASCII without escapes.
_TRACES: Final = (
    *(b"credential", b"initiator", b"passw", b"passkey", b"token", b"authorization", b"consumer"),
    *(b"bearer", b"basic", b"/cb", b"2fcb", b"\\", b"\x00"),
)
_BASE64_AS_X: Final = bytes(
    ord("x") if chr(byte) in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=" else ord(" ")
    for byte in range(256)
)


def is_plain(raw: bytes) -> bool:
    """Whether `redact` would surely give the body back as it is; microseconds for what `redact` takes a hundred times.

    Most bodies are plain: Safaricom's results hold no secret of ours.
    """
    lowered = raw.lower()
    return (
        raw.isascii()
        and not any(trace in lowered for trace in _TRACES)
        and b"x" * 96 not in raw.translate(_BASE64_AS_X)
    )


def redact(raw: bytes) -> str:
    """The body as text that is safe to store: secrets become `…`, our callback paths `/cb/…`.

    Idempotent, never raises. Bytes that are no UTF-8, and NUL, become U+FFFD: such a body cannot be read anyway.
    """
    text = _redact_strings(raw.decode("utf-8", "replace").replace("\x00", "�"))
    return text if _is_json(text) else _scrub(text)


def _redact_strings(text: str) -> str:
    """Goes through the strings of the body, so that escapes hide nothing and a secret may contain any character."""
    out: list[str] = []
    position = 0
    naming = False  # the string just read was "Key" or "Name"
    secret_next = False  # the string just read names a secret
    secret_pair = False  # we are in {"Key": "SecurityCredential", ...}
    for match in _STRING.finditer(text):
        between = text[position : match.start()]
        position = match.end()
        value = _decoded(match)
        is_value = between.strip() == ":"
        if "}" in between:
            secret_pair = False
        out.append(_BARE_VALUE.sub(rf'\1"{_GONE}"', between) if secret_next and not is_value else between)
        out.append(f'"{_GONE}"' if is_value and secret_next else _rewritten(match, value))
        if is_value:
            secret_pair = _is_secret(value) if naming else secret_pair
            naming = secret_next = False
        else:
            naming = value.strip().lower() in _NAMING
            secret_next = _is_secret(value) or (secret_pair and value.strip().lower() == "value")
    tail = text[position:]
    out.append(_BARE_VALUE.sub(rf'\1"{_GONE}"', tail) if secret_next else tail)
    return "".join(out)


def _rewritten(match: re.Match[str], value: str) -> str:
    scrubbed = _scrub(value)
    if scrubbed == value:
        return match.group()  # only a changed string is written anew; the others keep their escapes
    # Half a surrogate pair, harmless as an escape, could not be stored as a character.
    return json.dumps(scrubbed.encode("utf-8", "replace").decode(), ensure_ascii=False)


def _decoded(match: re.Match[str]) -> str:
    try:
        value: object = json.loads(match.group(), strict=False)
    except ValueError:
        return match.group(1)
    return value if isinstance(value, str) else match.group(1)


def _is_secret(name: str) -> bool:
    return _SECRET_NAME.fullmatch(name.strip()) is not None


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


def _scrub(text: str) -> str:
    text = _SCHEME.sub(rf"\g<scheme>{_GONE}", text)
    text = _LOOSE.sub(rf"\g<name>{_GONE}", text)
    text = _CALLBACK_PATH.sub(rf"\g<cb>{_GONE}", text)
    text = _ECHOED_TOKEN.sub(rf"\g<prose>{_GONE}", text)
    return _LONG_BASE64.sub(_GONE, text)
