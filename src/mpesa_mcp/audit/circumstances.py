"""In which circumstances something is done: known where a request arrives, written by every entry made on its behalf.

Kept in a context variable, so that nobody in between has to hand it on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Circumstances:
    """From which address, in which request and trace; `client` is the name and version an MCP client gave itself."""

    request_id: str | None = None
    address: str | None = None
    trace_id: str | None = None
    client: str | None = None


_current: ContextVar[Circumstances] = ContextVar("circumstances", default=Circumstances())  # noqa: B039 - frozen


def circumstances() -> Circumstances:
    return _current.get()


@contextmanager
def under(given: Circumstances) -> Iterator[None]:
    """What is recorded inside the block was done in these circumstances."""
    token = _current.set(given)
    try:
        yield
    finally:
        _current.reset(token)
