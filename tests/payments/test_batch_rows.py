"""The rows of a batch and what it has come to: pure, without a database."""

import pytest

from mpesa_mcp.payments.batches.files import UnreadableFile, rows_of_csv, rows_of_json, rows_of_list
from mpesa_mcp.payments.batches.problems import BatchInvalid, together
from mpesa_mcp.payments.batches.results import guarded
from mpesa_mcp.payments.batches.rows import (
    GivenRow,
    RowProblem,
    asked_sha256,
    check_rows,
    given_cents,
    totals_problems,
)
from mpesa_mcp.payments.batches.states import BatchStage, BatchStatus, Outcome, Totals, batch_status
from mpesa_mcp.values import Kes

HEADER = b"Phone,AMOUNT,name,reference,remarks\r\n"


def a_row(line: int, phone: object = "0712345678", amount: object = 1500, **values: object) -> GivenRow:
    return GivenRow(line, phone, amount, values.get("reference", "SAL-11"), values.get("remarks", "November salary"))


def fields(problems: list[RowProblem]) -> list[tuple[int | None, str, str]]:
    return [(problem.line, problem.field, problem.code) for problem in problems]


def test_every_problem_of_every_row_is_told_by_line() -> None:
    given = [
        a_row(1),
        a_row(2, "020 123456", 9, reference="", remarks="x"),
        a_row(3, "0712 345 678", 1500, reference="OTHER"),
        a_row(4, 254712345678, True),
        a_row(5, "0799000001", "5.0"),
        a_row(6, "0799000002", 1.5),
        a_row(7, "0799000003", 250_001, reference="=1+1"),
        a_row(8, "0799000004", 250_000, remarks="two\nlines"),
        a_row(9, "0799000005", 10),
    ]
    checked = check_rows(given)
    assert [row.line for row in checked.rows] == [1, 9]
    assert (checked.count, checked.cents, checked.payable_cents) == (9, None, 1510_00)
    assert fields(checked.problems) == [
        (2, "phone", "bad_phone"),
        (2, "amount", "bad_amount"),
        (2, "reference", "bad_reference"),
        (2, "remarks", "bad_remarks"),
        (3, "phone", "duplicate"),
        (4, "phone", "bad_phone"),
        (4, "amount", "bad_amount"),
        (5, "amount", "bad_amount"),
        (6, "amount", "bad_amount"),
        (7, "amount", "bad_amount"),
        (7, "reference", "bad_reference"),
        (8, "remarks", "bad_remarks"),
    ]
    assert "line 1" in next(problem.message for problem in checked.problems if problem.code == "duplicate")


def test_the_totals_are_those_of_all_rows_or_of_the_rows_that_are_left_when_some_are_left_out() -> None:
    checked = check_rows([a_row(1), a_row(2, "0799000001", 500), a_row(3, "bad", 100)])
    all_rows, payable = (3, 2100_00), (2, 2000_00)
    for skips, (count, cents), expected in (
        (False, all_rows, []),
        (False, payable, ["count_differs", "total_differs"]),
        (True, all_rows, []),
        (True, payable, []),
        (True, (3, 2000_00), ["total_differs"]),
    ):
        problems = totals_problems(checked, count=count, cents=cents, skips=skips)
        assert [problem.code for problem in problems] == expected
    assert totals_problems(checked, count=None, cents=None, skips=False) == []


def test_a_csv_is_read_as_spreadsheets_write_it() -> None:
    for content in (
        HEADER
        + b'0712345678,1500.00,"Wanjiru, Jane",SAL-11,November salary\r\n\r\n712345679, 20 ,,SAL-11,"Two words"\r\n',
        b"\xef\xbb\xbf"
        + HEADER.replace(b",", b";")
        + b"0712345678;1500;x;SAL-11;November salary\n\n712345679;20;;SAL-11;Two words",
    ):
        rows = check_rows(rows_of_csv(content)).rows
        assert [(row.line, row.phone.digits, row.amount, row.remarks) for row in rows] == [
            (2, "254712345678", Kes.from_shillings(1500), "November salary"),
            (4, "254712345679", Kes.from_shillings(20), "Two words"),
        ]
    # Empty lines before the header are passed over like those behind it.
    [row] = check_rows(rows_of_csv(b"\r\n \n;;\n" + HEADER.replace(b",", b";") + b"0712345678;20;;A;Tea\n")).rows
    assert (row.line, row.amount) == (5, Kes.from_shillings(20))


