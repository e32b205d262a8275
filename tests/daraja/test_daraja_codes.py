"""Result codes mean what daraja/codes.md says, row by row, and nothing that is not in it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mpesa_mcp.daraja.codes import (
    Meaning,
    Verdict,
    b2c_meaning,
    balance_meaning,
    reversal_meaning,
    status_meaning,
    stk_meaning,
    transaction_status_verdict,
)

CODES_MD = Path(__file__).parents[2] / "docs" / "daraja" / "codes.md"
MEANINGS = (stk_meaning, b2c_meaning, reversal_meaning, balance_meaning, status_meaning)


def rows(section: str) -> list[tuple[str, str, str]]:
    """(code, money, final) of a section's table, one per code named in the first column."""
    text = CODES_MD.read_text("utf-8").split(f"\n## {section}.", 1)[1].split("\n## ", 1)[0]
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 7 and re.match(r"[A-Z0-9]", cells[0]) and cells[0] != "Code":
            found += [(code, cells[3], cells[4]) for code in re.split(r"\s*[,/]\s*", cells[0])]
    return found


def verdict_of(money: str, final: str) -> Verdict:
    if final.strip("*") == "no":
        return Verdict.UNKNOWN if "unknown" in money and "*" in money else Verdict.PENDING
    if money == "yes":
        return Verdict.SUCCEEDED
    if "query" in money or "(S)" in money:
        return Verdict.UNKNOWN  # no more than a text or an inference says that nothing moved
    return Verdict.FAILED if money.startswith("no") else Verdict.UNKNOWN


def test_the_documented_tables_are_found_whole() -> None:
    assert len(rows("1")) == 29
    assert len(rows("3")) == 34


@pytest.mark.parametrize(("code", "money", "final"), rows("1"))
def test_an_stk_code_means_what_its_row_says(code: str, money: str, final: str) -> None:
    assert stk_meaning(code).verdict is verdict_of(money, final)


@pytest.mark.parametrize(("code", "money", "final"), rows("3"))
def test_a_payout_code_means_what_its_row_says(code: str, money: str, final: str) -> None:
    assert b2c_meaning(code).verdict is verdict_of(money, final)


@pytest.mark.parametrize("code", ["15", "17", "26", "2029"])
def test_payout_codes_that_do_not_tell_about_this_payout_stay_unknown(code: str) -> None:
    assert b2c_meaning(code).verdict is Verdict.UNKNOWN


def test_an_already_reversed_payment_is_no_success_of_this_reversal() -> None:
    assert reversal_meaning("R000001").verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("code", ["1", "11", "21", "2001", "2006", "2028", "8006", "R000002"])
def test_a_refused_reversal_failed(code: str) -> None:
    assert reversal_meaning(code).verdict is Verdict.FAILED


@pytest.mark.parametrize("code", ["18", "22", "25", "100000001", "00.002.1001"])
def test_the_generic_table_never_fails_a_movement_but_does_fail_a_question(code: str) -> None:
    assert b2c_meaning(code).verdict is Verdict.UNKNOWN
    assert reversal_meaning(code).verdict is Verdict.UNKNOWN
    assert balance_meaning(code).verdict is Verdict.FAILED
    assert status_meaning(code).verdict is Verdict.FAILED


@pytest.mark.parametrize("meaning", MEANINGS)
def test_a_cached_request_is_pending_everywhere(meaning: Callable[[str], Meaning]) -> None:
    assert meaning("100000000").verdict is Verdict.PENDING


@pytest.mark.parametrize("code", ["", "00", "0.0", "-0", "200", "1000", "4000", "success", "31337", "O"])
def test_a_code_that_is_not_listed_is_neither_success_nor_failure(code: str) -> None:
    for meaning in MEANINGS:
        assert meaning(code).verdict is Verdict.UNKNOWN


def test_only_zero_succeeds() -> None:
    for meaning in MEANINGS:
        listed = [str(number) for number in range(10_000)] + ["SFC_IC0003", "R000001", "R000002"]
        assert [code for code in listed if meaning(code).verdict is Verdict.SUCCEEDED] == ["0"]


def test_codes_compare_as_stripped_strings() -> None:
    assert stk_meaning(" 1032 ") is stk_meaning("1032")


def test_reasons_are_one_line_of_ours_and_never_repeat_the_code() -> None:
    for meaning in MEANINGS:
        for code in [*map(str, range(10_000)), "SFC_IC0003", "R000001"]:
            reason = meaning(code).reason
            assert reason.endswith(".")
            assert "\n" not in reason
            assert len(code) < 2 or not re.search(rf"\b{code}\b", reason)


@pytest.mark.parametrize(
    ("word", "verdict"),
    [
        ("Completed", Verdict.SUCCEEDED),
        ("Cancelled", Verdict.FAILED),
        ("Declined", Verdict.FAILED),
        ("Expired", Verdict.FAILED),
        ("Initiated", Verdict.PENDING),
        ("Authorized", Verdict.PENDING),
        ("Pending  authorized", Verdict.PENDING),
        ("Completed?", Verdict.UNKNOWN),
        ("", Verdict.UNKNOWN),
        (None, Verdict.UNKNOWN),
    ],
)
def test_a_transaction_status_is_success_only_when_completed(word: str | None, verdict: Verdict) -> None:
    assert transaction_status_verdict(word) is verdict
