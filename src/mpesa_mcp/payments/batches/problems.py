"""Rows that cannot be paid, as they are told: short, by line, what is identical in neighbouring lines as one. Pure.

What a file said is repeated only to whoever reads the refusal of a command or of the REST interface
(`errors_as_read`): the message and `errors` are our own words alone, fit for a model.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mpesa_mcp.errors import Advice, InputError
from mpesa_mcp.payments.batches.rows import RowProblem

# Problems that the message itself tells.
_TOLD = 5
_LIMITED = (
    "Rows that only exceed a limit are right as they are, and without them those people stay unpaid: an org_admin can "
    "change the rule, or they are paid when the limit has room again."
)


@dataclass(frozen=True, slots=True)
class Told:
    """One problem of the lines from `first` to `last`; None is about all rows."""

    first: int | None
    last: int | None
    field: str
    message: str

    @property
    def lines(self) -> str:
        """ "79" or "79-502"; empty for what is about all rows."""
        if self.first is None:
            return ""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    def __str__(self) -> str:
        if self.first is None:
            return self.message
        return f"{'line' if self.first == self.last else 'lines'} {self.lines}: {self.message}"


def together(problems: Iterable[RowProblem], *, as_read: bool = False) -> list[Told]:
    """The problems, sorted by line, with identical ones of neighbouring lines as one, in the order of their first."""
    found: list[Told] = []
    newest: dict[tuple[str, str], int] = {}
    for each in problems:
        message = each.as_read if as_read else each.message
        before = newest.get((each.field, message))
        if before is not None and each.line is not None and found[before].last == each.line - 1:
            found[before] = Told(found[before].first, each.line, each.field, message)
            continue
        newest[each.field, message] = len(found)
        found.append(Told(each.line, each.line, each.field, message))
    return found


class BatchInvalid(InputError):
    """Rows cannot be paid, or the totals differ. `problems` names each, by line; nothing was stored or sent."""

    code = "batch_invalid"

    def __init__(self, problems: Sequence[RowProblem], *, count: int) -> None:
        self.problems = problems
        bad = len({problem.line for problem in problems} - {None})
        wrong = len({problem.line for problem in problems if not problem.is_limit} - {None})
        has_totals = any(problem.line is None for problem in problems)
        # Rows that are right, and more than the rules allow; and whether anything is to be corrected.
        self.limited, self.is_wrong = bad - wrong, wrong > 0 or has_totals
        apart = f" ({_apart(wrong, self.limited)})" if self.limited else ""
        rows = f"{bad:,} of {count:,} rows cannot be paid{apart}"
        self.counted = " and ".join([*([rows] if bad else []), *["the totals do not match"] * has_totals])
        # Leaving rows out helps where some are left, and where they are what the caller believes.
        self.may_skip = 0 < bad < count and not has_totals
        must_ask = (self.limited and not self.is_wrong) or any(problem.code == "repeated" for problem in problems)
        told = together(problems)
        more = [f"{len(told) - _TOLD:,} more are in errors."] if len(told) > _TOLD else []
        said = [f"{text[0].upper()}{text[1:]}" for text in map(str, told[:_TOLD])]
        begin = f"{self.counted[0].upper()}{self.counted[1:]}, so nothing was stored and nothing was sent."
        super().__init__(
            " ".join([begin, *said, *more, *[_LIMITED] * (self.limited > 0)]),
            advice=Advice.ASK_A_PERSON if must_ask else None,
        )

    @property
    def errors(self) -> list[dict[str, object]]:
        """The problems for programs, in our own words."""
        return [_error(each, each.message) for each in self.problems]

    @property
    def errors_as_read(self) -> list[dict[str, object]]:
        """The same with what was read, cleaned and cut, for whoever sent it."""
        return [_error(each, each.as_read) for each in self.problems]


def _apart(wrong: int, limited: int) -> str:
    are = f"{wrong:,} {'is' if wrong == 1 else 'are'}" if wrong else "none is"
    return f"{are} wrong, {limited:,} only {'exceeds' if limited == 1 else 'exceed'} a limit"


def _error(problem: RowProblem, message: str) -> dict[str, object]:
    return {"line": problem.line, "field": problem.field, "code": problem.code, "message": message}
