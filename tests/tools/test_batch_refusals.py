"""What an assistant is told of a batch that is refused: what it must ask the user before it tries anything else."""

import pytest
from mcp.client import Client

from tests.clients import call, refusal

from .factories import ACCEPTED, a_row, phone

pytestmark = pytest.mark.anyio


async def test_who_was_paid_the_same_a_few_days_ago_is_asked_about_before_anything_else(client: Client) -> None:
    again = phone("07", group=77)
    paid = {"phone": again, "amount": 100, "idempotency_key": "tomatoes-77", "remarks": "Tomatoes", "wait_seconds": 0}
    await call(client, "b2c_payment", **paid)
    bulk = ACCEPTED["bulk_payment"] | {"payments": [a_row(again)]}
    told = refusal(await client.call_tool("bulk_payment", bulk))
    assert (told["code"], told["advice"]) == ("batch_invalid", "ask_a_person")
    assert "Ask the user whether it is meant: if not, leave it out" in told["message"]
