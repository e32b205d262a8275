"""Which page is shown to whom. A page that is missing here fails `test_pages.py`."""

EVERYBODY: frozenset[str] = frozenset({"nobody"})
ADMIN = frozenset({"org_admin"})
MANAGERS = ADMIN | {"manager"}
MEMBERS = MANAGERS | {"user"}
PLATFORM = frozenset({"super_admin"})

PAGES: dict[tuple[str, str], frozenset[str]] = {
    ("GET", "/"): MEMBERS | PLATFORM,
    ("GET", "/sign-in"): EVERYBODY,
    ("POST", "/sign-in"): EVERYBODY,
    ("POST", "/sign-out"): MEMBERS | PLATFORM,
    ("GET", "/approvals"): MEMBERS,
    ("GET", "/approvals/{approval_id}"): MEMBERS,
    ("POST", "/approvals/{approval_id}/approve"): ADMIN,
    ("POST", "/approvals/{approval_id}/decline"): ADMIN,
    ("GET", "/payments"): MEMBERS,
    ("GET", "/payments/{payment_id}"): MEMBERS,
    ("POST", "/payments/{payment_id}/withdraw"): MANAGERS,
    ("POST", "/payments/{payment_id}/resolve"): MANAGERS,
    ("GET", "/batches"): MEMBERS,
    ("GET", "/batches/{batch_id}"): MEMBERS,
    ("GET", "/batches/{batch_id}/result.csv"): MEMBERS,
    ("POST", "/batches/{batch_id}/pause"): MANAGERS,
    ("POST", "/batches/{batch_id}/resume"): MANAGERS,
    ("POST", "/batches/{batch_id}/cancel"): MANAGERS,
    ("POST", "/batches/{batch_id}/retry"): MANAGERS,
    ("GET", "/rules"): MEMBERS,
    ("GET", "/rules/{scope}"): ADMIN,
    ("POST", "/rules/{scope}"): ADMIN,
    ("POST", "/rules/proposals/{proposal_id}/confirm"): ADMIN,
    ("POST", "/rules/proposals/{proposal_id}/decline"): ADMIN,
    ("GET", "/keys"): ADMIN,
    ("POST", "/keys/{key_id}/revoke"): ADMIN,
    ("GET", "/organizations"): PLATFORM,
    ("GET", "/invitation"): EVERYBODY,
    ("GET", "/console.css"): EVERYBODY,
    ("GET", "/console.js"): EVERYBODY,
    ("GET", "/htmx.min.js"): EVERYBODY,
    ("GET", "/icon.svg"): EVERYBODY,
    ("GET", "/invitation.js"): EVERYBODY,
}

# What lets money out: the same things as over REST.
PAYING_OUT: frozenset[tuple[str, str]] = frozenset(
    {
        ("POST", "/approvals/{approval_id}/approve"),
        ("POST", "/batches/{batch_id}/resume"),
        ("POST", "/batches/{batch_id}/retry"),
    }
)