def test_a_row_with_more_cells_than_the_header_names_is_a_problem_of_its_line_and_nothing_of_it_is_believed() -> None:
    header = b"phone,amount,reference,remarks"
    split = b"0711000001,25,000,SAL-11-001,November salary\n"
    good = b"0711000002,30,SAL-11-002,November salary"
    # A column without a name at the end of the header is none, and an empty cell at the end of a row neither.
    for head, blank in ((header, b",, "), (header + b",", b",")):
        given = rows_of_csv(head + b"\n" + split + good + blank + b"\n")
        checked = check_rows(given)
        assert [(row.line, row.amount) for row in checked.rows] == [(3, Kes.from_shillings(30))]
        assert (checked.cents, given_cents(given)) == (None, None)
        [problem] = checked.problems
        assert (problem.line, problem.field, problem.code) == (2, "row", "too_many_cells")
        assert problem.message == (
            "5 cells, but the header names 4: is there a comma in the amount or the remarks? Put the cell in quotes."
        )
        assert problem.read == "0711000001,25,000,SAL-11-001,November sa"
    [problem] = check_rows(rows_of_csv((header + b"\n" + good + b",x").replace(b",", b";"))).problems
    assert "a semicolon in" in problem.message
    assert asked_sha256(rows_of_csv(header + b"\n" + good)) != asked_sha256(rows_of_csv(header + b"\n" + good + b",x"))


@pytest.mark.parametrize("amount", ["1500.50", "1,500", "-20", "1e3", "", "=20", "\u0661\u0665"])
def test_an_amount_that_is_no_plain_number_of_shillings_is_a_problem_of_its_line(amount: str) -> None:
    content = HEADER + f'0712345678,"{amount}",,SAL-11,November salary\n'.encode()
    assert fields(check_rows(rows_of_csv(content)).problems) == [(2, "amount", "bad_amount")]


@pytest.mark.parametrize(
    "content",
    [b"", HEADER, b"phone,amount\n0712345678,20\n", HEADER + b'0712345678,20,,"SAL', HEADER + b"\xff\xfe"],
    ids=["nothing", "no rows", "columns missing", "an open quote", "no UTF-8"],
)
def test_what_is_no_file_of_payments_is_refused_whole(content: bytes) -> None:
    with pytest.raises(UnreadableFile):
        rows_of_csv(content)


def test_a_row_is_where_it_begins_whatever_line_breaks_its_cells_have() -> None:
    content = HEADER + b'0712345678,9,"Jane\r\nWanjiru",SAL-11,November salary\r\n\r\n0712,20,"a\nb\nc",SAL-11,Tea\n'
    assert [problem.line for problem in check_rows(rows_of_csv(content)).problems] == [2, 5]
    with pytest.raises(UnreadableFile, match="from line 5 on"):
        rows_of_csv(content.replace(b'c",', b"c,"))


def test_identical_problems_of_neighbouring_lines_are_told_as_one_and_the_message_tells_the_first_few() -> None:
    too_much = "The rule of the organization allows at most KES 500.00 a day."
    limits = [RowProblem(line, "amount", "per_day", too_much, is_limit=True) for line in (*range(79, 503), 504)]
    bad = [RowProblem(line, "phone", "bad_phone", f"Problem {line}.") for line in (80, 81, 90, 95)]
    refused = BatchInvalid(sorted([*limits, *bad], key=lambda each: each.line or 0), count=600)
    assert refused.message == (
        "425 of 600 rows cannot be paid (4 are wrong, 421 only exceed a limit), so nothing was stored and nothing was "
        "sent. "
        f"Lines 79-502: {too_much} Line 80: Problem 80. Line 81: Problem 81. Line 90: Problem 90. Line 95: Problem 95. "
        "1 more are in errors. Rows that only exceed a limit are right as they are, and without them those people stay "
        "unpaid: an org_admin can change the rule, or they are paid when the limit has room again."
    )
    assert len(refused.errors) == 429


