"""`audit`: reading, verifying and exporting, for one organization or for the platform."""

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from .conftest import Terminal

ACME, PLATFORM = ("--org", "acme"), ("--platform",)
DOCS = Path(__file__).parents[2] / "docs" / "audit.md"


@pytest.fixture
def acme(terminal: Terminal) -> Terminal:
    terminal.ask("org", "create", "Acme Ltd", "--slug", "acme")
    for name in ("first", "second"):
        terminal.ask("key", "create", "--org", "acme", "--role", "user", "--name", name)
    return terminal


def test_a_list_shows_who_did_what_newest_first(acme: Terminal) -> None:
    listed = acme.ask("audit", "list", *ACME)
    assert [entry["action"] for entry in listed] == ["key.created", "key.created", "organization.created"]
    assert listed[0]["actor"].startswith("operator:")
    assert set(listed[0]) >= {
        "entry_id",
        "at",
        "subject",
        "decision",
        "client",
        "address",
        "trace_id",
        "before",
        "after",
    }
    shown = acme.run("audit", "list", *ACME)
    assert "organization.created" in shown.stdout
    assert acme.run("audit", "list", *PLATFORM).stdout == "none\n"


def test_a_list_is_narrowed_and_goes_on_where_it_ended(acme: Terminal) -> None:
    [made] = acme.ask("audit", "list", *ACME, "--action", "organization.created")
    assert acme.ask("audit", "list", *ACME, "--subject", made["subject"]) == [made]
    assert acme.ask("audit", "list", *ACME, "--actor", "key:nobody") == []
    assert acme.ask("audit", "list", *ACME, "--to", "2020-01-01") == []
    page = acme.run("audit", "list", *ACME, "--limit", "2", "--json")
    last = page.value[-1]["entry_id"]
    assert page.stderr == f"There are more: --cursor {last}\n"
    assert acme.ask("audit", "list", *ACME, "--limit", "2", "--cursor", last) == [made]


def test_an_intact_chain_is_said_to_be_so(acme: Terminal) -> None:
    verified = acme.ask("audit", "verify", *ACME)
    assert set(verified) == {"intact", "entries", "head", "first_broken"}
    assert (verified["intact"], verified["entries"], verified["first_broken"]) == (True, 3, None)
    assert len(verified["head"]) == 64
    assert acme.ask("audit", "verify", *PLATFORM) == {"intact": True, "entries": 0, "head": None, "first_broken": None}


def test_a_broken_chain_is_exit_code_1_and_names_the_entry(acme: Terminal) -> None:
    acme.ask("audit", "verify", *ACME)
    second = acme.ask("audit", "list", *ACME)[1]["entry_id"]
    with closing(sqlite3.connect(acme.data_dir / "mpesa-mcp.db")) as connection:
        connection.execute("DROP TRIGGER audit_entries_no_update")
        connection.execute("UPDATE audit_entries SET actor = 'nobody' WHERE id = ?", (second,))
        connection.commit()
    broken = acme.run("audit", "verify", *ACME, "--json")
    assert broken.exit_code == 1
    assert broken.value["intact"] is False
    assert broken.value["first_broken"] == {"sequence": 2, "entry_id": second, "why": "changed"}
    assert f"entry_id: {second}" in acme.run("audit", "verify", *ACME).stdout


def test_an_export_is_lines_of_json_and_ends_with_the_head(acme: Terminal) -> None:
    exported = acme.run("audit", "export", *ACME)
    *entries, last = [json.loads(line) for line in exported.stdout.splitlines()]
    assert [entry["sequence"] for entry in entries] == [1, 2, 3]
    assert entries[0]["action"] == "organization.created"
    assert last == {"head": entries[-1]["hash"]} == {"head": acme.ask("audit", "verify", *ACME)["head"]}
    assert acme.ask("audit", "export", *ACME) == [*entries, last]
    assert acme.ask("audit", "export", *ACME, "--to", "2020-01-01") == [last]
    assert acme.ask("audit", "export", *PLATFORM) == [{"head": None}]


@pytest.mark.parametrize("command", ["list", "verify", "export"])
@pytest.mark.parametrize("named", [(), (*ACME, *PLATFORM)], ids=["none", "both"])
def test_exactly_one_chain_is_named(terminal: Terminal, command: str, named: tuple[str, ...]) -> None:
    outcome = terminal.run("audit", command, *named)
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert "--platform" in outcome.stderr


def test_an_organization_that_is_not_there_has_no_chain(terminal: Terminal) -> None:
    outcome = terminal.run("audit", "verify", "--org", "nobody")
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert len(outcome.stderr.splitlines()) == 1


def test_the_program_in_the_docs_accepts_an_export_and_refuses_a_changed_one(acme: Terminal) -> None:
    [program] = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    exported = acme.run("audit", "export", *ACME).stdout

    def accepts(lines: str) -> bool:
        return (
            subprocess.run([sys.executable, "-c", program], input=lines, text=True, capture_output=True).returncode == 0
        )

    assert accepts(exported)
    assert not accepts(exported.replace("key.created", "key.revoked", 1))
    assert not accepts("\n".join(exported.splitlines()[1:]))
