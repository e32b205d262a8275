"""`batch`: a file is checked whole, its problems are told by line, and what was decided is shown."""

import csv
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from mpesa_mcp.app.core import open_core
from mpesa_mcp.cli.batch_waiting import Changes, Standstill, counts, done, until_at_rest
from mpesa_mcp.payments.batches.feeder import claim_batches, feed_batch
from mpesa_mcp.payments.batches.reading import batch_of
from mpesa_mcp.payments.batches.states import Outcome, Totals
from mpesa_mcp.settings import load_settings

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
    otherwise = acme.run("batch", "create", "--org", "acme", "--file", file, "--skip-invalid", "--purpose", "salary")
    before = f"This file was submitted before as {made['batch_id']}, with purpose business."
    assert before in otherwise.stderr and "idempotency_key" not in otherwise.stderr


def test_who_tries_a_batch_again_is_told_how_many_rows_of_how_much(acme: Terminal, tmp_path: Path) -> None:
    lines = [f"071200000{number},{1000 * number},SAL-{number},Salary" for number in (1, 2, 3)]
    made = acme.ask("batch", "create", "--org", "acme", "--file", a_file(tmp_path, *lines))

    async def feed() -> None:
        names = {f"MPESA_MCP_{name}": value for name, value in acme.variables.items()}
        async with open_core(load_settings(names)) as core:
            for claim in await claim_batches(core, 1):
                await feed_batch(core, claim)

    anyio.run(feed)
    with closing(sqlite3.connect(acme.data_dir / "mpesa-mcp.db")) as connection, connection:
        connection.execute("UPDATE payments SET status = 'failed', settled_at = created_at WHERE amount_cents > 100000")
    told = acme.run("batch", "retry", "--org", "acme", made["batch_id"])
    assert told.exit_code == 0, told.stderr
    assert "2 rows are tried again, KES 5,000.00 in all." in told.stderr