def test_what_was_read_is_told_cleaned_and_cut_beside_the_message_and_never_in_it() -> None:
    given = [
        a_row(1, "0812\u200b345 " + "9" * 60, None),
        GivenRow(2, "0712345678", 20, "A", "Tea money", more="bonus\n, tip"),
    ]
    problems = check_rows(given).problems
    assert [(each.line, each.field, each.read) for each in problems] == [
        (1, "phone", "0812345 " + "9" * 32),
        (1, "amount", ""),
        (2, "row", "bonus , tip"),
    ]
    assert [each.message.endswith(('9".', "empty.", 'tip".')) for each in together(problems, as_read=True)] == [
        True
    ] * 3
    refused = BatchInvalid(problems, count=2)
    assert "0812" not in f"{refused.message}{refused.errors}"
    assert "bonus" not in f"{refused.message}{refused.errors}"


def test_json_is_a_list_or_an_object_with_one() -> None:
    row = '{"phone": "0712345678", "amount": 20, "reference": "A", "remarks": "Tea money"}'
    for content in (f"[{row}, 7]", f'{{"payments": [{row}, 7]}}'):
        checked = check_rows(rows_of_json(content.encode()))
        assert [row.line for row in checked.rows] == [1]
        assert {problem.line for problem in checked.problems} == {2}
    for content in ("[", "7", "[" * 100_000, "[]"):
        with pytest.raises(UnreadableFile):
            rows_of_json(content.encode())


@pytest.mark.parametrize(
    "cell",
    [
        "=1+1",
        "+254",
        "-2",
        "@SUM(A1)",
        "\tx",
        "\rx",
        "\n=1",
        " =1",
        '"=1',
        "\uff1d1+1",
        "\uff0b1",
        "\uff0d1",
        "\uff20A",
    ],
)
def test_no_cell_of_a_result_is_a_formula(cell: str) -> None:
    """Wherever a spreadsheet parts it: with semicolons, the quotes around a cell hold nothing together."""
    assert guarded(cell).startswith("'")
    for separator in ";\t|\r\n" if cell.strip() not in {"x"} else "":
        parts = guarded(f"a{separator}{cell};b").split(separator)
        assert any(part.startswith("'") for part in parts), parts
    for plain in ("Jane = 1", "a; b - c", "O'Neill; 1-2"):
        assert guarded(plain) == plain


def test_neither_empty_lines_nor_lists_where_a_text_should_be_are_looked_at_without_end() -> None:
    header = b"phone,amount,reference,remarks"
    for line in (b"\n", b"\r", b",\n"):
        with pytest.raises(UnreadableFile, match="too many lines"):
            rows_of_csv(header + line * 1_000_000)
    row = {"phone": [0] * 2_000_000, "amount": {"a": 1}, "reference": "A" * 2_000_000, "remarks": []}
    [read] = rows_of_list([row])
    assert (read.phone, read.amount, len(str(read.reference)), read.remarks) == (None, None, 1_000, None)


def test_what_a_batch_has_come_to_follows_from_its_rows() -> None:
    some = {outcome: Totals.of([(outcome, 1, 100), (Outcome.SUCCEEDED, 3, 300)]) for outcome in Outcome}
    assert {outcome: batch_status(BatchStage.RUNNING, totals) for outcome, totals in some.items()} == {
        Outcome.WAITING: BatchStatus.RUNNING,
        Outcome.IN_PROGRESS: BatchStatus.RUNNING,
        Outcome.SUCCEEDED: BatchStatus.COMPLETED,
        Outcome.FAILED: BatchStatus.COMPLETED,
        Outcome.UNKNOWN: BatchStatus.UNRESOLVED,
        Outcome.DISPUTED: BatchStatus.UNRESOLVED,
        Outcome.CANCELLED: BatchStatus.COMPLETED,
        Outcome.REJECTED: BatchStatus.COMPLETED,
    }
    assert batch_status(BatchStage.PAUSED, some[Outcome.WAITING]) is BatchStatus.PAUSED
    assert batch_status(BatchStage.PAUSED, some[Outcome.UNKNOWN]) is BatchStatus.UNRESOLVED
    assert batch_status(BatchStage.CANCELLING, some[Outcome.IN_PROGRESS]) is BatchStatus.CANCELLING
    assert batch_status(BatchStage.CANCELLED, some[Outcome.UNKNOWN]) is BatchStatus.UNRESOLVED
    assert batch_status(BatchStage.DECLINED, some[Outcome.CANCELLED]) is BatchStatus.DECLINED
