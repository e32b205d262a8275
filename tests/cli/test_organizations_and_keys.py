"""`org` and `key`: what they print is a contract, and a key is printed once."""

import getpass
import os
import pwd
import sqlite3

import pytest

from .conftest import KEYS, Terminal


@pytest.fixture
def acme(terminal: Terminal) -> Terminal:
    terminal.ask("org", "create", "Acme Ltd", "--slug", "acme")
    return terminal


def test_an_organization_is_made_listed_and_shown(terminal: Terminal) -> None:
    assert terminal.ask("org", "list") == []
    made = terminal.ask("org", "create", "Acme Ltd", "--slug", "acme")
    assert set(made) == {"organization_id", "slug", "name", "status"}
    assert (made["slug"], made["name"], made["status"]) == ("acme", "Acme Ltd", "active")
    assert terminal.ask("org", "list") == [made]
    shown = terminal.ask("org", "show", "--org", "acme")
    assert {name: shown[name] for name in made} == made
    assert shown["created_at"].endswith("Z")


def test_a_refusal_is_one_message_on_stderr_and_exit_code_1(acme: Terminal) -> None:
    taken = acme.run("org", "create", "Other", "--slug", "acme", "--json")
    assert (taken.exit_code, taken.stdout) == (1, "")
    assert taken.stderr == "This slug is taken. Choose another one.\n"
    absent = acme.run("org", "show", "--org", "nobody")
    assert (absent.exit_code, absent.stdout) == (1, "")
    assert absent.stderr == "No such organization. Check the slug; mpesa-mcp org list names those there are.\n"


def test_an_organization_is_renamed_and_keeps_its_slug(acme: Terminal) -> None:
    renamed = acme.ask("org", "rename", "Acme Traders", "--org", "acme")
    assert (renamed["slug"], renamed["name"]) == ("acme", "Acme Traders")
    assert acme.run("org", "rename", "two\nlines", "--org", "acme").exit_code == 1
    assert acme.ask("org", "list") == [renamed]


def test_an_organization_is_suspended_and_frozen_and_its_status_is_one_word(acme: Terminal) -> None:
    statuses = [
        acme.ask("org", act, "--org", "acme")["status"] for act in ("freeze", "suspend", "unfreeze", "activate")
    ]
    assert statuses == ["frozen", "suspended", "suspended", "frozen"]
    shown = acme.ask("org", "show", "--org", "acme")
    assert shown["frozen_by"] == shown["unfreeze_asked_by"] == f"operator:{pwd.getpwuid(os.getuid()).pw_name}"
    assert shown["frozen_at"].endswith("Z")
    acme.ask("org", "suspend", "--org", "acme", "--reason", "It asked for a pause")
    told = acme.ask("audit", "list", "--org", "acme", "--action", "organization.suspended")
    assert {str(each["detail"]) for each in told} == {"None", str({"reason": "It asked for a pause"})}


def test_the_operator_proposes_to_lift_a_freeze_and_is_told_what_is_missing(acme: Terminal) -> None:
    refused = acme.run("org", "unfreeze", "--org", "acme")
    assert (refused.exit_code, refused.stderr) == (1, "The organization is not frozen. Nothing was changed.\n")
    acme.ask("org", "freeze", "--org", "acme", "--reason", "A laptop was stolen")
    [told] = acme.ask("audit", "list", "--org", "acme", "--action", "organization.frozen")
    assert told["detail"] == {"reason": "A laptop was stolen"}
    for _ in range(2):
        proposed = acme.run("org", "unfreeze", "--org", "acme", "--json")
        assert (proposed.exit_code, proposed.value["status"]) == (0, "frozen")
        assert "org_admins, signed in" in proposed.stderr
    assert acme.ask("org", "show", "--org", "acme")["status"] == "frozen"


def test_an_organization_is_made_with_the_invitation_of_its_first_admin(terminal: Terminal) -> None:
    made = terminal.run("org", "create", "Acme Ltd", "--slug", "acme", "--admin-email", "jane@example.com", "--json")
    first = made.value["invitation"]
    assert (first["email"], first["role"]) == ("jane@example.com", "org_admin")
    assert first["link"].endswith(f"/console/invitation#{first['token']}")
    assert "only time" in made.stderr
    wrong = terminal.run("org", "create", "Other", "--slug", "other", "--admin-email", "nobody")
    assert wrong.exit_code == 1
    assert [each["slug"] for each in terminal.ask("org", "list")] == ["acme"]


