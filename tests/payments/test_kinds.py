"""What a kind of payment needs so that nothing about it is forgotten. A type checker does not look into these."""

from collections.abc import Mapping
from typing import Any, get_args

import pytest

from mpesa_mcp.callbacks import statements
from mpesa_mcp.console import words
from mpesa_mcp.payments import dispatch, schedule
from mpesa_mcp.payments.batches import repeats
from mpesa_mcp.payments.held import sending_of
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.requests import PaymentRequest
from mpesa_mcp.payments.states import PaymentKind

from .factories import a_payout, a_push, a_reversal

BLANK: Mapping[str, Any] = dict.fromkeys(Payment.model_fields, "")
TABLES: Mapping[str, Mapping[PaymentKind, object]] = {
    "what is sent": dispatch._OPERATIONS,
    "how a callback is read": statements._READ,
    "how long it waits": schedule.QUEUE_LIFE,
    "when it is asked about": schedule._QUESTIONS,
    "when it is called silent": schedule._SILENT_AFTER,
    "whether a row of a batch may repeat it": repeats._PAYS_A_PERSON,
    "what people call it": words.KINDS,
    "how it is asked for": {request.kind: request for request in get_args(PaymentRequest)},
}


@pytest.mark.parametrize("table", TABLES)
def test_every_kind_has_its_place_in_each_table_of_kinds(table: str) -> None:
    assert TABLES[table].keys() == set(PaymentKind)


@pytest.mark.parametrize("request_", [a_push(), a_payout(), a_reversal("SKE0000AA1")], ids=lambda each: each.kind)
def test_whatever_a_caller_chose_is_stored_and_part_of_what_people_approve(request_: PaymentRequest) -> None:
    payment = Payment(**BLANK)
    before = sending_of(payment)
    for name, chosen in request_.columns().items():
        assert name in Payment.model_fields
        setattr(payment, name, chosen or "chosen")
        after = sending_of(payment)
        assert after != before, f"{name} is in no digest"
        before = after
