"""Ids have the formats of 2026 (daraja/api.md §0) and do not repeat within a run."""

import re
from datetime import UTC, datetime

import pytest

from mpesa_mcp.simulator.identifiers import Identifiers
from mpesa_mcp.values import FrozenClock

CLOCK = FrozenClock(datetime(2026, 1, 15, 21, 30, 5, tzinfo=UTC))  # half past midnight of the 16th in Nairobi


@pytest.fixture
def ids() -> Identifiers:
    return Identifiers(3, CLOCK)


def test_formats(ids: Identifiers) -> None:
    assert re.fullmatch(r"[A-Za-z0-9]{28}", ids.access_token())
    assert re.fullmatch(r"[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}[0-9]{3,7}", ids.merchant_request_id())
    assert re.fullmatch(r"[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}[0-9]{3,7}", ids.request_id())
    assert re.fullmatch(r"ws_CO_16012026003005[0-9]{3}700000012", ids.checkout_request_id("254700000012"))
    assert re.fullmatch(r"AG_20260116_[0-9]{10}[0-9a-z]{9}[g-z]", ids.conversation_id())
    assert re.fullmatch(r"UAG[0-9A-Z]{7}", ids.receipt())
    assert ids.placeholder() == "UAG0000000"


@pytest.mark.parametrize(
    ("at", "letters"),
    [
        (datetime(2017, 12, 19, 9, tzinfo=UTC), "LLJ"),
        (datetime(2024, 7, 2, 9, tzinfo=UTC), "SG2"),
        (datetime(2025, 12, 31, 9, tzinfo=UTC), "TLV"),
        (datetime(2026, 8, 25, 9, tzinfo=UTC), "UHP"),
        (datetime(2025, 12, 31, 21, tzinfo=UTC), "UA1"),
    ],
)
def test_the_first_letters_of_a_receipt_are_the_nairobi_day(at: datetime, letters: str) -> None:
    assert Identifiers(1, FrozenClock(at)).receipt()[:3] == letters


def test_ids_of_one_second_and_one_phone_differ(ids: Identifiers) -> None:
    assert len({ids.checkout_request_id("254700000012") for _ in range(1000)}) == 1000
    assert len({ids.receipt() for _ in range(10_000)}) == 10_000
    assert len({ids.conversation_id() for _ in range(10_000)}) == 10_000


def test_more_tokens_do_not_change_the_receipts(ids: Identifiers) -> None:
    other = Identifiers(3, CLOCK)
    for _ in range(9):
        other.access_token()
        other.request_id()
    assert [ids.receipt() for _ in range(5)] == [other.receipt() for _ in range(5)]
