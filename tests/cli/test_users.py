"""`user` and `org invite` as the operator of the machine runs them."""

from .conftest import Terminal

PASSWORD = "correct horse battery"


def test_people_are_made_changed_and_sent_away_by_id_or_address(terminal: Terminal) -> None:
    terminal.ask("org", "create", "Acme Ltd", "--slug", "acme")
    who = ("--org", "acme", "--email", "jane@acme.example", "--role", "org_admin", "--password-stdin")
    made = terminal.ask("user", "create", *who, typed=f"{PASSWORD}\n")
    assert (made["email"], made["role"], made["deactivated_at"]) == ("jane@acme.example", "org_admin", None)
    assert PASSWORD not in str(made)
    short = terminal.run("user", "create", *who, typed="short\n")
    assert (short.exit_code, short.stdout) == (1, "")
    only = terminal.run("user", "update", "jane@acme.example", "--org", "acme", "--role", "user")
    assert only.exit_code == 1
    assert "only org_admin" in only.stderr
    invited = terminal.ask("org", "invite", "--org", "acme", "--email", "joe@acme.example", "--role", "manager")
    assert invited["link"].endswith(f"/console/invitation#{invited['token']}")
    other = ("--org", "acme", "--email", "ann@acme.example", "--role", "org_admin", "--password-stdin")
    terminal.ask("user", "create", *other, typed=PASSWORD)
    assert terminal.ask("user", "update", made["user_id"], "--org", "acme", "--role", "user")["role"] == "user"
    assert terminal.ask("user", "deactivate", "jane@acme.example", "--org", "acme")["deactivated_at"] is not None
    assert terminal.ask("user", "update", made["user_id"], "--org", "acme", "--activate")["deactivated_at"] is None
    assert terminal.run("user", "update", made["user_id"], "--org", "acme").exit_code == 2
    listed = terminal.ask("user", "list", "--org", "acme")
    assert [user["email"] for user in listed] == ["jane@acme.example", "ann@acme.example"]
    table = terminal.run("user", "list", "--org", "acme")
    assert "ann@acme.example" in table.stdout


def test_the_platforms_people_are_super_admins_and_nobody_else_is(terminal: Terminal) -> None:
    terminal.ask("org", "create", "Acme Ltd", "--slug", "acme")
    root = ("--email", "root@host.example", "--password-stdin")
    made = terminal.ask("user", "create", "--platform", "--role", "super_admin", *root, typed=PASSWORD)
    assert terminal.ask("user", "list", "--platform") == [made]
    assert (
        terminal.run("user", "create", "--org", "acme", "--role", "super_admin", *root, typed=PASSWORD).exit_code == 1
    )
    assert terminal.run("user", "create", "--platform", "--role", "user", *root, typed=PASSWORD).exit_code == 1
    second = ("--email", "second@host.example", "--password-stdin")
    assert terminal.ask("user", "create", "--platform", *second, typed=PASSWORD)["role"] == "super_admin"
    assert terminal.run("user", "create", "--org", "acme", *second, typed=PASSWORD).exit_code == 2
    assert terminal.run("user", "list").exit_code == 2
    assert terminal.run("user", "list", "--org", "acme", "--platform").exit_code == 2
