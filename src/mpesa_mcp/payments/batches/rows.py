"""The rows of a batch: what a good one is, what is wrong with the others, and the digest of what would be paid. Pure.

Every row is looked at, and of each row every field: a person corrects a file once, not once for each mistake. What a
row says is never in the message of a problem; apart from it, cleaned and cut, it is.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from mpesa_mcp.errors import InputError
from mpesa_mcp.payments.requests import B2C_SHILLINGS, check_amount, check_reference, check_text, tidied
from mpesa_mcp.values import Kes, Msisdn, clean_foreign_text

Value = TypeVar("Value")
MOST_ROWS = 10_000
_NO_MORE = "The row has a field that there is not: a payment has phone, amount, reference and remarks, no more."
_LONGEST_READ = 40
_LONGEST_KEPT = 200
_A_PHONE = "phone must be given as text, for example 0712345678."
_AN_AMOUNT = f"amount must be a whole number of shillings from {B2C_SHILLINGS[0]} to {B2C_SHILLINGS[1]:,}."


@dataclass(frozen=True, slots=True)
class GivenRow:
    """A row as it came. `line` is its line in the file (a header is line 1), or its place in a list from 1.

    `amount` is in whole shillings where it is a number at all.
    """

    line: int
    phone: object
    amount: object
    reference: object
    remarks: object
    more: str = ""
    """What it has and a row does not have: names of fields; or, where cells are too many, all of them."""
    shifted: str = ""
    """How its cells are too many, in our own words: then nobody knows which of them is the amount."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row that can be paid."""

    line: int
    phone: Msisdn
    amount: Kes
    reference: str
    remarks: str


@dataclass(frozen=True, slots=True)
class RowProblem:
    """Why a row cannot be paid; `line` None is about all of them. `code` is for programs.

    `read` is what the row said there, cleaned and cut: foreign text, for whoever sent it and nobody else.
    """

    line: int | None
    field: str
    code: str
    message: str
    read: str | None = None
    is_limit: bool = False
    """Nothing is wrong with the row: the rules do not allow it, or not now."""

    @property
    def as_read(self) -> str:
        """The message with what was read."""
        if self.read is None:
            return self.message
        return f'{self.message} Read: "{self.read}".' if self.read else f"{self.message} It is empty."


@dataclass(slots=True)
class Checked:
    """What the look at the rows alone found. `amount` is of all rows given, None when one of them cannot be read."""

    count: int = 0
    cents: int | None = 0
    rows: list[Row] = field(default_factory=list)
    problems: list[RowProblem] = field(default_factory=list)

    def without(self, problems: Sequence[RowProblem]) -> "Checked":
        """The same, with more problems and without the rows they are about."""
        bad = {problem.line for problem in problems}
        rows = [row for row in self.rows if row.line not in bad]
        return Checked(self.count, self.cents, rows, sorted_problems([*self.problems, *problems]))

    @property
    def payable_cents(self) -> int:
        return sum(row.amount.cents for row in self.rows)


def check_rows(given: Iterable[GivenRow]) -> Checked:
    """Looks at every row by itself, and for the same recipient and amount twice."""
    found = Checked()
    first: dict[tuple[str, int], int] = {}
    for each in given:
        found.count += 1
        if each.shifted:
            found.cents = None
            found.problems.append(_problem(each.line, "row", "too_many_cells", each.shifted, each.more))
            continue
        problems = [_problem(each.line, "row", "unknown_field", _NO_MORE, each.more)] if each.more else []
        phone = _checked(problems, each, "phone", _phone)
        amount = _checked(problems, each, "amount", _amount)
        reference = _checked(problems, each, "reference", _reference)
        remarks = _checked(problems, each, "remarks", _remarks)
        if found.cents is not None:
            found.cents = None if amount is None else found.cents + amount.cents
        if phone is not None and amount is not None:
            before = first.setdefault((phone.digits, amount.cents), each.line)
            if before != each.line:
                message = f"The same phone and amount as line {before}. Leave one of the two out."
                problems.append(RowProblem(each.line, "phone", "duplicate", message))
        if problems or phone is None or amount is None or reference is None or remarks is None:
            found.problems += problems
        else:
            found.rows.append(Row(each.line, phone, amount, reference, remarks))
    return found


