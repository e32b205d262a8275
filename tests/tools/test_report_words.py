"""What a report says in words about money of which nobody knows whether it moved."""

import pytest

from mpesa_mcp.payments.reports import Tally
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.tools.records import Tallied, tallied, tally_line


def line(*statuses: PaymentStatus) -> str:
    tally = Tally()
    for status in statuses:
        tally.add(PaymentKind.B2C, status, 2, 1_140_00)
    return tally_line("x", Tallied(**tallied(tally)))


@pytest.mark.parametrize("status", PaymentStatus)
def test_that_no_money_moved_is_said_only_where_it_is_certain(status: PaymentStatus) -> None:
    assert ("no money moved" in line(status)) == status.nothing_moved


def test_the_amount_that_nobody_knows_about_is_named_beside_what_moved() -> None:
    assert line(PaymentStatus.UNKNOWN).endswith("; KES 1,140.00 of which it is not known whether it moved.")
    both = line(PaymentStatus.SUCCEEDED, PaymentStatus.DISPUTED)
    assert both.endswith("; paid out KES 1,140.00, KES 1,140.00 of which it is not known whether it moved.")
