"""What every route answers to whom. A route that is missing here fails `test_permissions.py`.

`PUBLIC` needs no token. Otherwise: who gets past the permission; everybody else gets 403, and nobody 401.
"""

PUBLIC: frozenset[str] = frozenset({"everybody"})
# People alone, by the least role.
PERSONS = frozenset({"user", "manager", "org_admin", "super_admin"})

ROUTES: dict[tuple[str, str], frozenset[str]] = {
    ("POST", "/auth/login"): PUBLIC,
    ("POST", "/auth/refresh"): PUBLIC,
    ("POST", "/auth/logout"): PUBLIC,
    ("POST", "/auth/password"): PERSONS,
    ("POST", "/auth/invitations/accept"): PUBLIC,
}