def test_invitations_are_listed_and_taken_back_by_id_or_address(acme: Terminal) -> None:
    invited = [
        acme.ask("org", "invite", "--org", "acme", "--email", email, "--role", "user")
        for email in ("jane@acme.example", "joe@acme.example")
    ]
    listed = acme.ask("org", "invitations", "--org", "acme")
    assert [(each["email"], each["status"]) for each in listed] == [
        ("jane@acme.example", "open"),
        ("joe@acme.example", "open"),
    ]
    assert all(each["token"] not in str(listed) for each in invited)
    for named in (invited[0]["invitation_id"], "JOE@acme.example"):
        assert acme.ask("org", "uninvite", "--org", "acme", named)["status"] == "revoked"
    table = acme.run("org", "invitations", "--org", "acme").stdout
    assert (table.count("revoked"), table.count("open")) == (2, 0)
    absent = acme.run("org", "uninvite", "--org", "acme", "nobody@acme.example")
    assert (absent.exit_code, "id or address" in absent.stderr) == (1, True)


@pytest.mark.parametrize("command", ["org invite", "key create"])
def test_a_role_of_the_platform_is_not_offered_inside_an_organization(acme: Terminal, command: str) -> None:
    named = ("--email", "eve@acme.example") if "invite" in command else ("--name", "n")
    outcome = acme.run(*command.split(), "--org", "acme", *named, "--role", "super_admin")
    assert outcome.exit_code == 2
    for role in ("user", "manager", "org_admin"):
        assert role in outcome.stderr


def test_an_organization_is_closed_for_good(acme: Terminal) -> None:
    assert acme.ask("org", "close", "--org", "acme")["status"] == "closed"
    for words in (("close",), ("activate",), ("freeze",), ("rename", "Other"), ("invite", "--email", "j@example.com")):
        refused = acme.run("org", *words, "--org", "acme")
        assert (refused.exit_code, refused.stderr) == (
            1,
            "The organization is closed. Its records can be read; nothing else can be done.\n",
        )
    assert acme.ask("org", "show", "--org", "acme")["closed_at"].endswith("Z")


def test_support_grants_are_listed(acme: Terminal) -> None:
    assert acme.ask("support", "list") == acme.ask("support", "list", "--org", "acme") == []
    assert acme.run("support", "list").stdout == "none\n"


def test_what_an_organization_chose_is_changed_one_by_one(acme: Terminal) -> None:
    changed = acme.ask("org", "set", "--org", "acme", "--default-environment", "sandbox")
    assert (changed["default_environment"], changed["confirm_payouts_from"]) == ("sandbox", "10000.00")
    assert acme.run("org", "set", "--org", "acme").exit_code == 2


@pytest.mark.parametrize(
    "words",
    [
        ("org", "create", "Acme"),
        ("org", "show"),
        ("key", "create", "--org", "acme", "--role", "emperor", "--name", "n"),
        ("key", "create", "--org", "acme", "--role", "user", "--name", "n", "--expires-days", "0"),
        ("key", "create", "--org", "acme", "--role", "user", "--name", "n", "--environment", "moon"),
        ("credentials", "set", "--org", "acme", "--environment", "sandbox", "--shortcode", "174379"),
    ],
)
def test_wrong_usage_is_exit_code_2(terminal: Terminal, words: tuple[str, ...]) -> None:
    assert terminal.run(*words).exit_code == 2


def test_a_wrong_setting_is_refused_before_anything_is_touched(bare_terminal: Terminal) -> None:
    outcome = bare_terminal.run("org", "list", DATABSE_URL="sqlite+aiosqlite:///x.db")
    assert outcome.exit_code == 1
    assert "MPESA_MCP_DATABSE_URL" in outcome.stderr
    assert not bare_terminal.data_dir.exists()


