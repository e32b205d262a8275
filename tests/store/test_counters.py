"""Counters: each transaction's numbers arrive once, whoever else counts the same rows at the same time."""

import anyio
import pytest
from sqlmodel import col, select

from mpesa_mcp.billing.models import CallUsage
from mpesa_mcp.store.engine import Store

from .factories import OURS, THEIRS

pytestmark = pytest.mark.anyio
A, B = ({"month": "2026-11", "actor": "key:1", "tool": tool} for tool in ("get_payment", "stk_push"))


async def counted(store: Store, organization_id: str = OURS) -> list[tuple[str, int, int]]:
    async with store.reading(organization_id) as session:
        rows = await session.all(select(CallUsage).order_by(col(CallUsage.tool)))
        return [(row.tool, row.calls, row.refused) for row in rows]


async def test_a_transaction_counts_with_its_commit_or_not_at_all(store: Store) -> None:
    async with store.session(OURS) as session:
        session.count(CallUsage, A, calls=2)
        session.count(CallUsage, A, calls=-1, refused=3)
        session.count(CallUsage, B, calls=1)
        session.count(CallUsage, B, calls=-1)  # nothing in sum: not written
    with pytest.raises(ZeroDivisionError):
        async with store.session(OURS) as session:
            session.count(CallUsage, A, calls=100)
            _ = 1 / 0
    assert await counted(store) == [("get_payment", 1, 3)]
    assert await counted(store, THEIRS) == []


async def test_who_counts_the_same_rows_in_another_order_does_not_wait_in_a_ring(store: Store) -> None:
    async def count(first: dict[str, str], second: dict[str, str]) -> None:
        async with store.session(OURS) as session:
            session.count(CallUsage, first, calls=1)
            await session.all(select(CallUsage))  # others come in between
            session.count(CallUsage, second, calls=1)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for _ in range(15):
                tasks.start_soon(count, A, B)
                tasks.start_soon(count, B, A)
    assert await counted(store) == [("get_payment", 30, 0), ("stk_push", 30, 0)]
