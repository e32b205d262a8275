"""Lists of entries: newest first, narrowed, a page at a time."""

from datetime import date, timedelta

import pytest

from mpesa_mcp import audit
from mpesa_mcp.audit.reading import EntryFilter, list_entries
from mpesa_mcp.errors import InputError
from mpesa_mcp.store.engine import Store
from mpesa_mcp.values import FrozenClock

from .factories import ORG, OTHER, act, entries_of

pytestmark = pytest.mark.anyio


async def subjects(store: Store, **narrowed: str | date) -> list[str]:
    page = await list_entries(store, ORG, EntryFilter(**narrowed), limit=100)  # type: ignore[arg-type] # named by tests
    return [entry.subject for entry in page.entries]


async def test_pages_follow_each_other_without_overlap_although_moments_are_equal(
    store: Store, clock: FrozenClock
) -> None:
    await act(store, clock, "1", "2", "3")
    clock.advance(timedelta(minutes=1))
    await act(store, clock, "4", "5")
    seen: list[str] = []
    cursor = None
    for size in (2, 2, 1):
        page = await list_entries(store, ORG, EntryFilter(), limit=2, cursor=cursor)
        assert len(page.entries) == size
        seen += [entry.subject for entry in page.entries]
        cursor = page.next_cursor
    assert cursor is None
    assert seen == ["5", "4", "3", "2", "1"]


async def test_a_list_is_narrowed_by_actor_action_subject_and_nairobi_days(store: Store, clock: FrozenClock) -> None:
    await act(store, clock, "pay_1")
    clock.advance(timedelta(hours=13))  # after midnight in Nairobi, not yet in UTC
    async with store.session(ORG) as session:
        audit.record(session, clock, actor="operator:ann", action="key.created", subject="key_1")
    assert await subjects(store) == ["key_1", "pay_1"]
    assert await subjects(store, actor="operator:ann") == ["key_1"]
    assert await subjects(store, action="payment.opened") == ["pay_1"]
    assert await subjects(store, subject="pay_1") == ["pay_1"]
    assert await subjects(store, subject="pay_1", actor="operator:ann") == []
    assert await subjects(store, first=date(2026, 11, 17)) == ["key_1"]
    assert await subjects(store, last=date(2026, 11, 16)) == ["pay_1"]
    assert await subjects(store, first=date.min, last=date.max) == ["key_1", "pay_1"]


async def test_a_cursor_of_another_organization_is_as_unknown_as_any(store: Store, clock: FrozenClock) -> None:
    await act(store, clock, "theirs", organization_id=OTHER)
    [theirs] = await entries_of(store, OTHER)
    said = []
    for cursor in (theirs.id, "aud_of_nobody"):
        with pytest.raises(InputError) as refused:
            await list_entries(store, ORG, EntryFilter(), limit=10, cursor=cursor)
        said.append(refused.value.message)
    assert said[0] == said[1]
