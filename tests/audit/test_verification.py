"""Verifying: whatever the owner of the database does to a chain is found, with its place."""

import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from datetime import date, timedelta

import pytest

from mpesa_mcp.audit.chain import START, link_hash, text_of
from mpesa_mcp.audit.sealing import seal
from mpesa_mcp.audit.verification import Break, Verdict, Why, export, verify
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.values import FrozenClock

from .factories import ORG, OTHER, act, is_one_chain, seals_of, tamper

pytestmark = pytest.mark.anyio

FIVE = [f"pay_{number}" for number in range(1, 6)]
THIRD = f"(SELECT entry_id FROM audit_seals WHERE organization_id = '{ORG}' AND sequence = 3)"
# What is done to the third of five, and what is said of it.
DEEDS: dict[str, tuple[tuple[str, ...], Why]] = {
    "an entry is changed": ((f"UPDATE audit_entries SET actor = 'nobody' WHERE id = {THIRD}",), Why.CHANGED),
    "an entry is moved in time": (
        (f"UPDATE audit_entries SET at = '2026-11-01 00:00:00.000000' WHERE id = {THIRD}",),
        Why.CHANGED,
    ),
    "what an entry did not say is added": (
        (f"UPDATE audit_entries SET reasons = 'Approved.' WHERE id = {THIRD}",),
        Why.CHANGED,
    ),
    "what an entry says it changed is another": (
        (f"""UPDATE audit_entries SET after = '{{"limit": 1}}' WHERE id = {THIRD}""",),
        Why.CHANGED,
    ),
    "an entry is removed": ((f"DELETE FROM audit_entries WHERE id = {THIRD}",), Why.MISSING),
    "a link's hash is changed": (("UPDATE audit_seals SET hash = 'f' WHERE sequence = 3",), Why.SEAL_CHANGED),
    "a link's hash of the entry is changed": (
        ("UPDATE audit_seals SET entry_hash = 'f' WHERE sequence = 3",),
        Why.SEAL_CHANGED,
    ),
    "a link is led to nothing": (("UPDATE audit_seals SET entry_id = 'aud_none' WHERE sequence = 3",), Why.MISSING),
    "a link is removed": (("DELETE FROM audit_seals WHERE sequence = 3",), Why.GAP),
    "an entry is removed with its link": (
        (f"DELETE FROM audit_entries WHERE id = {THIRD}", "DELETE FROM audit_seals WHERE sequence = 3"),
        Why.GAP,
    ),
    "an entry is removed with its link, and the others move up": (
        (
            f"DELETE FROM audit_entries WHERE id = {THIRD}",
            "DELETE FROM audit_seals WHERE sequence = 3",
            "UPDATE audit_seals SET sequence = 3 WHERE sequence = 4",
            "UPDATE audit_seals SET sequence = 4 WHERE sequence = 5",
        ),
        Why.SEAL_CHANGED,
    ),
}


async def five(store: Store, clock: FrozenClock) -> list[str]:
    """Five sealed entries; their ids in the order of the chain."""
    for subject in FIVE:
        await act(store, clock, subject)
        clock.advance(timedelta(minutes=1))
    await seal(store, clock, ORG)
    return [each.entry_id for each in await seals_of(store)]


async def lines(exported: AsyncIterator[str]) -> list[dict[str, object]]:
    return [json.loads(line) async for line in exported]


async def test_an_untouched_chain_is_intact_and_says_its_head(store: Store, clock: FrozenClock) -> None:
    assert await verify(store, clock, ORG) == Verdict(entries=0, head=None, first_broken=None)
    await five(store, clock)
    head = (await seals_of(store))[-1].hash
    assert await verify(store, clock, ORG) == Verdict(entries=5, head=head, first_broken=None)


async def test_what_is_not_sealed_yet_is_sealed_first(store: Store, clock: FrozenClock) -> None:
    await act(store, clock, *FIVE)
    verdict = await verify(store, clock, ORG)
    assert (verdict.intact, verdict.entries) == (True, 5)
    assert await is_one_chain(store)


@pytest.mark.parametrize("deed", DEEDS)
async def test_tampering_is_found_with_its_place(
    store: Store, settings: Settings, clock: FrozenClock, deed: str
) -> None:
    ids = await five(store, clock)
    statements, why = DEEDS[deed]
    await tamper(settings, *statements)
    verdict = await verify(store, clock, ORG)
    entry_id = {
        "a link is led to nothing": "aud_none",
        "an entry is removed with its link, and the others move up": ids[3],
    }.get(deed, ids[2])
    assert verdict.first_broken == Break(3, None if why is Why.GAP else entry_id, why)
    assert (verdict.intact, verdict.entries) == (False, 2)
    # It is no less broken the second time.
    assert (await verify(store, clock, ORG)).first_broken == verdict.first_broken


@pytest.mark.sqlite
@pytest.mark.parametrize(("column", "nonsense"), [("at", "yesterday"), ("detail", "{")])
async def test_an_entry_that_cannot_be_read_any_more_was_changed(
    store: Store, settings: Settings, clock: FrozenClock, column: str, nonsense: str
) -> None:
    ids = await five(store, clock)
    await tamper(settings, f"UPDATE audit_entries SET {column} = '{nonsense}' WHERE id = '{ids[2]}'")
    verdict = await verify(store, clock, ORG)
    assert (verdict.entries, verdict.first_broken) == (2, Break(3, ids[2], Why.CHANGED))
    exported = await lines(export(store, clock, ORG))
    assert [line.get("unreadable") for line in exported] == [None, None, True, None, None, None]


