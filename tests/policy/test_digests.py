"""The digest of what will be sent: the same for the same, and another one for anything else."""

from dataclasses import fields, replace
from typing import Any

import pytest

from mpesa_mcp.policy.digests import Sending, digest_of

PAYOUT = Sending(
    kind="b2c",
    environment="production",
    shortcode="600998",
    phone="254712345678",
    amount_cents=25_000_00,
    reference="",
    description="",
    remarks="Tomatoes",
    purpose="business",
    occasion="",
    reversed_receipt=None,
)


@pytest.mark.parametrize("name", [field.name for field in fields(Sending)])
def test_another_value_in_any_field_is_another_digest(name: str) -> None:
    value = getattr(PAYOUT, name)
    other: Any = {name: value + 1 if isinstance(value, int) else f"{value or ''}1"}
    changed = replace(PAYOUT, **other)
    assert digest_of([changed]) != digest_of([PAYOUT])


def test_the_digest_is_the_same_in_every_process_and_version() -> None:
    """Written down: what people approved yesterday must still fit after an upgrade."""
    assert digest_of([PAYOUT]) == "41326db758615984722e5a96b570eb6c14d33fd5607ece0c6b026b2d78693b05"


def test_what_moves_from_one_field_or_line_to_the_next_is_another_digest() -> None:
    other = replace(PAYOUT, phone="254700000001")
    different = [
        [PAYOUT],
        [PAYOUT, other],
        [other, PAYOUT],
        [PAYOUT, other, other],
        [replace(PAYOUT, remarks="Tomatoes, ripe", occasion="")],
        [replace(PAYOUT, remarks="Tomatoes", occasion=", ripe")],
        [replace(PAYOUT, remarks='Tomatoes","shortcode":"600999')],
        [replace(PAYOUT, remarks="Tomatoes\n")],
    ]
    assert len({digest_of(sendings) for sendings in different}) == len(different)
