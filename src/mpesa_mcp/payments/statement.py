"""Reads a statement exported from the M-PESA portal as CSV, line by line.

A real export has lines before its header, a byte order mark, "1,000.00", negative withdrawals, empty cells, charges
under the receipt of the payment they belong to, failed lines, and a total at the end. What cannot be read stops the
reading and names its line, never its content. Cells are text: nothing in them is evaluated.
"""

import codecs
import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TextIO

from mpesa_mcp.errors import InputError
from mpesa_mcp.payments.movements import Direction, Movement, Nature, phones_in
from mpesa_mcp.values import Kes

_COLUMNS = ("Receipt No.", "Completion Time", "Details", "Transaction Status", "Paid In", "Withdrawn")
_OTHER_PARTY = "Other Party Info"
_DELIMITERS = (",", ";", "\t")
_LINES_BEFORE_HEADER = 100
_CHUNK_BYTES = 1 << 20
# No daylight saving time: a fixed offset reads a hundred thousand lines faster than a zone does.
_NAIROBI = timezone(timedelta(hours=3))

_RECEIPT = re.compile(r"[A-Z0-9]{6,20}")
_YEAR_FIRST = re.compile(r"(\d{4})[-/](\d\d?)[-/](\d\d?)[ T]+(\d\d?):(\d\d)(?::(\d\d))?")
_DAY_FIRST = re.compile(r"(\d\d?)[-/](\d\d?)[-/](\d{4})[ T]+(\d\d?):(\d\d)(?::(\d\d))?")
# Two decimals at most: 1.500 could be fifteen hundred, or one and a half.
_AMOUNT = re.compile(r"-?(\d{1,13}|\d{1,3}(,\d{3})+)(\.\d{1,2})?")
# A charge says so in the words that come before whatever a person typed: no name and no number stands before it.
_CHARGE = re.compile(r"\b(charges?|fees?)\b", re.IGNORECASE)
_TYPED_BY_PEOPLE = re.compile(r"\d{4,}| - |[,:*]")
_SHORTCODE_LABEL = re.compile(r"short ?code", re.IGNORECASE)
_SHORTCODE = re.compile(r"(?<!\d)\d{5,7}(?!\d)")
# Every status the portal has, in our own words; what is none of them is not repeated.
_STATUSES = frozenset({"completed", "failed", "declined", "cancelled", "expired", "pending", "authorized", "initiated"})


class UnreadableStatement(InputError):
    """The file is no statement, or a line of it cannot be read. Nothing was compared or changed."""

    code = "unreadable_statement"

    def __init__(self, why: str, *, line: int | None = None) -> None:
        where = "The statement cannot be used: " if line is None else f"Line {line} of the statement cannot be read: "
        super().__init__(where + why, field="statement")
        self.line = line


@dataclass(frozen=True, slots=True)
class Statement:
    """An opened statement. `shortcode` is whose it says it is, if it does; `movements` can be read once."""

    shortcode: str | None
    movements: Iterator[Movement]


@dataclass(slots=True)
class _Lines:
    """The records of a CSV file, and the line on which the latest of them began."""

    file: TextIO
    delimiter: str = ","
    line: int = 0

    def __iter__(self) -> Iterator[list[str]]:
        records = csv.reader(self.file, strict=True, delimiter=self.delimiter)
        while True:
            self.line = records.line_num + 1
            try:
                record = next(records)
            except StopIteration:
                return
            except csv.Error:
                raise UnreadableStatement("its quotes or its length are not those of CSV.", line=self.line) from None
            yield [cell.strip() for cell in record]


def open_statement(path: Path) -> Statement:
    """Opens a statement and reads up to its header. Raises UnreadableStatement, also while its lines are read."""
    movements = _movements(path)
    first = next(movements)
    assert not isinstance(first, Movement)
    return Statement(first.shortcode, (each for each in movements if isinstance(each, Movement)))


@dataclass(frozen=True, slots=True)
class _Header:
    places: Mapping[str, int]
    cells: Sequence[str]
    shortcode: str | None


def _movements(path: Path) -> Iterator["Movement | _Header"]:
    try:
        if path.exists() and not path.is_file():
            raise UnreadableStatement("it is a directory or a device, not a file.")
        encoding = _encoding(path)
        with path.open(encoding=encoding, newline="") as file:
            lines = _Lines(file, _delimiter(file))
            records = iter(lines)
            header = _header(records)
            yield header
            for record in records:
                if record == header.cells:
                    continue  # two exports in one file
                movement = _movement(header, record, lines.line)
                if movement is not None:
                    yield movement
    except FileNotFoundError:
        raise UnreadableStatement("there is no such file.") from None
    except OSError:
        raise UnreadableStatement("the file cannot be read.") from None


def _delimiter(file: TextIO) -> str:
    """A comma, or what a spreadsheet set to another country writes; the file is at its beginning again."""
    header = next((line for _, line in zip(range(_LINES_BEFORE_HEADER), file, strict=False) if _is_header(line)), "")
    file.seek(0)
    return max(_DELIMITERS, key=header.count)


def _is_header(line: str) -> bool:
    return _COLUMNS[0].lower() in line.lower()


