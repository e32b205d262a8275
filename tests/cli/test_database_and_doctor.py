"""`db upgrade` and `doctor`: the state of an installation, told without changing it."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from mpesa_mcp.daraja.credential import sandbox_certificate

from .conftest import KEYS, SECRETS, Terminal


def diagnosis(terminal: Terminal, **variables: str) -> tuple[int, dict[str, Any]]:
    outcome = terminal.run("doctor", "--offline", "--json", **variables)
    return outcome.exit_code, {finding["name"]: finding for finding in outcome.value}


@pytest.fixture
def acme(terminal: Terminal) -> Terminal:
    terminal.ask("org", "create", "Acme Ltd", "--slug", "acme")
    return terminal


def test_an_upgrade_says_whether_it_changed_anything(bare_terminal: Terminal) -> None:
    assert bare_terminal.ask("db", "upgrade") == {"state": "current", "changed": True}
    assert bare_terminal.ask("db", "upgrade") == {"state": "current", "changed": False}


def test_a_database_of_a_newer_version_is_left_alone(terminal: Terminal) -> None:
    terminal.ask("db", "upgrade")
    connection = sqlite3.connect(terminal.data_dir / "mpesa-mcp.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    outcome = terminal.run("db", "upgrade")
    assert outcome.exit_code == 1
    assert "newer version" in outcome.stderr
    code, found = diagnosis(terminal)
    assert (code, found["database"]["status"]) == (1, "problem")


def test_a_database_that_cannot_be_reached_is_said_without_its_address(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    url = f"sqlite+aiosqlite:///{tmp_path}/file/hunter2.db"
    outcome = terminal.run("db", "upgrade", DATABASE_URL=url)
    assert outcome.exit_code == 1
    assert len(outcome.stderr.splitlines()) == 1
    assert "hunter2" not in outcome.stderr


def test_a_fresh_machine_has_no_problem_and_is_not_changed_by_looking(bare_terminal: Terminal) -> None:
    code, found = diagnosis(bare_terminal, MASTER_KEY="")
    assert code == 0
    assert {finding["status"] for finding in found.values()} == {"ok"}
    assert not bare_terminal.data_dir.exists()


def test_an_installation_without_credentials_is_told_how_to_set_them(acme: Terminal) -> None:
    code, found = diagnosis(acme)
    assert code == 0
    assert found["credentials"]["status"] == "warning"
    assert "credentials set" in found["credentials"]["fix"]


def test_a_bad_setting_is_the_only_finding(terminal: Terminal) -> None:
    code, found = diagnosis(terminal, PORT="many")
    assert code == 1
    assert list(found) == ["settings"]
    assert "MPESA_MCP_PORT" in found["settings"]["message"]


def test_a_data_directory_that_is_none_is_said_by_the_doctor_and_by_every_command(
    terminal: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "hunter2").write_text("a file")
    code, found = diagnosis(terminal, DATA_DIR=str(tmp_path / "hunter2"))
    assert (code, found["data_dir"]["status"]) == (1, "problem")
    outcome = terminal.run("org", "list", DATA_DIR=str(tmp_path / "hunter2"))
    assert outcome.exit_code == 1
    assert len(outcome.stderr.splitlines()) == 1
    assert "hunter2" not in outcome.stderr


def test_a_database_others_may_read_is_a_problem(acme: Terminal) -> None:
    (acme.data_dir / "mpesa-mcp.db").chmod(0o644)
    code, found = diagnosis(acme)
    assert (code, found["database_files"]["status"]) == (1, "problem")
    assert "chmod 600" in found["database_files"]["fix"]


def test_the_wrong_master_key_is_found_before_a_payment_finds_it(acme: Terminal) -> None:
    acme.set_credentials("simulator", "174379", KEYS)
    code, found = diagnosis(acme, MASTER_KEY="f" * 4 + "0123456789abcdeffedcba98765432100123456789abcdef0123456789ab")
    assert (code, found["keys"]["status"]) == (1, "problem")
    assert "MPESA_MCP_MASTER_KEY" in found["keys"]["fix"]
    assert "credentials" not in found


def test_a_missing_or_weak_master_key_is_a_problem_in_production(terminal: Terminal) -> None:
    for weak in ("", "password", "0" * 64):
        code, found = diagnosis(terminal, MASTER_KEY=weak, ENVIRONMENT="production")
        assert (code, found["master_key"]["status"]) == (1, "problem")
        assert "password" not in found["master_key"]["fix"]


def test_sandbox_credentials_need_an_address_safaricom_reaches(acme: Terminal) -> None:
    acme.set_credentials("sandbox", "174379", KEYS)
    statuses = [
        diagnosis(acme, **variables)[1]["public_url"]["status"]
        for variables in ({}, {"PUBLIC_URL": "http://127.0.0.1:8767"}, {"PUBLIC_URL": "https://pay.example.com"})
    ]
    assert statuses == ["problem", "problem", "ok"]


def test_a_production_initiator_needs_its_certificate_whose_fingerprint_is_shown(
    acme: Terminal, tmp_path: Path
) -> None:
    certificate = tmp_path / "production.cer"
    certificate.write_bytes(sandbox_certificate())
    acme.set_credentials("production", "600000", SECRETS, DARAJA_CERTIFICATE=str(certificate))
    public = {"PUBLIC_URL": "https://pay.example.com"}
    code, found = diagnosis(acme, **public, DARAJA_CERTIFICATE=str(certificate))
    assert code == 0
    assert "SHA-256" in found["daraja_certificate"]["message"]
    code, found = diagnosis(acme, **public)
    assert (code, found["daraja_certificate"]["status"]) == (1, "problem")
    certificate.write_text("no certificate")
    code, found = diagnosis(acme, **public, DARAJA_CERTIFICATE=str(certificate))
    assert (code, found["daraja_certificate"]["status"]) == (1, "problem")


def test_the_table_for_people_says_what_to_do(terminal: Terminal) -> None:
    outcome = terminal.run("doctor", MASTER_KEY="", ENVIRONMENT="production")
    assert outcome.exit_code == 1
    assert "problem" in outcome.stdout
    assert outcome.stderr == "1 problem found.\n"