@pytest.mark.parametrize("sequence", [1, 5])
async def test_the_first_and_the_last_are_no_exception(
    store: Store, settings: Settings, clock: FrozenClock, sequence: int
) -> None:
    ids = await five(store, clock)
    await tamper(settings, f"UPDATE audit_entries SET decision = 'allowed' WHERE id = '{ids[sequence - 1]}'")
    assert (await verify(store, clock, ORG)).first_broken == Break(sequence, ids[sequence - 1], Why.CHANGED)


async def test_a_chain_is_not_broken_by_what_happens_to_another(
    store: Store, settings: Settings, clock: FrozenClock
) -> None:
    await five(store, clock)
    await act(store, clock, "theirs", organization_id=OTHER)
    await verify(store, clock, OTHER)
    await tamper(settings, f"DELETE FROM audit_entries WHERE organization_id = '{OTHER}'")
    assert (await verify(store, clock, ORG)).intact
    assert not (await verify(store, clock, OTHER)).intact


async def test_an_entry_is_sealed_even_if_nothing_says_that_it_waits(
    store: Store, settings: Settings, clock: FrozenClock
) -> None:
    await act(store, clock, *FIVE)
    await tamper(settings, "DELETE FROM audit_unsealed")
    assert (await verify(store, clock, ORG)).entries == 5
    assert await is_one_chain(store)


async def test_a_chain_that_grows_after_a_break_is_still_broken_there(
    store: Store, settings: Settings, clock: FrozenClock
) -> None:
    ids = await five(store, clock)
    await tamper(settings, f"UPDATE audit_entries SET actor = 'nobody' WHERE id = '{ids[2]}'")
    await act(store, clock, "pay_6")
    assert (await verify(store, clock, ORG)).first_broken == Break(3, ids[2], Why.CHANGED)
    assert len(await seals_of(store)) == 6


async def test_an_export_is_enough_to_compute_the_chain_again(store: Store, clock: FrozenClock) -> None:
    await five(store, clock)
    *entries, last = await lines(export(store, clock, ORG))
    previous = START
    for number, entry in enumerate(entries, start=1):
        stated = entry.pop("hash")
        assert entry.pop("sequence") == number
        previous = link_hash(previous, number, text_of(entry))
        assert stated == previous
    assert [entry["subject"] for entry in entries] == FIVE
    assert last == {"head": previous}


async def test_an_export_of_some_days_has_their_entries_and_the_head_of_all(store: Store, clock: FrozenClock) -> None:
    await act(store, clock, "on the 16th")
    clock.advance(timedelta(days=1))
    await act(store, clock, "on the 17th")
    clock.advance(timedelta(hours=13))  # after midnight in Nairobi
    await act(store, clock, "on the 18th")
    the_17th = date(2026, 11, 17)
    one, head = await lines(export(store, clock, ORG, first=the_17th, last=the_17th))
    assert (one["subject"], one["sequence"]) == ("on the 17th", 2)
    assert head == {"head": (await seals_of(store))[-1].hash}
    assert len(await lines(export(store, clock, ORG, first=date.min, last=date.max))) == 4
    assert len(await lines(export(store, clock, ORG, first=the_17th))) == 3


async def test_an_export_shows_where_something_is_missing(store: Store, settings: Settings, clock: FrozenClock) -> None:
    ids = await five(store, clock)
    await tamper(settings, f"DELETE FROM audit_entries WHERE id = '{ids[2]}'")
    third = (await lines(export(store, clock, ORG)))[2]
    assert (third["id"], third["missing"], third["sequence"]) == (ids[2], True, 3)


async def test_an_empty_chain_exports_its_missing_head_alone(store: Store, clock: FrozenClock) -> None:
    assert await lines(export(store, clock, ORG)) == [{"head": None}]


async def test_thousands_of_entries_are_verified_in_flat_memory(
    store: Store, settings: Settings, clock: FrozenClock, record_property: Callable[[str, object], None]
) -> None:
    """Six times the entries take no more memory than the few batches held at once."""
    peaks = []
    for first, last in ((1, 1_000), (1_001, 6_000)):
        await tamper(settings, *many(first, last))
        await seal(store, clock, ORG)
        tracemalloc.start()
        began = time.perf_counter()
        verdict = await verify(store, clock, ORG)
        seconds = time.perf_counter() - began
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (verdict.intact, verdict.entries) == (True, 6_000)
    assert peaks[1] < 2 * peaks[0]
    # Several times what it takes when nobody watches its memory.
    record_property("seconds", round(seconds, 2))
    record_property("peak_bytes", peaks)


def many(first: int, last: int) -> tuple[str, ...]:
    """Statements that record so many entries at one stroke, and have them wait for their seals."""
    numbers = f"WITH RECURSIVE n (i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})"
    at = "2026-11-16 08:30:00.000000"
    return (
        "INSERT INTO audit_entries (organization_id, id, at, actor, action, subject, decision, detail) "
        f"{numbers} SELECT '{ORG}', 'aud_' || i, '{at}', 'key:key_a', 'payment.opened', 'pay_' || i, 'done', "
        """'{"amount": "1500.00"}' FROM n""",
        f"INSERT INTO audit_unsealed (organization_id, at, entry_id) {numbers} "
        f"SELECT '{ORG}', '{at}', 'aud_' || i FROM n",
        # Nobody else tells PostgreSQL in time that these tables have grown.
        "ANALYZE",
    )
