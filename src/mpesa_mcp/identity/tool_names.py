"""The names of all tools, for limiting a key to some of them.

They are a published contract, so identity may know them without knowing the tools; a key made today may name any.
"""

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