def test_a_key_is_printed_when_it_is_made_and_never_again(acme: Terminal) -> None:
    made = acme.ask("key", "create", "--org", "acme", "--role", "manager", "--name", "assistant")
    assert {"key", "key_id", "prefix", "role", "environment"} <= set(made)
    assert (made["role"], made["environment"]) == ("manager", "simulator")
    assert made["key"].startswith(made["prefix"])
    for words in (("key", "list"), ("key", "revoke", made["key_id"])):
        for shape in ((), ("--json",)):
            outcome = acme.run(*words, "--org", "acme", *shape)
            assert outcome.exit_code == 0
            assert made["key"] not in outcome.stdout + outcome.stderr


def test_a_list_of_keys_says_which_still_work(acme: Terminal) -> None:
    options = ("--org", "acme", "--role", "user", "--tools", "stk_push, get_payment", "--expires-days", "30")
    made = acme.ask("key", "create", "--name", "till", *options)
    [listed] = acme.ask("key", "list", "--org", "acme")
    assert "key" not in listed
    assert (listed["key_id"], listed["usable"], listed["tools"]) == (made["key_id"], True, ["get_payment", "stk_push"])
    assert listed["expires_at"] == made["expires_at"] is not None
    acme.ask("key", "revoke", "--org", "acme", made["prefix"])
    [listed] = acme.ask("key", "list", "--org", "acme")
    assert listed["usable"] is False
    assert listed["revoked_at"] is not None


def test_a_rotated_key_has_a_successor_and_the_list_names_it(acme: Terminal) -> None:
    words = ("--org", "acme", "--role", "user", "--name", "till one", "--tools", "stk_push")
    old = acme.ask("key", "create", *words)
    new = acme.ask("key", "rotate", "--org", "acme", old["key_id"], "--overlap-hours", "2")
    assert new["key"] != old["key"]
    assert (new["name"], new["tools"], new["role"]) == (old["name"], old["tools"], old["role"])
    first, second = acme.ask("key", "list", "--org", "acme")
    assert (first["replaced_by"], first["usable"], second["usable"]) == (new["key_id"], True, True)
    again = acme.run("key", "rotate", "--org", "acme", old["key_id"])
    assert (again.exit_code, new["key_id"] in again.stderr) == (1, True)
    last = acme.run("key", "rotate", "--org", "acme", new["key_id"], "--overlap-hours", "1")
    assert "works for 1 hour more" in last.stderr


def test_a_key_is_for_the_only_environment_with_credentials_unless_it_is_named(acme: Terminal) -> None:
    acme.set_credentials("sandbox", "174379", KEYS)
    create = ("key", "create", "--org", "acme", "--role", "user", "--name", "n")
    assert acme.ask(*create)["environment"] == "sandbox"
    assert acme.ask(*create, "--environment", "simulator")["key"].startswith("mpk_sim_")
    acme.set_credentials("simulator", "174379", KEYS)
    several = acme.run(*create)
    assert several.exit_code == 1
    assert "(simulator, sandbox): say which environment this is for" in several.stderr


def test_an_unknown_tool_is_refused(acme: Terminal) -> None:
    outcome = acme.run("key", "create", "--org", "acme", "--role", "user", "--name", "n", "--tools", "stk_psuh")
    assert outcome.exit_code == 1
    assert "stk_push" in outcome.stderr
    assert acme.ask("key", "list", "--org", "acme") == []


def test_the_audit_names_the_user_of_the_operating_system(acme: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    assert getpass.getuser() == "somebody-else"
    acme.ask("key", "create", "--org", "acme", "--role", "user", "--name", "n")
    connection = sqlite3.connect(acme.data_dir / "mpesa-mcp.db")
    actors = {actor for (actor,) in connection.execute("SELECT actor FROM audit_entries")}
    connection.close()
    assert actors == {f"operator:{pwd.getpwuid(os.getuid()).pw_name}"}


def test_tables_for_people_name_what_they_list(acme: Terminal) -> None:
    acme.ask("org", "create", "[bold]Brackets[/bold]", "--slug", "brackets")
    listed = acme.run("org", "list")
    assert "[bold]Brackets[/bold]" in listed.stdout
    assert "acme" in listed.stdout
    assert acme.run("key", "list", "--org", "acme").stdout == "none\n"
