"""Daraja's lists of named values, and how single values are read.

Names are matched by spelling, never by position (quirks 15 and 38); the list stays a list, because a name may come
twice (quirk 30). A value that cannot be read is None, never a guess.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final, Self

from mpesa_mcp.daraja.bodies import Malformed, storable
from mpesa_mcp.errors import InputError
from mpesa_mcp.values import EAT, Kes

# Spellings seen for one and the same thing (quirk 31), after case, spaces and punctuation are ignored.
_SAME_NAME: Final = {
    "occassion": "occasion",
    "originatorcoversationid": "originatorconversationid",
    "finalizedtime": "finalisedtime",
    "debitaccountcurrentbalance": "debitaccountbalance",
}

_NOT_ALNUM = re.compile(r"[^a-z0-9]")
# A double of ten million may be written 1.0E7; more digits than money has are refused.
_EXPONENT = re.compile(r"-?[0-9]{1,13}(\.[0-9]{1,13})?[eE]\+?[0-9]{1,2}")
_BRACES_CENTS = re.compile(r"\{.{0,80}?\bMinimumAmount\s*=\s*(-?[0-9]{1,15})\b.{0,80}\}", re.DOTALL)
_COMPACT_TIME = re.compile(r"(20[0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})")
_DOTTED_TIME = re.compile(r"([0-9]{2})\.([0-9]{2})\.(20[0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})")
_RECEIPT = re.compile(r"[A-Z0-9]{8,20}")
# Year, month and day letters, then only zeros: what Daraja writes where there is no receipt (quirk 34).
_PLACEHOLDER = re.compile(r"[A-Z][A-L][1-9A-V]0{7}")
_PHONE = re.compile(r"(?:\+?254|0)?([17][0-9]{8})")
# Hyphen, non-breaking hyphen, figure dash, en dash, em dash.
_PARTY = re.compile(r"([^\-\u2010-\u2014]{1,40}?)\s*[\-\u2010-\u2014]\s*(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Parameters:
    """Named values in the order they came. A value is its text; None where it was absent, empty or no plain value."""

    pairs: tuple[tuple[str, str | None], ...] = ()

    @classmethod
    def read(cls, container: object, *, item: str, name: str = "Key") -> Self:
        """Reads `{item: [...]}`, `{item: {...}}` for a single one, or nothing at all (quirk 29). Raises Malformed."""
        if isinstance(container, dict):
            container = container.get(item)
        if container is None or container == "":
            return cls()
        items = container if isinstance(container, list) else [container]
        return cls(tuple(_pair(entry, name) for entry in items))

    def first(self, *names: str) -> str | None:
        """The first value that one of `names` has."""
        return next(iter(self.all(*names)), None)

    def all(self, *names: str) -> tuple[str, ...]:
        """Every value those names have, in order."""
        wanted = {_canonical(name) for name in names}
        return tuple(value for name, value in self.pairs if value is not None and _canonical(name) in wanted)

    def only(self, *names: str) -> str | None:
        """The value of something that can have one only. Raises Malformed when two differ: which would be true?"""
        values = set(self.all(*names))
        if len(values) > 1:
            raise Malformed(f"{names[0]} has two different values")
        return values.pop() if values else None


@dataclass(frozen=True, slots=True)
class Party:
    """One side of a movement as Daraja prints it: `2547… - NAME`, `07… - Name`, `600100 - ORG` (quirk 35).

    `number` is the shortcode or, normalised to twelve digits, the phone; `name` and `raw` are foreign text.
    """

    raw: str
    number: str | None
    name: str | None

    @classmethod
    def read(cls, text: str | None) -> Self | None:
        if text is None:
            return None
        match = _PARTY.fullmatch(text.strip())
        number, name = (match.group(1), match.group(2)) if match else (text, "")
        number = number.strip()
        digits = read_phone(number) or (number if re.fullmatch(r"[0-9]{5,7}", number) else None)
        if match is None and digits is None:
            name = text
        return cls(raw=text, number=digits, name=" ".join(name.split()) or None)

    @property
    def phone(self) -> str | None:
        return self.number if self.number is not None and len(self.number) == 12 else None

    def __repr__(self) -> str:
        return "Party(…)"


def read_money(text: str | None) -> Kes | None:
    """`10`, `10.00`, `1.0E7`, or `{Amount={… MinimumAmount=618683 …}}`, whose minimum is cents (quirks 16 and 37)."""
    if text is None:
        return None
    try:
        if _EXPONENT.fullmatch(text):
            return Kes.from_decimal(f"{Decimal(text):f}")
        if braces := _BRACES_CENTS.fullmatch(text.strip()):
            return Kes(int(braces.group(1)))
        return Kes.from_decimal(text)
    except InputError:
        return None


def read_time(text: str | None) -> datetime | None:
    """A clock string of Nairobi, `20240706224852` or `06.07.2024 22:48:52`, as UTC (daraja/api.md §0)."""
    if text is None:
        return None
    if compact := _COMPACT_TIME.fullmatch(text):
        year, month, day, hour, minute, second = (int(part) for part in compact.groups())
    elif dotted := _DOTTED_TIME.fullmatch(text):
        day, month, year, hour, minute, second = (int(part) for part in dotted.groups())
    else:
        return None
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=EAT).astimezone(UTC)
    except ValueError:
        return None


def read_receipt(text: str | None) -> str | None:
    """M-Pesa's id of a movement, in upper case; a placeholder like OAK0000000 is none (quirk 34)."""
    if text is None:
        return None
    receipt = text.strip().upper()
    if not _RECEIPT.fullmatch(receipt) or _PLACEHOLDER.fullmatch(receipt):
        return None
    return receipt


def read_phone(text: str | None) -> str | None:
    """Twelve digits, or None for masked, hashed and other numbers."""
    match = _PHONE.fullmatch(text.strip()) if text is not None else None
    return "254" + match.group(1) if match else None


def _pair(entry: object, name: str) -> tuple[str, str | None]:
    if not isinstance(entry, dict):
        raise Malformed("a parameter is not an object")
    key = entry.get(name)
    if not isinstance(key, str):
        raise Malformed("a parameter has no name")
    value = entry.get("Value")
    text = storable(value).strip() if isinstance(value, str) else ""
    return storable(key), text or None


@lru_cache(maxsize=256)
def _canonical(name: str) -> str:
    bare = _NOT_ALNUM.sub("", name.lower())
    return _SAME_NAME.get(bare, bare)
