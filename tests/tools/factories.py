"""Phones and arguments for the tests of this folder."""

from typing import Any

import httpx2
from mcp.types import CallToolResult

from mpesa_mcp.app.local import LocalPlatform
from tests.clients import TLS

# Arguments each tool accepts as they are.
ACCEPTED: dict[str, dict[str, Any]] = {
    "stk_push": {"phone": "0700000001", "amount": 100, "reference": "INV-1", "wait_seconds": 0},
    "b2c_payment": {
        "phone": "0700000002",
        "amount": 100,
        "idempotency_key": "supplier-1",
        "remarks": "Tomatoes",
        "wait_seconds": 0,
    },
    "check_balance": {"max_age_seconds": 60, "wait_seconds": 0},
    "reverse": {
        "receipt": "UKN7Z8CJ88",
        "reason": "Ordered twice",
        "idempotency_key": "refund-1",
        "wait_seconds": 0,
    },
    "transaction_status": {"receipt": "UKN7Z8CJ88", "wait_seconds": 0},
    "bulk_payment": {
        "name": "Suppliers",
        "payments": [{"phone": "0700000003", "amount": 100, "reference": "SUP-1", "remarks": "Tomatoes"}],
        "purpose": "business",
        "idempotency_key": "suppliers-1",
        "expected_total": 100,
        "expected_count": 1,
    },
    "get_batch": {"batch_id": "bat_00000000000000000000000000"},
    "get_payment": {"id": "supplier-1", "wait_seconds": 0},
    "list_payments": {"limit": 20},
    "transaction_report": {"from_date": "2026-01-01", "to_date": "2026-12-31"},
    "get_limits": {},
    "list_approvals": {"status": "pending"},
}


def a_row(phone: str, **values: Any) -> dict[str, Any]:
    """A row of bulk_payment."""
    return {"phone": phone, "amount": 100, "reference": "SUP-1", "remarks": "Tomatoes", **values}


def phone(last_two: str, *, group: int = 0) -> str:
    """A number whose last two digits choose what happens to its payments."""
    return f"2547000{group:03d}{last_two}"


def text_of(result: CallToolResult) -> str:
    return "\n".join(getattr(part, "text", "") for part in result.content)


async def asked_of_simulator(platform: LocalPlatform, path: str) -> list[dict[str, Any]]:
    """`ledger` or `deliveries`, as the simulator keeps them."""
    async with httpx2.AsyncClient(verify=TLS, base_url=platform.simulator_url) as http:
        kept: list[dict[str, Any]] = (await http.get(f"/_sim/{path}")).json()
    return kept
