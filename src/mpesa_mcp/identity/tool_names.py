"""The names of all tools, for limiting a key or a plan to some of them.

They are a published contract, so identity may know them without knowing the tools; a key made today may name any.
"""

from collections.abc import Collection

from mpesa_mcp.errors import InputError

TOOL_NAMES = frozenset(
    {
        "stk_push",
        "b2c_payment",
        "check_balance",
        "reverse",
        "transaction_report",
        "get_payment",
        "list_payments",
        "transaction_status",
        "bulk_payment",
        "get_batch",
        "get_limits",
        "list_approvals",
    }
)


def checked_tools(tools: Collection[str]) -> frozenset[str]:
    """At least one tool, and none that does not exist. Raises InputError."""
    if not tools or not TOOL_NAMES.issuperset(tools):
        raise InputError(f"tools must be some of: {', '.join(sorted(TOOL_NAMES))}.", field="tools")
    return frozenset(tools)
