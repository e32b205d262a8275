"""How many calls of Daraja a worker makes at once, beside how many connections there are for them."""

from mpesa_mcp.app.worker import _WORK
from mpesa_mcp.daraja.transport import LIMITS
from mpesa_mcp.payments.dispatch import send_payment
from mpesa_mcp.payments.inquiry_dispatch import send_inquiry
from mpesa_mcp.payments.reconciliation import ask_about


def test_a_worker_has_a_connection_for_each_call_it_makes_at_once() -> None:
    """Else the slow calls of some organizations would keep the calls of others from connecting."""
    calling = [kind.at_once for kind in _WORK if kind.do in {send_payment, ask_about, send_inquiry}]
    assert len(calling) == 3
    assert LIMITS.max_connections is not None
    assert sum(calling) < LIMITS.max_connections
