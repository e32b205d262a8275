"""Time is UTC inside and Nairobi at the edges; ids are unique, sortable and safe in a callback path."""

import re
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpesa_mcp.settings import forbidden_word
from mpesa_mcp.values import (
    FrozenClock,
    Role,
    SystemClock,
    eat_day_bounds,
    eat_today,
    new_id,
    random_hex,
    sha256_hex,
)
from mpesa_mcp.values.clock import daraja_timestamp
from mpesa_mcp.values.ids import BASE62, base62, jitter, random_base62, random_bytes


def test_the_system_clock_is_aware_and_in_utc() -> None:
    assert SystemClock().now().utcoffset() == timedelta(0)


def test_a_frozen_clock_moves_only_when_told(clock: FrozenClock) -> None:
    before = clock.now()
    assert clock.now() == before
    clock.advance(timedelta(seconds=5))
    assert clock.now() == before + timedelta(seconds=5)


@pytest.mark.parametrize(
    ("hour", "minute", "day"), [(20, 59, date(2026, 11, 16)), (21, 0, date(2026, 11, 17)), (0, 0, date(2026, 11, 16))]
)
def test_the_day_changes_at_midnight_in_nairobi(hour: int, minute: int, day: date) -> None:
    assert eat_today(FrozenClock(datetime(2026, 11, 16, hour, minute, tzinfo=UTC))) == day


def test_a_day_in_nairobi_lasts_from_nine_in_the_evening_utc_to_the_next() -> None:
    start, end = eat_day_bounds(date(2026, 11, 16), date(2026, 11, 16))
    assert start == datetime(2026, 11, 15, 21, tzinfo=UTC)
    assert end == datetime(2026, 11, 16, 21, tzinfo=UTC)
    assert start.utcoffset() == end.utcoffset() == timedelta(0)


def test_days_beyond_all_moments_are_the_first_or_the_last_that_have_some() -> None:
    start, end = eat_day_bounds(date.min, date.max)
    assert (start.year, end.year) == (1970, 9999)


def test_a_span_of_days_includes_both_ends_over_a_month_and_a_year() -> None:
    start, end = eat_day_bounds(date(2026, 12, 31), date(2027, 1, 1))
    assert (start, end) == (datetime(2026, 12, 30, 21, tzinfo=UTC), datetime(2027, 1, 1, 21, tzinfo=UTC))


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001 - made aware in the test
def test_every_moment_lies_within_its_own_day_in_nairobi(naive: datetime) -> None:
    at = naive.replace(tzinfo=UTC)
    day = eat_today(FrozenClock(at))
    start, end = eat_day_bounds(day, day)
    assert start <= at < end


def test_daraja_is_told_the_time_in_nairobi() -> None:
    assert daraja_timestamp(datetime(2026, 11, 16, 21, 5, 9, tzinfo=UTC)) == "20261117000509"


def test_ids_name_their_noun_and_never_repeat() -> None:
    made = [new_id("pay") for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(re.fullmatch(r"pay_[0-9a-hjkmnp-tv-z]{26}", one) for one in made)


def test_ids_sort_by_the_time_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([1_700_000_000_000, 1_700_000_000_001, 1_800_000_000_000, 3_000_000_000_000])
    monkeypatch.setattr("time.time_ns", lambda: next(moments) * 1_000_000)
    made = [new_id("pay") for _ in range(4)]
    assert made == sorted(made)
    assert next(moments, None) is None


@given(st.integers(1, 64))
def test_random_hex_has_the_bits_asked_for_and_no_word_safaricom_refuses(octets: int) -> None:
    text = random_hex(octets * 8)
    assert re.fullmatch(r"[0-9a-f]+", text)
    assert len(text) == octets * 2
    assert forbidden_word(text) is None


def test_randomness_does_not_repeat() -> None:
    assert len({random_hex(128) for _ in range(500)}) == 500
    assert len({random_bytes(16) for _ in range(500)}) == 500
    assert len({random_base62(30) for _ in range(500)}) == 500


@given(st.integers(0, 2**160), st.integers(1, 40))
def test_base62_is_a_number_padded(number: int, length: int) -> None:
    text = base62(number, length=length)
    assert len(text) >= length
    value = 0
    for digit in text:
        value = value * 62 + BASE62.index(digit)
    assert value == number


def test_jitter_stays_within_its_spread() -> None:
    drawn = [jitter(0.2) for _ in range(2000)]
    assert all(0.8 <= factor <= 1.2 for factor in drawn)
    assert min(drawn) < 0.9 < 1.1 < max(drawn)


def test_sha256_is_the_published_one() -> None:
    assert sha256_hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("role", "includes"),
    [
        (Role.USER, {Role.USER}),
        (Role.MANAGER, {Role.USER, Role.MANAGER}),
        (Role.ORG_ADMIN, {Role.USER, Role.MANAGER, Role.ORG_ADMIN}),
        (Role.SUPER_ADMIN, set()),
    ],
)
def test_a_role_includes_those_below_it_and_the_platforms_none(role: Role, includes: set[Role]) -> None:
    assert {needed for needed in Role if role.at_least(needed)} == includes
