"""Amounts: integers of cents, bounded, and no way in for a float."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpesa_mcp.errors import InputError
from mpesa_mcp.values import Kes
from mpesa_mcp.values.money import MAX_CENTS

amounts = st.integers(-MAX_CENTS, MAX_CENTS).map(Kes)


@pytest.mark.parametrize(
    ("text", "cents"),
    [
        ("10", 1000),
        ("10.5", 1050),
        ("10.00", 1000),
        ("10.05", 1005),
        ("10.5000", 1050),
        (" 1500.00 ", 150_000),
        ("-22.40", -2240),
        ("-0.01", -1),
        ("0", 0),
        ("007", 700),
        ("10000000000.00", MAX_CENTS),
    ],
)
def test_decimal_text_is_read_to_the_cent(text: str, cents: int) -> None:
    assert Kes.from_decimal(text).cents == cents


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ".5",
        "5.",
        "1,500",
        "1 500",
        "1e3",
        "+5",
        "--5",
        "- 5",
        "0x10",
        "NaN",
        "inf",
        "ten",
        "KES 10",
        "10/-",
        "1_000",
        "1.2.3",
        "5\n6",
        "99999999999999",
    ],
)
def test_text_that_is_no_amount_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(InputError) as refused:
        Kes.from_decimal(text)
    assert refused.value.message == "An amount is written like 1500 or 1500.00."
    assert refused.value.field == "amount"


@pytest.mark.parametrize("text", ["10.005", "0.001", "-1.999"])
def test_a_fraction_of_a_cent_is_refused_not_rounded(text: str) -> None:
    with pytest.raises(InputError, match="at most two decimals"):
        Kes.from_decimal(text)


@pytest.mark.parametrize("cents", [MAX_CENTS + 1, -MAX_CENTS - 1, 10**30])
def test_an_amount_beyond_the_bounds_is_refused(cents: int) -> None:
    with pytest.raises(InputError, match="out of range"):
        Kes(cents)
    assert Kes(MAX_CENTS).cents == MAX_CENTS
    assert Kes(-MAX_CENTS).cents == -MAX_CENTS


@pytest.mark.parametrize("text", ["10000000000.01", "-10000000000.01", "9999999999999"])
def test_decimal_text_beyond_the_bounds_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="out of range"):
        Kes.from_decimal(text)


@pytest.mark.parametrize("value", [1.0, 10.5, float("nan"), True, False, "100", None, Decimal(10)])
def test_nothing_but_an_integer_becomes_an_amount(value: Any) -> None:
    with pytest.raises(TypeError):
        Kes(value)
    with pytest.raises(TypeError):
        Kes.from_shillings(value)


def test_whole_shillings_are_read_and_given_back() -> None:
    amount = Kes.from_shillings(1500)
    assert amount.cents == 150_000
    assert amount.is_whole_shillings
    assert amount.shillings == 1500


def test_cents_never_reach_daraja() -> None:
    amount = Kes(150_001)
    assert not amount.is_whole_shillings
    with pytest.raises(InputError, match="whole shillings only"):
        _ = amount.shillings


@pytest.mark.parametrize(
    ("cents", "text"), [(0, "0.00"), (5, "0.05"), (150_000, "1500.00"), (-5, "-0.05"), (-2240, "-22.40")]
)
def test_an_amount_leaves_as_a_decimal_string(cents: int, text: str) -> None:
    assert str(Kes(cents)) == text


def test_an_amount_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Kes(100).cents = 200  # type: ignore[misc] # the type refuses it, too


@given(amounts)
def test_every_amount_survives_the_way_out_and_in(amount: Kes) -> None:
    assert Kes.from_decimal(str(amount)) == amount


@given(amounts, amounts)
def test_amounts_are_ordered_as_their_cents(one: Kes, other: Kes) -> None:
    assert (one < other) is (one.cents < other.cents)
