"""What every route answers to whom. A route that is missing here fails `test_permissions.py`.

`PUBLIC` needs no token. Otherwise: who gets past the permission; everybody else gets 403, and nobody 401.
"""

PUBLIC: frozenset[str] = frozenset({"everybody"})
# People alone, by the least role.
PERSONS = frozenset({"user", "manager", "org_admin", "super_admin"})
MANAGING_PERSONS = frozenset({"manager", "org_admin"})
# Whoever has a role inside the organization; a key or an assistant's session has one, too.
MEMBERS = frozenset({"user", "manager", "org_admin", "org_admin_key", "org_admin_on_mcp"})
MANAGERS = MEMBERS - {"user"}
ADMINS = frozenset({"org_admin", "org_admin_key", "org_admin_on_mcp"})
ADMIN_PERSON = frozenset({"org_admin"})
PLATFORM = frozenset({"super_admin"})

ROUTES: dict[tuple[str, str], frozenset[str]] = {
    ("POST", "/auth/login"): PUBLIC,
    ("POST", "/auth/refresh"): PUBLIC,
    ("POST", "/auth/logout"): PUBLIC,
    ("POST", "/auth/password"): PERSONS,
    ("POST", "/auth/invitations/read"): PUBLIC,
    ("POST", "/auth/invitations/accept"): PUBLIC,
    ("GET", "/organizations"): PLATFORM,
    ("POST", "/organizations"): PLATFORM,
    ("GET", "/organizations/{organization_id}"): ADMINS | PLATFORM,
    ("PATCH", "/organizations/{organization_id}"): ADMIN_PERSON,
    ("POST", "/organizations/{organization_id}/invitations"): PLATFORM,
    ("GET", "/organizations/{organization_id}/invitations"): PLATFORM,
    ("POST", "/organizations/{organization_id}/invitations/{invitation_id}/revoke"): PLATFORM,
    ("POST", "/organizations/{organization_id}/freeze"): ADMINS | PLATFORM,
    ("POST", "/organizations/{organization_id}/unfreeze"): ADMIN_PERSON,
    ("POST", "/organizations/{organization_id}/suspend"): PLATFORM,
    ("POST", "/organizations/{organization_id}/activate"): PLATFORM,
    ("POST", "/organizations/{organization_id}/close"): PLATFORM,
    ("GET", "/organizations/{organization_id}/support-grants"): ADMINS | PLATFORM,
    ("POST", "/organizations/{organization_id}/support-grants"): ADMIN_PERSON,
    ("POST", "/organizations/{organization_id}/support-grants/{grant_id}/revoke"): ADMIN_PERSON,
    # While a support grant stands, as it does in these tests.
    ("GET", "/organizations/{organization_id}/payments"): PLATFORM,
    ("GET", "/organizations/{organization_id}/payments/{payment_id}"): PLATFORM,
    ("GET", "/users"): ADMINS,
    ("POST", "/users"): ADMIN_PERSON,
    ("GET", "/users/invitations"): ADMINS,
    ("POST", "/users/invitations/{invitation_id}/revoke"): ADMIN_PERSON,
    ("GET", "/users/{user_id}"): ADMINS,
    ("PATCH", "/users/{user_id}"): ADMIN_PERSON,
    ("POST", "/users/{user_id}/deactivate"): ADMIN_PERSON,
    ("POST", "/users/{user_id}/activate"): ADMIN_PERSON,
    ("GET", "/api-keys"): ADMINS,
    ("POST", "/api-keys"): ADMIN_PERSON,
    ("POST", "/api-keys/{key_id}/rotate"): ADMIN_PERSON,
    ("POST", "/api-keys/{key_id}/revoke"): ADMIN_PERSON,
    ("GET", "/organizations/{organization_id}/credentials"): ADMINS,
    ("PUT", "/organizations/{organization_id}/credentials"): ADMIN_PERSON,
    ("POST", "/organizations/{organization_id}/credentials/check"): ADMIN_PERSON,
    ("PUT", "/organizations/{organization_id}/credentials/defaults"): ADMIN_PERSON,
    ("DELETE", "/organizations/{organization_id}/credentials"): ADMIN_PERSON,
    ("GET", "/payments"): MEMBERS,
    ("GET", "/payments/{payment_id}"): MEMBERS,
    ("POST", "/payments/{payment_id}/resolve"): MANAGING_PERSONS,
    ("POST", "/payments/{payment_id}/withdraw"): MANAGING_PERSONS,
    ("GET", "/approvals"): MEMBERS,
    ("GET", "/approvals/{approval_id}"): MEMBERS,
    ("POST", "/approvals/{approval_id}/approve"): ADMIN_PERSON,
    ("POST", "/approvals/{approval_id}/decline"): ADMIN_PERSON,
    ("GET", "/batches"): MEMBERS,
    ("POST", "/batches"): MANAGERS,
    ("GET", "/batches/{batch_id}"): MEMBERS,
    ("GET", "/batches/{batch_id}/result"): MEMBERS,
    ("POST", "/batches/{batch_id}/pause"): MANAGERS,
    ("POST", "/batches/{batch_id}/resume"): MANAGING_PERSONS,
    ("POST", "/batches/{batch_id}/cancel"): MANAGERS,
    ("POST", "/batches/{batch_id}/retry"): MANAGING_PERSONS,
    ("GET", "/reports/transactions"): MEMBERS,
    ("GET", "/spend-rules"): MEMBERS,
    ("GET", "/spend-rules/limits"): MEMBERS,
    ("PUT", "/spend-rules/{scope}"): ADMIN_PERSON,
    ("DELETE", "/spend-rules/{scope}"): ADMIN_PERSON,
    ("GET", "/spend-rules/proposals"): ADMINS,
    ("POST", "/spend-rules/proposals/{proposal_id}/confirm"): ADMIN_PERSON,
    ("POST", "/spend-rules/proposals/{proposal_id}/decline"): ADMIN_PERSON,
    ("GET", "/plans"): MEMBERS | PLATFORM,
    ("POST", "/plans"): PLATFORM,
    ("GET", "/organizations/{organization_id}/subscription"): ADMINS | PLATFORM,
    ("PUT", "/organizations/{organization_id}/subscription"): PLATFORM,
    ("PUT", "/organizations/{organization_id}/rate-limits"): PLATFORM,
    ("GET", "/usage"): MANAGERS | PLATFORM,
    ("GET", "/organizations/{organization_id}/usage"): MANAGERS | PLATFORM,
    ("GET", "/audit"): ADMINS | PLATFORM,
}

# What lets money out, and is refused whenever money must not leave; whatever stops it never is.
PAYING_OUT: frozenset[tuple[str, str]] = frozenset(
    {
        ("POST", "/approvals/{approval_id}/approve"),
        ("POST", "/batches"),
        ("POST", "/batches/{batch_id}/resume"),
        ("POST", "/batches/{batch_id}/retry"),
    }
)