def _encoding(path: Path) -> str:
    """UTF-8 if all of it is, else Latin-1, which Excel writes. Raises UnreadableStatement for what is no text."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    encoding = "utf-8-sig"
    with path.open("rb") as file:
        chunk = file.read(_CHUNK_BYTES)
        if not chunk.strip():
            raise UnreadableStatement("it is empty.")
        if chunk.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"%PDF")):
            raise UnreadableStatement("it is a spreadsheet or a PDF; export it from the portal as CSV.")
        while chunk:
            if b"\x00" in chunk:
                raise UnreadableStatement("it is not CSV but binary; export it from the portal as CSV.")
            if encoding != "latin-1" and not _continues(decoder, chunk):
                encoding = "latin-1"
            chunk = file.read(_CHUNK_BYTES)
        if encoding != "latin-1" and not _continues(decoder, b"", final=True):
            encoding = "latin-1"
    return encoding


def _continues(decoder: codecs.IncrementalDecoder, chunk: bytes, *, final: bool = False) -> bool:
    try:
        decoder.decode(chunk, final)
    except UnicodeDecodeError:
        return False
    return True


def _header(records: Iterator[list[str]]) -> _Header:
    """The line that names the columns, and the shortcode named before it."""
    wanted = {_plain(name): name for name in (*_COLUMNS, _OTHER_PARTY)}
    shortcode = None
    closest: set[str] = set()
    for _, record in zip(range(_LINES_BEFORE_HEADER), records, strict=False):
        places: dict[str, int] = {}
        for place, cell in enumerate(record):
            if (name := wanted.get(_plain(cell))) is not None:
                places.setdefault(name, place)
        if all(name in places for name in _COLUMNS):
            return _Header(places, record, shortcode)
        closest = max(closest, set(places), key=len)
        shortcode = shortcode or _stated_shortcode(record)
    if not closest:
        raise UnreadableStatement(f"no line names its columns, which are {', '.join(_COLUMNS)}.")
    missing = ", ".join(name for name in _COLUMNS if name not in closest)
    plural = "column" if missing.count(",") == 0 else "columns"
    raise UnreadableStatement(f"it lacks the {plural} {missing}.")


def _plain(cell: str) -> str:
    return " ".join(re.sub(r"[^a-z ]", " ", cell.lower()).split())


def _stated_shortcode(record: Sequence[str]) -> str | None:
    """From a line such as `Short Code:,600000`."""
    for place, cell in enumerate(record):
        if _SHORTCODE_LABEL.search(cell):
            found = _SHORTCODE.search(" ".join(record[place : place + 2]))
            return found[0] if found else None
    return None


def _movement(header: _Header, record: Sequence[str], line: int) -> Movement | None:
    """None for lines that tell of no movement: empty ones, totals, notes, and those without an amount."""

    def cell(name: str) -> str:
        place = header.places.get(name)
        return record[place] if place is not None and place < len(record) else ""

    receipt, completed_at = cell("Receipt No.").upper(), cell("Completion Time")
    has_receipt = _RECEIPT.fullmatch(receipt) is not None and any(ch.isdigit() for ch in receipt)
    if not has_receipt and not any(ch.isdigit() for ch in completed_at):
        return None
    if any(record[len(header.cells) :]):
        raise UnreadableStatement("it has more cells than there are columns.", line=line)
    at = _moment(completed_at, line)
    if not has_receipt:
        raise UnreadableStatement("it has no receipt that looks like one.", line=line)
    paid_in = _cents(cell("Paid In"), "Paid In", line)
    withdrawn = _cents(cell("Withdrawn"), "Withdrawn", line)
    if paid_in and withdrawn:
        raise UnreadableStatement("it has an amount in both Paid In and Withdrawn.", line=line)
    status = cell("Transaction Status").lower()
    nature = Nature.MOVEMENT if status == "completed" else Nature.NOT_COMPLETED
    if not paid_in and not withdrawn and nature is Nature.MOVEMENT:
        return None
    details, other_party = cell("Details"), cell(_OTHER_PARTY)
    # A withdrawal is shown with a minus or without; a negative payment in is money that was taken back.
    direction = Direction.IN if paid_in > 0 else Direction.OUT
    if nature is Nature.MOVEMENT and direction is Direction.OUT and _is_charge(details):
        nature = Nature.CHARGE
    return Movement(
        nature=nature,
        theirs=status if status in _STATUSES else "other",
        receipt=receipt,
        direction=direction,
        cents=abs(paid_in or withdrawn),
        at=at,
        parties=phones_in(other_party or details),
        text=" ".join((details, other_party)) if other_party else details,
        line=line,
    )


def _is_charge(details: str) -> bool:
    return _CHARGE.search(_TYPED_BY_PEOPLE.split(details, maxsplit=1)[0]) is not None


def _moment(text: str, line: int) -> datetime:
    """A time in Nairobi, year or day first, as UTC."""
    if (found := _YEAR_FIRST.fullmatch(text)) is not None:
        year, month, day = found[1], found[2], found[3]
    elif (found := _DAY_FIRST.fullmatch(text)) is not None:
        day, month, year = found[1], found[2], found[3]
    else:
        raise UnreadableStatement(
            "its Completion Time is not written like 16-11-2026 08:30:00 or 2026-11-16 08:30:00. A spreadsheet that "
            "saves the file may change it: take the file as the portal exported it.",
            line=line,
        )
    try:
        local = datetime(
            int(year), int(month), int(day), int(found[4]), int(found[5]), int(found[6] or 0), tzinfo=_NAIROBI
        )
        return local.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UnreadableStatement("its Completion Time is no time there is.", line=line) from None


def _cents(text: str, column: str, line: int) -> int:
    """Cents, with the sign as written; an empty cell or a dash is nothing."""
    if text in {"", "-"}:
        return 0
    if _AMOUNT.fullmatch(text):
        with suppress(InputError):
            return Kes.from_decimal(text.replace(",", "")).cents
    raise UnreadableStatement(f"its {column} is not an amount such as 1,500.00.", line=line)
