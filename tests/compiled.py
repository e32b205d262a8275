"""Statements that SQLAlchemy has compiled, kept for every store of a process: compiling anew is a third of a test."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from sqlalchemy import Connection, Dialect, Engine, event
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache

# More than there are: each engine's own would forget after some five hundred.
_MOST = 10_000


@contextmanager
def compiled_once() -> Iterator[None]:
    """SQLAlchemy keeps them by engine and by dialect; all dialects of a kind are one here, as their settings are."""
    compiled: defaultdict[type[Dialect], LRUCache[Any, Any]] = defaultdict(lambda: LRUCache(_MOST))

    @event.listens_for(Engine, "engine_connect")
    def _share(connection: Connection) -> None:
        engine = connection.engine
        engine._compiled_cache = compiled[type(engine.dialect)]

    with (
        patch.object(DefaultDialect, "__hash__", lambda dialect: hash(type(dialect))),
        patch.object(DefaultDialect, "__eq__", lambda dialect, other: type(dialect) is type(other)),
    ):
        yield
    event.remove(Engine, "engine_connect", _share)
