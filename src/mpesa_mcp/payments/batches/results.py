"""The result of a batch as a CSV that can be opened in a spreadsheet: one line for each row, in the order of the file.

Phone numbers are masked: who has the file finds a row by its line. Of a rejected row the cells are what it said, so
that it can be corrected: a phone that cannot be read is shown as it came. A cell that a spreadsheet would take for a
formula has an apostrophe in front; some of them come from whoever received the money.
"""

import csv
import io
import re
from collections.abc import AsyncIterator, Iterable

from mpesa_mcp.payments.batches.reading import BatchRecord, LineRecord, lines_of
from mpesa_mcp.payments.core import Core
from mpesa_mcp.values import Msisdn

COLUMNS = (
    "line",
    "outcome",
    "phone",
    "amount",
    "reference",
    "remarks",
    "payment_id",
    "receipt",
    "result_code",
    "reason",
    "untrusted_text",
)
# Where a cell begins: also after what parts cells elsewhere, for a spreadsheet may open this file with semicolons, and
# then a quote in the middle holds nothing together. What makes a formula there, full width too, blanks in front or not.
_FORMULA = re.compile(r'(^|[;|\t\r\n])(?=[\s"]*[=+\-@\uff1d\uff0b\uff0d\uff20])|^(?=[\t\r\n])')


async def result_csv(core: Core, batch: BatchRecord) -> AsyncIterator[bytes]:
    """The file, some hundred lines at a time."""
    yield _written([COLUMNS])
    async for lines in lines_of(core, batch):
        yield _written(cells(line).values() for line in lines)


def guarded(cell: object) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = "" if cell is None else str(cell)
    return _FORMULA.sub(r"\1'", text)


def cells(line: LineRecord) -> dict[str, object]:
    """One row, by column."""
    phone = line.said_phone
    shown = {
        "outcome": line.outcome.value,
        "phone": phone.masked if isinstance(phone, Msisdn) else phone,
        "amount": line.said_amount,
    }
    return {name: shown.get(name, getattr(line, name)) for name in COLUMNS}


def _written(rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([guarded(cell) for cell in row] for row in rows)
    return text.getvalue().encode()
