"""`doctor` on keys and credentials: what does not open, is undecided, was read by others, is refused."""

import sqlite3
from contextlib import closing

import pytest

from .conftest import KEYS, MASTER_KEY, SECRETS, Terminal
from .test_database_and_doctor import diagnosis

NEWEST = "ffeeddccbbaa99887766554433221100fedcba98765432100123456789abcdef"


@pytest.fixture
def acme(terminal: Terminal) -> Terminal:
    terminal.ask("org", "create", "Acme Ltd", "--slug", "acme")
    return terminal


def test_the_master_key_is_followed_through_a_rotation(acme: Terminal) -> None:
    acme.set_credentials("simulator", "174379", KEYS)
    both = {"MASTER_KEY": NEWEST, "MASTER_KEY_PREVIOUS": MASTER_KEY}
    seen = [diagnosis(acme)[1]["keys"], diagnosis(acme, **both)[1]["keys"]]
    told = acme.ask("master-key", "rotate", **both)
    assert (told["under_previous"], told["unopened"], told["rewrapped_data_keys"]) == (0, 0, 1)
    assert acme.ask("master-key", "rotate", **both)["rewrapped_data_keys"] == 0
    seen += [
        diagnosis(acme, **both)[1]["keys"],
        diagnosis(acme, MASTER_KEY=NEWEST)[1]["keys"],
        diagnosis(acme)[1]["keys"],
    ]
    assert [each["status"] for each in seen] == ["ok", "warning", "warning", "ok", "problem"]
    assert [each["fix"] and each["fix"].split(",")[0] for each in seen] == [
        None,
        "Run: mpesa-mcp master-key rotate",
        "Remove MPESA_MCP_MASTER_KEY_PREVIOUS",
        None,
        "Set the master key they were sealed with",
    ]


def test_a_key_file_that_is_gone_is_a_problem_and_no_new_one_is_made(acme: Terminal) -> None:
    acme.set_credentials("simulator", "174379", KEYS, MASTER_KEY="")
    (acme.data_dir / "master.key").unlink()
    code, found = diagnosis(acme, MASTER_KEY="")
    assert (code, found["keys"]["status"]) == (1, "problem")
    assert not (acme.data_dir / "master.key").exists()


def test_several_shortcodes_without_a_default_are_told_with_the_command(acme: Terminal) -> None:
    acme.set_credentials("simulator", "174379", SECRETS)
    acme.set_credentials("simulator", "600000", KEYS | {"passkey": SECRETS["passkey"]})
    warning = diagnosis(acme)[1]["credentials_acme"]
    assert warning["status"] == "warning"
    assert "--org acme --environment simulator --for stk_push --shortcode N" in warning["fix"]
    acme.ask(
        "credentials", "default", "--org", "acme", "--environment", "simulator", "--shortcode", "600000",
        "--for", "stk_push",
    )  # fmt: skip
    assert diagnosis(acme)[1]["credentials"]["status"] == "ok"


def test_a_secret_that_does_not_open_names_its_shortcode(acme: Terminal) -> None:
    acme.set_credentials("simulator", "174379", KEYS)
    with closing(sqlite3.connect(acme.data_dir / "mpesa-mcp.db")) as connection, connection:
        connection.execute("UPDATE shortcode_secrets SET sealed = x'00'")
    code, found = diagnosis(acme)
    assert (code, found["credentials_acme"]["status"]) == (1, "problem")
    assert "--org acme --environment simulator --shortcode 174379" in found["credentials_acme"]["fix"]


def test_a_key_that_others_have_read_is_told_until_it_is_rotated(acme: Terminal) -> None:
    made = acme.ask("key", "create", "--org", "acme", "--role", "user", "--name", "till")
    with closing(sqlite3.connect(acme.data_dir / "mpesa-mcp.db")) as connection, connection:
        connection.execute("UPDATE api_keys SET exposed_at = created_at")
    warning = diagnosis(acme)[1]["api_key_exposed"]
    assert (warning["status"], made["prefix"] in warning["message"]) == ("warning", True)
    assert warning["fix"] == f"Run: mpesa-mcp key rotate --org acme {made['key_id']} --overlap-hours 1"
    assert warning["fix"] in acme.run("key", "list", "--org", "acme").stderr
    acme.ask("key", "rotate", "--org", "acme", made["key_id"])
    assert "api_key_exposed" not in diagnosis(acme)[1]


def test_daraja_is_asked_whether_it_answers_and_takes_the_keys_of_each_organization(
    acme: Terminal, daraja: str
) -> None:
    def asked(**variables: str) -> tuple[int, dict[str, dict[str, str]]]:
        outcome = acme.run("doctor", "--json", **variables)
        return outcome.exit_code, {finding["name"]: finding for finding in outcome.value}

    acme.set_credentials("simulator", "174379", KEYS)
    code, found = asked(SIMULATOR_URL="http://127.0.0.1:1")
    assert (code, found["daraja_reached_simulator"]["status"]) == (0, "warning")
    assert "mpesa-mcp simulator" in found["daraja_reached_simulator"]["fix"]
    code, found = asked(SIMULATOR_URL=daraja)
    assert (code, found["daraja_reached_simulator"]["status"], "credentials_acme" in found) == (0, "ok", False)
    acme.set_credentials("simulator", "174379", KEYS | {"consumer_secret": "wrong"})
    code, found = asked(SIMULATOR_URL=daraja)
    assert (code, found["credentials_acme"]["status"]) == (1, "problem")
    assert "174379" in found["credentials_acme"]["message"]
    assert "wrong" not in str(found)