def test_a_batch_is_paused_resumed_cancelled_and_its_result_written(acme: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "payments.json"
    file.write_text(json.dumps([{"phone": "0712345678", "amount": 20, "reference": "-1", "remarks": "=1+1"}]))
    made = acme.ask("batch", "create", "--org", "acme", "--file", str(file), "--purpose", "salary")
    whose = ("--org", "acme", made["batch_id"])
    assert acme.run("batch", "pause", *whose).exit_code == 0
    assert "It is paused: what waits goes on with mpesa-mcp batch resume." in acme.run("batch", "retry", *whose).stderr
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


def test_rows_that_are_left_out_are_listed_and_waiting_says_each_change_and_what_is_left_to_whom(
    acme: Terminal, tmp_path: Path
) -> None:
    good = [f"07120000{number:02d},1000,SAL-{number},November salary" for number in range(11)]
    bad = [f"08120000{number:02d},nine,SAL-{number},November salary" for number in range(22)]
    words = ("batch", "create", "--org", "acme", "--file", a_file(tmp_path, *good, *bad), "--skip-invalid", "--wait")
    made = acme.run(*words)
    assert made.exit_code == 0, made.stderr
    batch_id = next(line.split()[1] for line in made.stdout.splitlines() if line.startswith("batch_id"))
    assert "/console/approvals/apr_" in made.stdout
    assert "rejected: count: 22;" in made.stdout  # and no amount: nobody could read it
    assert "phone must be" in made.stdout and "0812***019" in made.stdout and "0812***020" not in made.stdout
    for said in (
        "A person must approve it at http",
        "0 of 11, awaiting_approval: 0 failed, 0 unknown",
        "Nothing is paid before a person has approved it.",
        f"Look later: mpesa-mcp batch show --org acme {batch_id} --wait",
        "Left out, and not paid: 22 rows",
        f"and 2 more; all are in: mpesa-mcp batch result --org acme {batch_id}",
    ):
        assert said in made.stderr
    shown = acme.ask("batch", "show", "--org", "acme", batch_id)
    again = acme.run("batch", "show", "--org", "acme", batch_id, "--wait")
    assert (again.exit_code, "0 of 11, awaiting_approval" in again.stderr) == (0, True)
    assert acme.run("batch", "cancel", "--org", "acme", batch_id).exit_code == 0
    assert acme.run("batch", "show", "--org", "acme", batch_id, "--wait", "--json").exit_code == 0
    assert (len(shown["left_out"]), shown["left_out"][0]["line"]) == (20, 13)
    # What was read, wherever it was wrong.
    assert (shown["left_out"][0]["amount"], shown["left_out"][0]["reference"]) == ("nine", "SAL-0")
    assert shown["totals"]["rejected"] == {"count": 22}


def test_waiting_ends_with_the_reason_when_nothing_moves_until_somebody_acts(
    acme: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = acme.ask("batch", "create", "--org", "acme", "--file", a_file(tmp_path, "0712000001,20,A,November salary"))
    for name, value in acme.variables.items():
        monkeypatch.setenv(f"MPESA_MCP_{name}", value)
    organization_id = acme.ask("org", "show", "--org", "acme")["organization_id"]

    async def wait() -> str:
        async with open_core(load_settings()) as core:
            with anyio.fail_after(10):
                batch = await batch_of(core, organization_id, made["batch_id"])
                await until_at_rest(core, batch, org="acme", patience=timedelta(0))
        return capsys.readouterr().err

    look_later = f"Look later: mpesa-mcp batch show --org acme {made['batch_id']} --wait"
    said = anyio.run(wait)
    assert "No worker was seen" in said and "mpesa-mcp worker" in said and look_later in said
    assert acme.run("org", "freeze", "--org", "acme").exit_code == 0
    said = anyio.run(wait)
    assert "the organization is frozen" in said and look_later in said
    # Who waits for Safaricom's answer reads of how many rows, and those that are unknown are not done.
    totals = Totals.of([(Outcome.SUCCEEDED, 5, 1), (Outcome.IN_PROGRESS, 2, 1), (Outcome.UNKNOWN, 1, 1)])
    assert (done(8, totals), counts(totals, is_silent=False)) == (5, "0 failed, 1 unknown, 2 sent and not answered yet")
    assert counts(totals, is_silent=True) == "0 failed, 1 unknown, Safaricom is asked about 2"
    # A short silence is none.
    start = datetime(2026, 11, 25, tzinfo=UTC)
    standstill, before, after = Standstill(timedelta(seconds=20)), Totals.of([(Outcome.WAITING, 2, 1)]), Totals()
    looks = ((0, before), (19, before), (20, before), (21, after), (40, after), (41, after))
    heard = [standstill.is_long(totals, start + timedelta(seconds=seconds)) for seconds, totals in looks]
    assert heard == [False, False, True, False, False, True]


def test_what_does_not_fit_what_is_expected_is_told_without_speaking_of_leaving_rows_out(
    acme: Terminal, tmp_path: Path
) -> None:
    rows = ["0712000001,1000,SAL-1,November salary", "0712000002,9,SAL-2,November salary"]
    words = ("batch", "create", "--org", "acme", "--file", a_file(tmp_path, *rows), "--expected-count", "3")
    refused = acme.run(*words)
    assert refused.stderr.startswith("1 of 2 rows cannot be paid and the totals do not match:")
    assert "expected_count" in refused.stdout and "amount must be" in refused.stdout
    assert "--skip-invalid" not in refused.stderr


def test_rows_that_only_exceed_a_limit_are_told_apart_from_wrong_ones_with_what_helps_and_what_does_not(
    acme: Terminal, tmp_path: Path
) -> None:
    rows = [f"071200000{number},60000,SAL-{number},November salary" for number in range(3)]
    words = ("batch", "create", "--org", "acme", "--file")
    refused = acme.run(*words, a_file(tmp_path, *rows, "0812,10,SAL-9,November salary"))
    assert refused.stderr.startswith("3 of 4 rows cannot be paid (1 is wrong, 2 only exceed a limit):")
    for said in ("Correct what is wrong.", "mpesa-mcp rule set --org acme", "--skip-invalid would leave those people"):
        assert said in refused.stderr
    right = acme.run(*words, a_file(tmp_path, *rows))
    assert "(none is wrong, 2 only exceed a limit)" in right.stderr and "Correct" not in right.stderr
    message = acme.run(*words, a_file(tmp_path, *rows), "--json").value["error"]["message"]
    assert "an org_admin can change the rule" in message and "skip" not in message


def test_a_file_whose_name_is_no_name_for_a_batch_is_refused_with_the_option_that_gives_one(
    acme: Terminal, tmp_path: Path
) -> None:
    file = tmp_path / "y.json"
    file.write_text(json.dumps([{"phone": "0712345678", "amount": 20, "reference": "A", "remarks": "Tea money"}]))
    words = ("batch", "create", "--org", "acme", "--file", str(file))
    refused = acme.run(*words)
    assert (refused.exit_code, "--name" in refused.stderr) == (1, True)
    assert acme.ask(*words, "--name", "Tea")["name"] == "Tea"


def test_where_there_is_no_terminal_a_change_is_a_line_and_not_more_than_one_in_five_seconds() -> None:
    changes, start = Changes(), datetime(2026, 11, 25, tzinfo=UTC)
    heard = [
        changes.is_due(text, start + timedelta(seconds=seconds), at_last=at_last)
        for seconds, text, at_last in (
            (0, "a", False),
            (1, "b", False),
            (6, "b", False),
            (20, "b", False),
            (21, "c", True),
        )
    ]
    assert heard == [True, False, True, False, True]
