"""The Principal: what a role and a list of tools allow, and that knowing it costs no database library."""

import subprocess
import sys

import pytest

from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.values import Environment, Role


def principal(role: Role, tools: frozenset[str] | None = None) -> Principal:
    return Principal(
        organization_id="org_a",
        actor="key:key_a",
        role=role,
        environment=Environment.SIMULATOR,
        tools=tools,
        name="assistant",
    )


@pytest.mark.parametrize(
    ("role", "least", "allowed"),
    [
        (Role.USER, Role.USER, True),
        (Role.USER, Role.MANAGER, False),
        (Role.MANAGER, Role.USER, True),
        (Role.ORG_ADMIN, Role.MANAGER, True),
        (Role.SUPER_ADMIN, Role.USER, False),
    ],
)
def test_a_role_opens_the_tools_of_its_rank(role: Role, least: Role, allowed: bool) -> None:
    assert principal(role).may_use("stk_push", least) is allowed


def test_a_list_of_tools_narrows_the_role_and_never_widens_it() -> None:
    narrowed = principal(Role.USER, frozenset({"stk_push", "b2c_payment"}))
    assert narrowed.may_use("stk_push", Role.USER)
    assert not narrowed.may_use("get_payment", Role.USER)
    assert not narrowed.may_use("b2c_payment", Role.MANAGER)


def test_importing_the_principal_loads_no_database_library() -> None:
    look = (
        "import sys, mpesa_mcp.identity.principal; "
        "sys.exit(any(name in sys.modules for name in ('sqlalchemy', 'sqlmodel', 'alembic', 'httpx2')))"
    )
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0
