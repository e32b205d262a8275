"""Whom a rule is for: the organization, a role, one API key, one tool. Pure."""

from mpesa_mcp.errors import InputError
from mpesa_mcp.policy.rules import ORGANIZATION, Rule
from mpesa_mcp.values import MEMBER_ROLES, Role

COLLECTING = "tool:stk_push"
TOOLS = ("b2c_payment", "bulk_payment", "reverse", "stk_push")
_MAX_SCOPE = 60
_ABOUT_PAYOUTS = (
    "approval_above",
    "second_approval_above",
    "confirm_in_chat_above",
    "first_payment",
    "cool_off_hours",
    "largest_batch",
)


def scopes_of(*, actor: str, role: Role, tool: str) -> tuple[str, ...]:
    """The scopes that a payment falls into which this actor asks for through this tool.

    Only a rule for stk_push itself is about money that comes in.
    """
    if tool == "stk_push":
        return (COLLECTING,)
    by_key = (actor,) if actor.startswith("key:") else ()
    return (ORGANIZATION, f"role:{role}", *by_key, f"tool:{tool}")


def checked_scope(scope: str) -> str:
    """Raises InputError unless it is one of the four forms; whether a key exists is not known here."""
    kind, _, name = scope.partition(":")
    known = {
        ORGANIZATION: not name and scope == ORGANIZATION,
        "role": name in MEMBER_ROLES,
        "tool": name in TOOLS,
        "key": name.startswith("key_") and name.isascii() and len(scope) <= _MAX_SCOPE,
    }
    if not known.get(kind, False):
        raise InputError(
            "scope must be organization, role:manager, key:<key id> or tool:<tool>, where tool is one of: "
            f"{', '.join(TOOLS)}.",
            field="scope",
        )
    return scope


def checked_for_scope(scope: str, rule: Rule) -> None:
    """Raises InputError for what a rule of this scope cannot say."""
    for name in _ABOUT_PAYOUTS if scope == COLLECTING else ():
        if getattr(rule, name) is not None:
            raise InputError(f"{name} is for money that leaves; a rule for stk_push has no such field.", field=name)
