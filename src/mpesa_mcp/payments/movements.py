"""Movements of money as Safaricom's side shows them: the lines of a statement, or of the simulator's ledger.

What a line says is material to compare with, never a fact about a payment: nothing here changes anything.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from mpesa_mcp.payments.states import PaymentKind
from mpesa_mcp.values import clean_foreign_text
from mpesa_mcp.values.msisdn import mask_digits

# 254712345678, +254712345678, 0712345678, and with stars for what is hidden: 2547******01.
_PHONE = re.compile(r"(?<![\w*])(?:\+?254|0)([17][\d*]{4,10})(?![\w*])")
_FEWEST_DIGITS = 6
_MAX_RAW_TEXT = 800


class Direction(StrEnum):
    """Which way money went, seen from the shortcode."""

    IN = "in"
    OUT = "out"

    @classmethod
    def of(cls, kind: PaymentKind) -> "Direction":
        return cls.OUT if kind.pays_out else cls.IN


class Nature(StrEnum):
    MOVEMENT = "movement"
    CHARGE = "charge"
    NOT_COMPLETED = "not_completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """One line. `cents` is above zero; `at` is when it was completed; `text` is what other people typed.

    `parties` are the phones the line shows, twelve digits each, some perhaps hidden by stars. `theirs` is the status
    in a word of ours.
    """

    nature: Nature
    theirs: str
    receipt: str
    direction: Direction
    cents: int
    at: datetime
    parties: tuple[str, ...] = ()
    text: str = ""
    line: int | None = None
    shortcode: str | None = None
    checkout_request_id: str | None = None
    originator_conversation_id: str | None = None

    @property
    def untrusted_text(self) -> str | None:
        """The text, fit for a field of this name: cleaned, and phones masked."""
        cleaned = clean_foreign_text(self.text)
        return cleaned and _PHONE.sub(_masked, cleaned)

    def shows(self, phone: str) -> bool:
        """Whether one of the parties can be this phone."""
        return any(_fits(party, phone) for party in self.parties)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where movements come from. `is_ledger`: everything up to `read_at` is in it.

    A file says itself what it covers: by its first and its last line.
    """

    movements: Iterable[Movement]
    is_ledger: bool
    read_at: datetime

    @property
    def name(self) -> str:
        """What a person calls it."""
        return "the simulator's ledger" if self.is_ledger else "the statement"


def phones_in(text: str) -> tuple[str, ...]:
    """The phones a text shows, each once; what hides too much to tell people apart is none."""
    shown = (_national(found) for found in _PHONE.finditer(text[:_MAX_RAW_TEXT]))
    told_apart = (phone for phone in shown if sum(ch.isdigit() for ch in phone) >= _FEWEST_DIGITS)
    return tuple(dict.fromkeys(phone for phone in told_apart if "*" in phone or len(phone) == 12))


def _national(found: re.Match[str]) -> str:
    return "254" + found[1]


def _masked(found: re.Match[str]) -> str:
    national = _national(found)
    return mask_digits(national) if national.isdigit() and len(national) == 12 else found[0]


def _fits(party: str, phone: str) -> bool:
    """Stars stand for any digits, and their number is not relied on."""
    if "*" not in party:
        return party == phone
    return phone.startswith(party.partition("*")[0]) and phone.endswith(party.rpartition("*")[2])
