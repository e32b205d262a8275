"""Which tools there are, in the order they are listed, with the least role of each."""

from functools import cache

from mpesa_mcp.tools.approvals import list_approvals
from mpesa_mcp.tools.batches import bulk_payment, get_batch
from mpesa_mcp.tools.limits import get_limits
from mpesa_mcp.tools.money import b2c_payment, reverse, stk_push
from mpesa_mcp.tools.questions import check_balance, transaction_status
from mpesa_mcp.tools.records import get_payment, list_payments, transaction_report
from mpesa_mcp.tools.server import OfferedTool, offer
from mpesa_mcp.values import Role


@cache
def all_tools() -> list[OfferedTool]:
    """The same each time: making their schemas takes as long as a hundred calls."""
    return [
        offer(stk_push, title="Collect by STK push", least_role=Role.USER),
        offer(b2c_payment, title="Pay a person", least_role=Role.MANAGER, destructive=True),
        offer(check_balance, title="Check balances", least_role=Role.MANAGER, read_only=True),
        offer(reverse, title="Reverse a received payment", least_role=Role.MANAGER, destructive=True),
        offer(transaction_status, title="Ask about a receipt", least_role=Role.MANAGER, read_only=True),
        offer(get_payment, title="Read one payment", least_role=Role.USER, read_only=True, open_world=False),
        offer(list_payments, title="List payments", least_role=Role.USER, read_only=True, open_world=False),
        offer(bulk_payment, title="Pay many people", least_role=Role.MANAGER, destructive=True),
        offer(get_batch, title="Read a batch", least_role=Role.USER, read_only=True, open_world=False),
        offer(transaction_report, title="Report totals", least_role=Role.USER, read_only=True, open_world=False),
        offer(get_limits, title="Read limits", least_role=Role.USER, read_only=True, open_world=False),
        offer(list_approvals, title="List approvals", least_role=Role.USER, read_only=True, open_world=False),
    ]