def totals_problems(checked: Checked, *, count: int | None, cents: int | None, skips: bool) -> list[RowProblem]:
    """Whether the rows are as many, and amount to as much, as the caller believes; None is not asked.

    They are all rows given; or, where some are left out on purpose, those that will be paid.
    """
    payable = (len(checked.rows), checked.payable_cents)
    if skips and count in {None, payable[0]} and cents in {None, payable[1]}:
        return []
    found = []
    if count is not None and count != checked.count:
        message = f"expected_count does not match: {checked.count:,} rows were given."
        found.append(RowProblem(None, "expected_count", "count_differs", message))
    if cents is not None and checked.cents is not None and cents != checked.cents:
        message = f"expected_total does not match: the rows given amount to KES {Kes(checked.cents)}."
        found.append(RowProblem(None, "expected_total", "total_differs", message))
    if cents is not None and checked.cents is None and (skips or cents < payable[1]):
        message = f"expected_total does not match: the rows that can be paid amount to KES {Kes(payable[1])}."
        found.append(RowProblem(None, "expected_total", "total_differs", message))
    return found


def given_cents(given: Iterable[GivenRow]) -> int | None:
    """What all rows amount to; None when the amount of one cannot be read."""
    try:
        return sum(_amount(None if each.shifted else each.amount).cents for each in given)
    except InputError:
        return None


def sorted_problems(problems: Iterable[RowProblem]) -> list[RowProblem]:
    """By line; what is about all rows comes first."""
    return sorted(problems, key=lambda problem: problem.line or 0)


def asked_sha256(given: Iterable[GivenRow]) -> str:
    """What the rows said, for telling one request from another under the same key."""
    hashed = hashlib.sha256()
    for each in given:
        for part in (each.phone, each.amount, each.reference, each.remarks):
            _add(hashed.update, tidied(part) if isinstance(part, str) else repr(part))
        if each.more:
            _add(hashed.update, each.more)
    return hashed.hexdigest()


def as_given(row: GivenRow) -> dict[str, str]:
    """What a row said, as text on one line each, cleaned and cut: enough to correct it by."""
    fields = {"phone": row.phone, "amount": row.amount, "reference": row.reference, "remarks": row.remarks}
    return {name: _text_of(said, limit=_LONGEST_KEPT) for name, said in fields.items()}


class BatchDigest:
    """SHA-256 over exactly what a batch pays, row by row, so that ten thousand rows need not be held at once."""

    def __init__(self, *, batch_id: str, environment: str, shortcode: str, purpose: str) -> None:
        self._hashed = hashlib.sha256()
        for part in ("batch", batch_id, environment, shortcode, purpose):
            _add(self._hashed.update, part)

    def add(self, *, line: int, phone: str, cents: int, reference: str, remarks: str) -> None:
        for part in (str(line), phone, str(cents), reference, remarks):
            _add(self._hashed.update, part)

    def hexdigest(self) -> str:
        return self._hashed.hexdigest()


def _add(update: Callable[[bytes], None], text: str) -> None:
    """With its length in front, so that no two lists of texts read alike."""
    content = text.encode("utf-8", "surrogatepass")
    update(str(len(content)).encode() + b":" + content)


def _checked(problems: list[RowProblem], row: GivenRow, name: str, check: Callable[[object], Value]) -> Value | None:
    try:
        return check(getattr(row, name))
    except InputError as refused:
        problems.append(_problem(row.line, name, f"bad_{name}", refused.message, getattr(row, name)))
        return None


def _problem(line: int, name: str, code: str, message: str, given: object) -> RowProblem:
    return RowProblem(line, name, code, message, _text_of(given, limit=_LONGEST_READ))


def _text_of(given: object, *, limit: int) -> str:
    return "" if given is None else clean_foreign_text(str(given), limit=limit) or ""


def _phone(given: object) -> Msisdn:
    if not isinstance(given, str):
        raise InputError(_A_PHONE, field="phone")
    return Msisdn.parse(given)


def _amount(given: object) -> Kes:
    if type(given) is not int or abs(given) > B2C_SHILLINGS[1]:  # true is an int, and no amount
        raise InputError(_AN_AMOUNT, field="amount")
    amount = Kes.from_shillings(given)
    check_amount(amount, B2C_SHILLINGS)
    return amount


def _reference(given: object) -> str:
    text = tidied(given) if isinstance(given, str) else ""
    check_reference(text)
    return text


def _remarks(given: object) -> str:
    text = tidied(given) if isinstance(given, str) else ""
    check_text("remarks", text, 2, 100)
    return text
