"""Reading the rows of a batch from a file: CSV as spreadsheets write it, or JSON. Nothing is judged here.

Lines are counted as a person sees them: the header of a CSV is line 1, a row is where it begins; the first row of a
JSON list is 1.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from mpesa_mcp.errors import InputError
from mpesa_mcp.payments.batches.rows import MOST_ROWS, GivenRow

MAX_FILE_BYTES = 4 << 20
COLUMNS = ("phone", "amount", "reference", "remarks")
# Whole shillings; what a spreadsheet adds to them is no other amount.
_WHOLE = re.compile(r"([0-9]{1,9})(?:\.0{1,2})?")
_MAX_CELL = 1_000
# Empty ones, and those within cells, among them.
_MOST_LINES = 5 * MOST_ROWS


class UnreadableFile(InputError):
    """It is no file of payments; the message says what is. Nothing was stored or sent."""

    code = "unreadable_file"


def rows_of_csv(content: bytes) -> Sequence[GivenRow]:
    """The rows of a CSV with a header that names phone, amount, reference and remarks; other columns are ignored.

    Commas or semicolons; UTF-8, with or without a mark. Empty lines are passed over. A row may end before the header
    does, or in empty cells; one with more cells than the header names is marked as such, for nobody knows what they
    are. Raises UnreadableFile.
    """
    text = _text_of(content)
    if max(text.count("\n"), text.count("\r")) > _MOST_LINES:
        raise UnreadableFile(f"The file has too many lines: a batch has at most {MOST_ROWS:,} payments.")
    header = text.lstrip().partition("\n")[0]
    delimiter = ";" if header.count(";") > header.count(",") else ","
    # Strictly: a quote that is never closed would swallow the rest of the file as one cell.
    lines = _numbered(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    filled = ((line, cells) for line, cells in lines if _filled(cells))
    _, header_cells = next(filled, (1, []))
    names = [name.strip().lower() for name in header_cells]
    if missing := [name for name in COLUMNS if names.count(name) != 1]:
        raise UnreadableFile(
            f"The first line must name the columns phone, amount, reference and remarks, each once; not found: "
            f"{', '.join(missing)}."
        )
    places, named = [names.index(name) for name in COLUMNS], _filled(names)
    return _bounded(_row(line, cells, places, named=named, delimiter=delimiter) for line, cells in filled)


def rows_of_json(content: bytes) -> Sequence[GivenRow]:
    """The rows of a JSON list of {phone, amount, reference, remarks}, or of an object with such a list as `payments`.

    Raises UnreadableFile.
    """
    try:
        read = json.loads(_text_of(content))
    except (ValueError, RecursionError):
        raise UnreadableFile("The file is no JSON.") from None
    listed = read.get("payments") if isinstance(read, dict) else read
    if not isinstance(listed, list):
        raise UnreadableFile("The file must hold a list of payments, or an object with such a list as payments.")
    return rows_of_list(listed)


def rows_of_list(listed: Sequence[object]) -> Sequence[GivenRow]:
    """The rows of a list, whose first is line 1. Raises UnreadableFile."""
    return _bounded(_row_of(line, each) for line, each in enumerate(listed, start=1))


def _numbered(lines: Any) -> Iterator[tuple[int, list[str]]]:
    """What a csv.reader reads, each with the line it begins in: a cell may have line breaks. Raises UnreadableFile."""
    begins = 1
    try:
        for cells in lines:
            yield begins, cells
            begins = lines.line_num + 1
    except csv.Error:
        raise UnreadableFile(f"The file is no CSV from line {begins} on; look for a quote there.") from None


def _row(line: int, cells: Sequence[str], places: Sequence[int], *, named: int, delimiter: str) -> GivenRow:
    phone, amount, reference, remarks = (cells[place][:_MAX_CELL] if place < len(cells) else "" for place in places)
    whole = _WHOLE.fullmatch(amount.strip())
    row = GivenRow(line, phone, int(whole[1]) if whole else amount, reference, remarks)
    if (count := _filled(cells)) <= named:
        return row
    mark = "semicolon" if delimiter == ";" else "comma"
    shifted = (
        f"{count} cells, but the header names {named}: is there a {mark} in the amount or the remarks? "
        "Put the cell in quotes."
    )
    return replace(row, more=delimiter.join(cells)[:_MAX_CELL], shifted=shifted)


def _filled(cells: Sequence[str]) -> int:
    """How many cells there are up to the last that says something: spreadsheets write empty ones behind it."""
    return max((place for place, cell in enumerate(cells, start=1) if cell.strip()), default=0)


def _row_of(line: int, given: object) -> GivenRow:
    row = given if isinstance(given, dict) else {}
    phone, amount, reference, remarks = (_plain(row.get(name)) for name in COLUMNS)
    more = ", ".join(name for name in row if name not in COLUMNS)[:_MAX_CELL]
    return GivenRow(line, phone, amount, reference, remarks, more)


def _plain(given: object) -> object:
    """What one cell could hold; None for lists and objects, which no field is and which may be of any size."""
    if isinstance(given, str):
        return given[:_MAX_CELL]
    return given if isinstance(given, int | float) else None


def _text_of(content: bytes) -> str:
    if len(content) > MAX_FILE_BYTES:
        raise UnreadableFile(f"The file is larger than {MAX_FILE_BYTES >> 20} MiB.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableFile("The file is not UTF-8. Save it as CSV UTF-8.") from None


def _bounded(rows: Iterator[GivenRow]) -> Sequence[GivenRow]:
    found: list[GivenRow] = []
    for row in rows:
        if len(found) == MOST_ROWS:
            raise UnreadableFile(f"A batch has at most {MOST_ROWS:,} payments. Make several.")
        found.append(row)
    if not found:
        raise UnreadableFile("There are no payments in it.")
    return found
