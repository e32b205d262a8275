"""The two crossings of the sidecar: look callback paths up, and store callbacks. Many at once, one commit.

On SQLite each is one visit to the connection's thread with few, large statements: between steps a busy program lets the
thread wait for the interpreter, and a step for each row would add up. On PostgreSQL each calls its twin in
crossings.sql.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from sqlalchemy import ARRAY, Cast, Text, cast, func, select

from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.sqlite_driver import begin_writing
from mpesa_mcp.store.tables import UtcDateTime

# Safaricom posts an attempt's result once, or a few times (daraja/quirks.md A). More than this is somebody else.
# `store_callbacks` in crossings.sql has the same number.
MAX_CALLBACKS = 20
_QUEUE = "callbacks"


@dataclass(frozen=True, slots=True)
class CallbackPath:
    """The two segments of a callback path; of the token only the hash."""

    callback_id: str
    token_sha256: str


@dataclass(frozen=True, slots=True)
class NewCallback:
    """A body to be stored, with our own secrets gone, and the path it was posted to.

    What the database refuses of one, NUL or more than a column holds, fails the whole round.
    """

    path: CallbackPath
    organization_id: str
    id: str
    attempt_id: str
    channel: str
    received_at: datetime
    source_address: str
    body: str


async def find_callback_tokens(store: Store, paths: Sequence[CallbackPath]) -> Mapping[CallbackPath, tuple[str, str]]:
    """(organization, attempt) of each path that is known: both of its segments must fit together."""
    if store.is_postgresql:
        columns = ("callback_id", "token_sha256", "organization_id", "attempt_id")
        wanted = ([path.callback_id for path in paths], [path.token_sha256 for path in paths])
        found = func.find_callback_tokens(*(cast(each, ARRAY(Text)) for each in wanted)).table_valued(*columns)
        async with store.unbound_reading() as session:
            rows: Iterable[Sequence[str]] = await session.execute(select(*(found.c[name] for name in columns)))
    else:
        asked = json.dumps([(path.callback_id, path.token_sha256) for path in paths])
        rows = json.loads(
            await store.in_one_visit(lambda connection: connection.execute(_FIND, [asked]).fetchone()[0], writing=False)
        )
    return {CallbackPath(row[0], row[1]): (row[2], row[3]) for row in rows}


async def store_callbacks(store: Store, callbacks: Sequence[NewCallback]) -> frozenset[str]:
    """Stores them in one commit, in this order; gives the ids of those that found room.

    An attempt keeps up to MAX_CALLBACKS bodies for each of its addresses. When more come, those go first that were
    refused, then the newest of those that were read and wait for room, then those whose effect the payment has already
    taken; what nobody has looked at yet always stays.
    """
    if store.is_postgresql:
        stored = func.store_callbacks(*_arrays(callbacks)).table_valued("id")
        async with store.unbound() as session:
            ids = frozenset((await session.execute(select(stored.c.id))).scalars())
    else:
        rows = [_row(each) for each in callbacks]
        ids = await store.in_one_visit(lambda connection: _store_in_sqlite(connection, rows), writing=True)
    if ids:
        store.wakeups.notify([_QUEUE])
    return ids


def _arrays(callbacks: Sequence[NewCallback]) -> Sequence[Cast[Any]]:
    """What the function in crossings.sql takes, in its order: a callback is at the same place of all."""
    texts = zip(
        *((c.path.callback_id, c.path.token_sha256, c.id, c.channel, c.source_address, c.body) for c in callbacks),
        strict=True,
    )
    moments = cast([callback.received_at for callback in callbacks], ARRAY(UtcDateTime))
    return [*(cast(list(each), ARRAY(Text)) for each in texts), moments]


def _row(callback: NewCallback) -> tuple[str, ...]:
    # As UtcDateTime keeps it.
    received_at = callback.received_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    path = (callback.organization_id, callback.attempt_id, callback.channel)
    return (*path, callback.id, received_at, callback.source_address, callback.body, received_at)


def _store_in_sqlite(connection: sqlite3.Connection, rows: Sequence[tuple[str, ...]]) -> frozenset[str]:
    paths = Counter(row[:3] for row in rows)
    begin_writing(connection)
    try:
        kept = _kept(connection, paths)
        if any(kept[path] + coming > MAX_CALLBACKS for path, coming in paths.items()):
            crowded = [(*path, kept[path] + coming - MAX_CALLBACKS) for path, coming in paths.items()]
            connection.execute(_MAKE_ROOM, [json.dumps(crowded)])
            kept = _kept(connection, paths)
        fitting = []
        for row in rows:
            kept[row[:3]] += 1
            if kept[row[:3]] <= MAX_CALLBACKS:
                fitting.append(row)
        if fitting:
            marks = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, 'stored', 0)"] * len(fitting))
            connection.execute(_STORE + marks, [*chain.from_iterable(fitting)])
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return frozenset(row[3] for row in fitting)


def _kept(connection: sqlite3.Connection, paths: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    """How many bodies each path has; one whose attempt is gone counts as full."""
    asked = list(paths)
    counts = json.loads(connection.execute(_KEPT, [json.dumps(asked)]).fetchone()[0])
    return {path: MAX_CALLBACKS if (count := counts[str(n)]) is None else count for n, path in enumerate(asked)}


# One row with all that was found. The joins are CROSS, which SQLite takes in the order written: by the token's index.
_FIND = """
SELECT json_group_array(json_array(o.callback_id, a.callback_token_sha256, a.organization_id, a.id))
FROM json_each(?) AS wanted
CROSS JOIN attempts AS a ON a.callback_token_sha256 = json_extract(wanted.value, '$[1]')
CROSS JOIN organizations AS o ON o.organization_id = a.organization_id
WHERE o.callback_id = json_extract(wanted.value, '$[0]')
"""

# By a path's place; without its attempt there is nothing to count, which is NULL and not zero.
_KEPT = """
SELECT json_group_object(path.key, (
    SELECT count(c.id) FROM attempts AS a
    LEFT JOIN callbacks AS c
        ON c.organization_id = a.organization_id AND c.attempt_id = a.id
        AND c.channel = json_extract(path.value, '$[2]')
    WHERE a.organization_id = json_extract(path.value, '$[0]') AND a.id = json_extract(path.value, '$[1]')
    GROUP BY a.id
)) FROM json_each(?) AS path
"""

_MAKE_ROOM = """
WITH ranked AS (
    SELECT c.organization_id, c.id, c.status, json_extract(path.value, '$[3]') AS excess, row_number() OVER (
        PARTITION BY c.organization_id, c.attempt_id, c.channel
        ORDER BY CASE c.status WHEN 'malformed' THEN 0 WHEN 'mismatched' THEN 0 WHEN 'waiting' THEN 1
            WHEN 'unconfirmed' THEN 2 WHEN 'applied' THEN 3 ELSE 4 END, c.id DESC
    ) AS place
    FROM json_each(?) AS path
    CROSS JOIN callbacks AS c ON c.organization_id = json_extract(path.value, '$[0]')
        AND c.attempt_id = json_extract(path.value, '$[1]') AND c.channel = json_extract(path.value, '$[2]')
)
DELETE FROM callbacks WHERE (organization_id, id) IN (
    SELECT organization_id, id FROM ranked WHERE place <= excess AND status <> 'stored'
)
"""

_STORE = """
INSERT INTO callbacks
    (organization_id, attempt_id, channel, id, received_at, source_address, body, next_action_at, status, fence)
VALUES """
