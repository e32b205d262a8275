"""`batch`: a file is checked whole, its problems are told by line, and what was decided is shown."""

import csv
import json
from pathlib import Path

import pytest

from .conftest import SECRETS, Terminal

HEADER = "phone,amount,reference,remarks"


@pytest.fixture
def acme(terminal: Terminal) -> Terminal:
    assert terminal.run("org", "create", "Acme", "--slug", "acme").exit_code == 0
    terminal.set_credentials("simulator", "174379", SECRETS)
    return terminal


def a_file(directory: Path, *lines: str) -> str:
    path = directory / "payroll.csv"
    path.write_text("\n".join((HEADER, *lines)))
    return str(path)


def test_a_payroll_with_planted_errors_is_refused_by_line_and_goes_through_without_them(
    acme: Terminal, tmp_path: Path
) -> None:
    lines = [f"07120{number:05d},{10 + number % 90},SAL-{number},November salary" for number in range(500)]
    planted = {
        20: "0812345678,100,SAL-20,November salary",
        50: "0712000050,9,SAL-50,November salary",
        77: "0712000077,100.50,SAL-77,November salary",
        130: "0712000130,100,SAL_130,November salary",
        260: "0712000260,100,SAL-260,x",
        499: lines[3],
    }
    file = a_file(tmp_path, *(planted.get(number, line) for number, line in enumerate(lines)))
    refused = acme.run("batch", "create", "--org", "acme", "--file", file, "--expected-count", "500", "--json")
    assert refused.exit_code == 1
    # The header is line 1, as in a spreadsheet.
    assert [each["line"] for each in refused.value["error"]["errors"]] == [number + 2 for number in planted]
    shown = acme.run("batch", "create", "--org", "acme", "--file", file)
    assert (shown.exit_code, "Nothing was stored" in shown.stderr, "line 5" in shown.stdout) == (1, True, True)
    assert shown.stderr.startswith("6 of 500 rows cannot be paid:") and "--skip-invalid" in shown.stderr
    assert 'Read: "100.50"' in shown.stdout
    assert acme.ask("batch", "list", "--org", "acme") == []

    made = acme.ask("batch", "create", "--org", "acme", "--file", file, "--skip-invalid")
    assert (made["count"], made["totals"]["rejected"]["count"], made["name"]) == (494, 6, "payroll")
    again = acme.ask("batch", "create", "--org", "acme", "--file", file, "--skip-invalid")
    assert (again["batch_id"], again["replayed"]) == (made["batch_id"], True)


def test_a_batch_is_paused_resumed_cancelled_and_its_result_written(acme: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "payments.json"
    file.write_text(json.dumps([{"phone": "0712345678", "amount": 20, "reference": "-1", "remarks": "=1+1"}]))
    made = acme.ask("batch", "create", "--org", "acme", "--file", str(file), "--purpose", "salary")
    whose = ("--org", "acme", made["batch_id"])
    for act, status in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        assert acme.ask("batch", act, *whose)["status"] == status
    assert acme.ask("batch", "show", *whose)["final"] is True
    assert "nothing of it is unsent" not in acme.run("batch", "retry", *whose).stderr
    output = tmp_path / "result.csv"
    assert acme.run("batch", "result", *whose, "--output", str(output)).exit_code == 0
    [row] = csv.DictReader(output.read_text().splitlines())
    assert (row["outcome"], row["reference"], row["remarks"], row["phone"]) == (
        "cancelled",
        "'-1",
        "'=1+1",
        "2547*****678",
    )
    [line] = acme.ask("batch", "result", *whose)
    assert (line["line"], line["amount"]) == (1, "20.00")
