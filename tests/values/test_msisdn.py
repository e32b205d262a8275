"""Phone numbers: every form people type, and none that could pay somebody else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpesa_mcp.values import InvalidMsisdn, Msisdn
from mpesa_mcp.values.msisdn import ACCEPTED, mask_digits, mask_within


@pytest.mark.parametrize(
    "typed",
    [
        "0700000020",
        "700000020",
        "254700000020",
        "+254700000020",
        "00254700000020",
        "2540700000020",
        "+2540700000020",
        "002540700000020",
        "+254 (0) 700 000 020",
        "0700 000 020",
        "0700-000-020",
        "0700.000.020",
        "(0700) 000020",
        "+254 700-000 020",
        "  0700000020\n",
        "0700\u00a0000\u00a0020",
        "0700\u2013000\u2013020",
    ],
)
def test_one_number_is_read_from_every_form_people_type(typed: str) -> None:
    assert Msisdn.parse(typed).digits == "254700000020"


@pytest.mark.parametrize("prefix", ["070", "071", "072", "074", "075", "077", "079", "010", "011", "014", "018"])
def test_every_mobile_range_of_kenya_is_accepted(prefix: str) -> None:
    assert Msisdn.parse(prefix + "0000020").digits == f"254{prefix[1:]}0000020"
    assert Msisdn.parse(f"+254{prefix[1:]}0000020").digits == f"254{prefix[1:]}0000020"


@pytest.mark.parametrize("prefix", ["012", "013", "015", "016", "017", "019", "020", "041", "080", "081", "090", "06"])
def test_a_range_that_holds_no_mobile_line_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidMsisdn):
        Msisdn.parse(prefix.ljust(3, "0") + "0000020")


REFUSED = {
    "nothing": "",
    "spaces": "   ",
    "a plus": "+",
    "a country alone": "+254",
    "a digit short": "070000002",
    "a digit long": "07000000200",
    "a digit long with the country": "+2547000000200",
    "the country twice": "254254700000020",
    "a zero before the country": "0254700000020",
    "Uganda": "+256700000020",
    "Tanzania": "00255700000020",
    "Britain": "+447000000020",
    "America": "+1 700 000 0020",
    "a trunk zero after a plus": "+0700000020",
    "two plus signs": "++254700000020",
    "letters": "0700CALLME",
    "letters of another script": "07000000\u0431\u0431",
    "a name": "Jane 0700000020",
    "a short number": "*334#",
    "an extension": "0700000020 ext 5",
    "an extension with x": "0700000020x5",
    "an extension with a hash": "0700000020#5",
    "an extension as in a link": "0700000020;ext=5",
    "a link": "tel:0700000020",
    "two numbers": "0700000020 0700000021",
    "two numbers with a slash": "0700000020/0700000021",
    "two numbers with a comma": "0700000020,0700000021",
    "two numbers with a semicolon": "0700000020;0700000021",
    "two numbers on two lines": "0700000020\n0700000021",
    "a number and a digit": "0700000020/1",
    "a decimal": "700000020.0",
    "a power of ten": "7.00000020e8",
    "underscores": "700_000_020",
    "too much text": "0700" + " " * 30 + "000020",
}


@pytest.mark.parametrize("typed", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_kenyan_mobile_number_is_refused(typed: str) -> None:
    with pytest.raises(InvalidMsisdn):
        Msisdn.parse(typed)


def test_a_refusal_says_what_is_accepted_and_never_what_was_typed() -> None:
    with pytest.raises(InvalidMsisdn) as refused:
        Msisdn.parse("0200009876")
    message = refused.value.message
    assert message == ACCEPTED
    assert "9876" not in message
    for form in ("0712345678", "+254712345678", "011x", "014x", "018x"):
        assert form in message
    assert refused.value.field == "phone"
    assert refused.value.code == "invalid_phone"


def test_a_number_prints_masked() -> None:
    phone = Msisdn.parse("0700000020")
    for printed in (str(phone), repr(phone), f"{phone}", phone.masked, repr([phone])):
        assert "2547*****020" in printed
        assert "700000020" not in printed


@pytest.mark.parametrize(("digits", "masked"), [("", ""), ("12345678", "********"), ("0700000020", "0700***020")])
def test_masking_hides_short_numbers_whole(digits: str, masked: str) -> None:
    assert mask_digits(digits) == masked


@given(st.from_regex(r"(7\d|1[0148])\d{7}", fullmatch=True, alphabet="0123456789"))
def test_whatever_is_accepted_is_read_again_as_itself(national: str) -> None:
    phone = Msisdn.parse("0" + national)
    assert phone.digits == "254" + national
    assert Msisdn.parse(phone.digits) == phone


@given(st.text(max_size=20))
def test_any_text_is_a_number_of_twelve_digits_or_refused(text: str) -> None:
    try:
        digits = Msisdn.parse(text).digits
    except InvalidMsisdn:
        return
    assert len(digits) == 12
    assert digits.isascii()
    assert digits.isdigit()
    assert digits.startswith(("2547", "25410", "25411", "25414", "25418"))


@pytest.mark.parametrize(
    ("text", "masked"),
    [("254712 000001x", "2547** ***001x"), ("712345678", "7123**678"), ("nonsense", "nonsense"), ("12", "12")],
)
def test_what_may_nearly_be_a_number_is_masked_like_one(text: str, masked: str) -> None:
    assert mask_within(text) == masked
