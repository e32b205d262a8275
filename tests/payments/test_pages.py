"""Listing by cursor: a late page costs the database what the first one costs, counted in its own units."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Engine, event, make_url

from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.reading import list_payments
from mpesa_mcp.payments.requests import PageAsked, PaymentFilter

from .factories import Shop, a_row, store_rows

pytestmark = pytest.mark.anyio
ROWS = 3_000
Asked = tuple[str, Any]


@contextmanager
def statements() -> Iterator[list[Asked]]:
    """What is asked of the database meanwhile."""
    seen: list[Asked] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def cost(core: Core, asked: Asked) -> int:
    """Steps of SQLite's machine; rows that PostgreSQL looked at."""
    statement, parameters = asked
    if core.settings.sqlite_path is not None:
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        connection = sqlite3.connect(core.settings.sqlite_path)
        connection.set_progress_handler(step, 1)
        connection.execute(statement, parameters).fetchall()
        connection.close()
        return steps
    address = make_url(core.settings.owner_database_url).set(drivername="postgresql").render_as_string()
    connection = await asyncpg.connect(address)
    await connection.execute("ANALYZE payments")
    explained = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *parameters)
    await connection.close()
    return _rows(json.loads(explained)[0]["Plan"])


def _rows(plan: dict[str, Any]) -> int:
    looked_at = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    return int(looked_at * plan["Actual Loops"]) + sum(_rows(below) for below in plan.get("Plans", ()))


async def test_the_last_page_costs_what_the_first_one_costs(shop: Shop) -> None:
    start = shop.core.clock.now()
    rows = [a_row(shop.principal.organization_id, start - timedelta(seconds=n)) for n in range(ROWS)]
    await store_rows(shop, *rows)
    costs = []
    for cursor in (None, rows[20].id, rows[-25].id):
        with statements() as seen:
            page = await list_payments(
                shop.core,
                shop.principal,
                from_date=None,
                to_date=None,
                narrowed=PaymentFilter(),
                page=PageAsked(20, cursor),
            )
        assert len(page.payments) == 20
        [wanted] = [each for each in seen if "ORDER BY payments.created_at" in each[0]]
        costs.append(await cost(shop.core, wanted))
    assert max(costs) < 2 * min(costs), costs
