"""Single values of Daraja's lists: names over spelling, parties, money, times, receipts, phones."""

from datetime import UTC, datetime

import pytest

from mpesa_mcp.daraja.parameters import Parameters, Party, read_money, read_phone, read_receipt, read_time
from mpesa_mcp.values import Kes


def test_names_are_matched_over_spelling_and_may_come_twice() -> None:
    pairs = [{"Key": "Occassion"}, {"Key": "occasion", "Value": "a"}, {"Key": "Originator Conversation ID", "Value": 7}]
    read = Parameters.read({"Item": [*pairs, {"Key": "Occasion", "Value": "b"}]}, item="Item")
    assert read.first("Occasion") == "a"
    assert read.all("Occasion") == ("a", "b")
    assert read.all("absent") == ()
    assert Parameters.read(None, item="Item") == Parameters()


@pytest.mark.parametrize(
    ("text", "number", "name"),
    [
        ("254700000012 - JOHN JAMES DOE", "254700000012", "JOHN JAMES DOE"),
        ("0700000012 - John  doe", "254700000012", "John doe"),
        ("254700000012\u2013JANE-ANN DOE", "254700000012", "JANE-ANN DOE"),
        ("600992 - Safaricom Daraja 992", "600992", "Safaricom Daraja 992"),
        ("2547****0012 - J D", None, "J D"),
        ("254700000012", "254700000012", None),
        ("JANE DOE", None, "JANE DOE"),
    ],
)
def test_a_party_is_split_at_its_first_dash(text: str, number: str | None, name: str | None) -> None:
    party = Party.read(text)
    assert party is not None
    assert (party.number, party.name, party.raw) == (number, name, text)
    assert "DOE" not in repr(party)


@pytest.mark.parametrize(
    ("text", "cents"),
    [
        ("10", 1000),
        ("1.0E7", 1000000000),
        ("-22.40", -2240),
        ("1E-2", None),
        ("1E99", None),
        (None, None),
        ("{Amount={CurrencyCode=KES, MinimumAmount=618683, BasicAmount=6186.83}}", 618683),
        ("{}", None),
    ],
)
def test_money_is_read_without_floats(text: str | None, cents: int | None) -> None:
    assert read_money(text) == (None if cents is None else Kes(cents))


@pytest.mark.parametrize("text", ["20240230000000", "2024070622485", "32.01.2024 00:00:00", "0001", "", None])
def test_an_impossible_time_is_none(text: str | None) -> None:
    assert read_time(text) is None


def test_times_are_nairobi_times() -> None:
    assert (
        read_time("06.07.2024 22:48:52") == read_time("20240706224852") == datetime(2024, 7, 6, 19, 48, 52, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    "text", ["OAK0000000", "SKE0000000", "UHP0000000", "OA90000000", "", "short", "SG632 MUAB", None]
)
def test_a_placeholder_is_no_receipt(text: str | None) -> None:
    assert read_receipt(text) is None


@pytest.mark.parametrize("text", ["2547*****126", "a" * 64, "25470000001", "+1 555", None])
def test_a_masked_phone_is_none(text: str | None) -> None:
    assert read_phone(text) is None
