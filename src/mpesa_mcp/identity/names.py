"""What people may call things."""

import re

from mpesa_mcp.errors import InputError

MAX_NAME = 80
_REASON_CHARACTERS = (3, 200)
_SLUG = re.compile(r"[a-z][a-z0-9-]{1,39}")


def checked_name(text: str, *, field: str = "name") -> str:
    """The name without outer spaces: 1 to 80 visible characters. Raises InputError."""
    name = text.strip()
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise InputError(f"{field} must be 1 to {MAX_NAME} visible characters.", field=field)
    return name


def checked_slug(text: str) -> str:
    """The slug as given. Raises InputError."""
    if not _SLUG.fullmatch(text):
        raise InputError("slug must be 2 to 40 of a-z, 0-9 and dash, and begin with a letter.", field="slug")
    return text


def checked_reason(reason: str) -> str:
    """A person's words for the audit, without outer spaces. Raises InputError."""
    least, most = _REASON_CHARACTERS
    text = reason.strip()
    if not least <= len(text) <= most or not text.isprintable():
        raise InputError(f"reason must be {least} to {most} printable characters on one line.", field="reason")
    return text
