"""What a permission says to whom it does not let in."""

import pytest

from mpesa_mcp.identity.permissions import Permission, PersonNeeded
from mpesa_mcp.identity.principal import NotAllowed, Principal
from mpesa_mcp.values import Environment, Role

APPROVING = Permission(Role.ORG_ADMIN, person=True)


def a_key(role: Role) -> Principal:
    return Principal("org_a", "key:key_a", role, Environment.SIMULATOR, None, "a key")


def test_a_key_without_the_role_is_not_told_to_get_one_with_it_where_only_people_may() -> None:
    with pytest.raises(NotAllowed, match="an API key of any role cannot"):
        APPROVING.check(a_key(Role.MANAGER))
    with pytest.raises(PersonNeeded):
        APPROVING.check(a_key(Role.ORG_ADMIN))
    with pytest.raises(NotAllowed, match=r"administers the organization\.$"):
        Permission(Role.ORG_ADMIN).check(a_key(Role.MANAGER))
