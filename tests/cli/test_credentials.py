"""`credentials`: secrets go in by file, standard input or hidden prompt, and never come out."""

import fcntl
import json
import os
import select
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from .conftest import KEYS, SECRETS, Terminal

ANSWERS_WITHIN_SECONDS = 30


@pytest.fixture
def acme(terminal: Terminal) -> Terminal:
    terminal.ask("org", "create", "Acme Ltd", "--slug", "acme")
    return terminal


def place(environment: str = "sandbox", shortcode: str = "174379") -> tuple[str, ...]:
    return ("--org", "acme", "--environment", environment, "--shortcode", shortcode)


def test_credentials_are_set_from_a_file_and_shown_as_marks_only(acme: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    file.write_text(json.dumps({**SECRETS, "till": "5500001"}))
    stored = acme.ask("credentials", "set", *place(), "--type", "till", "--file", str(file))
    assert (stored["environment"], stored["shortcode"], stored["type"], stored["till"]) == (
        "sandbox",
        "174379",
        "till",
        "5500001",
    )
    assert stored["secrets"] == sorted(SECRETS)
    [shown] = acme.ask("credentials", "show", "--org", "acme")
    assert {mark["secret"]: mark["last_four"] for mark in shown["secrets"]} == {
        "consumer_key": "-app",
        "consumer_secret": "-app",
        "passkey": "code",
        "initiator_name": None,
        "initiator_password": None,
    }
    assert all(mark["set_by"].startswith("operator:") for mark in shown["secrets"])
    for shape in ((), ("--json",)):
        outcome = acme.run("credentials", "show", "--org", "acme", *shape)
        assert not any(value in outcome.stdout + outcome.stderr for value in SECRETS.values())


def test_show_narrows_to_an_environment_and_a_shortcode(acme: Terminal) -> None:
    acme.set_credentials("sandbox", "174379", KEYS)
    acme.set_credentials("simulator", "174379", KEYS)
    acme.set_credentials("simulator", "600000", KEYS)
    shown = [
        (found["environment"], found["shortcode"])
        for found in acme.ask("credentials", "show", "--org", "acme", "--environment", "simulator")
    ]
    assert shown == [("simulator", "174379"), ("simulator", "600000")]
    assert len(acme.ask("credentials", "show", *place("simulator", "600000"))) == 1


def test_a_doubtful_password_is_stored_with_a_warning(acme: Terminal) -> None:
    stored = acme.set_credentials("sandbox", "174379", {**SECRETS, "initiator_password": "hunter2@home"})
    assert len(stored["warnings"]) == 1
    assert "hunter2" not in stored["warnings"][0]


@pytest.mark.parametrize("text", ['{"consumer_key": "hunter2"}', '{"hunter2": ""}', "hunter2", "", "\xff" * 100_000])
def test_a_refused_document_is_not_repeated_and_stores_nothing(acme: Terminal, text: str) -> None:
    outcome = acme.run("credentials", "set", *place(), "--type", "paybill", "--file", "-", typed=text)
    assert outcome.exit_code == 1
    assert len(outcome.stderr.splitlines()) == 1
    assert "hunter2" not in outcome.stderr
    assert acme.ask("credentials", "show", "--org", "acme") == []


def test_a_missing_file_or_no_terminal_is_said(acme: Terminal, tmp_path: Path) -> None:
    missing = acme.run("credentials", "set", *place(), "--type", "paybill", "--file", str(tmp_path / "none.json"))
    assert (missing.exit_code, missing.stderr) == (1, "There is no credentials file of this name.\n")
    silent = acme.run("credentials", "set", *place(), "--type", "paybill")
    assert silent.exit_code == 1
    assert "--file" in silent.stderr


def test_prompts_hide_what_is_typed(acme: Terminal) -> None:
    program = "from mpesa_mcp.cli.credentials import commands; commands()"
    names = {f"MPESA_MCP_{name}": value for name, value in acme.variables.items()}
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", program, "set", *place(), "--type", "paybill", "--json"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, **names},
        start_new_session=True,
        # Hidden prompts speak to the controlling terminal, whatever stdin is.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as command:
        os.close(theirs)
        seen = b""
        for value in SECRETS.values():
            seen += _read_until(ours, b": ")
            os.write(ours, value.encode() + b"\n")
        assert command.stdout is not None
        stored = json.loads(command.stdout.read())
        assert command.wait(ANSWERS_WITHIN_SECONDS) == 0
    os.close(ours)
    assert stored["secrets"] == sorted(SECRETS)
    assert b"Initiator password (Enter: none)" in seen
    assert not any(value.encode() in seen for value in SECRETS.values())


def _read_until(terminal: int, end: bytes) -> bytes:
    seen = b""
    while not seen.endswith(end):
        ready, _, _ = select.select([terminal], [], [], ANSWERS_WITHIN_SECONDS)
        assert ready, f"no prompt after {seen!r}"
        seen += os.read(terminal, 1024)
    return seen


def test_removing_needs_the_shortcode_by_name(acme: Terminal) -> None:
    acme.set_credentials("sandbox", "174379", KEYS)
    assert acme.run("credentials", "remove", "--org", "acme").exit_code == 2
    assert acme.run("credentials", "remove", *place("sandbox", "600000")).exit_code == 1
    assert acme.ask("credentials", "remove", *place())["removed"] is True
    assert acme.ask("credentials", "show", "--org", "acme") == []


def test_simulator_credentials_are_refused_in_production(acme: Terminal) -> None:
    words = ("credentials", "set", *place("simulator"), "--type", "paybill", "--file", "-")
    outcome = acme.run(*words, typed=json.dumps(KEYS), ENVIRONMENT="production")
    assert outcome.exit_code == 1
    assert "simulator" in outcome.stderr


def test_a_production_initiator_names_the_setting_it_waits_for(acme: Terminal) -> None:
    words = ("credentials", "set", *place("production"), "--type", "paybill", "--file", "-")
    outcome = acme.run(*words, typed=json.dumps(SECRETS))
    assert outcome.exit_code == 1
    assert "MPESA_MCP_DARAJA_CERTIFICATE" in outcome.stderr


def test_a_check_tells_good_keys_from_wrong_ones_and_what_is_missing(acme: Terminal, daraja: str) -> None:
    acme.set_credentials("simulator", "174379", {**KEYS, "passkey": SECRETS["passkey"]})
    [good] = acme.ask("credentials", "check", "--org", "acme", SIMULATOR_URL=daraja)
    assert (good["ok"], good["reason"]) == (True, None)
    assert set(good["missing"]) == {"b2c_payment", "check_balance", "reverse", "transaction_status"}
    acme.set_credentials("simulator", "600000", {**KEYS, "consumer_secret": "wrong"})
    outcome = acme.run("credentials", "check", "--org", "acme", "--json", SIMULATOR_URL=daraja)
    assert outcome.exit_code == 1
    assert [checked["ok"] for checked in outcome.value] == [True, False]
    assert outcome.stderr == "1 of 2 shortcodes did not pass.\n"


def test_keys_may_be_checked_before_they_are_set_and_a_hint_says_when_they_were_not(
    acme: Terminal, daraja: str
) -> None:
    words = ("credentials", "set", *place("simulator"), "--type", "paybill", "--file", "-")
    good, wrong = json.dumps(KEYS), json.dumps({**KEYS, "consumer_secret": "wrong"})
    unchecked = acme.run(*words, typed=good)
    assert "mpesa-mcp credentials check --org acme" in unchecked.stderr
    checked = acme.run(*words, "--check", typed=good, SIMULATOR_URL=daraja)
    assert (checked.exit_code, checked.stderr) == (0, "")
    refused = acme.run(*words, "--check", typed=wrong, SIMULATOR_URL=daraja)
    assert refused.exit_code == 1
    assert "Nothing was changed" in refused.stderr
    [still] = acme.ask("credentials", "check", "--org", "acme", SIMULATOR_URL=daraja)
    assert still["ok"]


def test_payments_use_the_shortcode_that_is_the_default(acme: Terminal) -> None:
    for number in ("174379", "600000"):
        acme.set_credentials("simulator", number, SECRETS)
    words = ("credentials", "default", "--org", "acme", "--environment", "simulator")
    chosen = acme.ask(*words, "--shortcode", "600000", "--for", "stk_push, b2c")
    assert [(each["shortcode"], each["default_for"]) for each in chosen] == [
        ("174379", []),
        ("600000", ["b2c", "stk_push"]),
    ]
    assert [each["default_for"] for each in acme.ask(*words, "--none", "--for", "b2c")] == [[], ["stk_push"]]
    assert acme.ask("credentials", "show", "--org", "acme")[1]["default_for"] == ["stk_push"]
    for mistake in (("--for", "b2c"), ("--for", "b2c", "--none", "--shortcode", "1"), ("--for", "all", "--none")):
        assert acme.run(*words, *mistake).exit_code == 2


def test_there_is_nothing_to_check_without_credentials(acme: Terminal) -> None:
    assert acme.run("credentials", "check", "--org", "acme").exit_code == 1
