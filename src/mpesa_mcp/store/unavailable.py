"""What counts as "the database is away": the one error that everything above the store has to know of."""

import sqlite3
from types import TracebackType

from sqlalchemy.exc import DBAPIError, DisconnectionError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from mpesa_mcp.errors import InternalFault

# Classes of SQLSTATE (PostgreSQL, appendix A) that speak of the server and not of the statement: connection, rollback
# for concurrency, resources (a full disk), an operator's intervention (shutdown, time-outs), system, internal errors.
_CLASSES = frozenset({"08", "40", "53", "57", "58", "XX"})
# Read-only transaction (a standby), a lock not had in time, a database that takes no connections, a table, column or
# function of another migration.
_STATES = frozenset({"25006", "55P03", "55000", "42P01", "42703", "42883", "28000", "28P01", "3D000"})
# A right that was not granted (yet): for callers as good as away, for its operator another thing to put right.
_NO_RIGHT = "42501"


class StoreUnavailable(InternalFault):
    """The database cannot be reached, is locked, full, damaged or read-only. Nothing was changed by this request.

    `why` is for logs and operators; callers are told the same whatever it is.
    """

    code = "store_unavailable"
    http_status = 503

    def __init__(self, *, lacks_right: bool = False) -> None:
        super().__init__("The database is not available right now. Nothing was changed; try again in a moment.")
        self.lacks_right = lacks_right

    @property
    def why(self) -> str:
        if self.lacks_right:
            return "the database role lacks a right that it needs; mpesa-mcp db upgrade grants it"
        return "the database is away"


class spoken_as_unavailable:  # noqa: N801 - reads as words at its uses
    """Turns a database that is away into StoreUnavailable; every other error passes."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if error is not None and is_unavailable(error):
            raise StoreUnavailable(lacks_right=sqlstate_of(error) == _NO_RIGHT) from error


def is_unavailable(error: BaseException) -> bool:
    """Whether this error of a driver or pool is about the database itself rather than about what it was asked."""
    if isinstance(error, PoolTimeout | DisconnectionError | OSError):  # OSError: a refused or broken connection
        return True
    if isinstance(error, DBAPIError) and not isinstance(error, IntegrityError):
        return error.connection_invalidated or is_unavailable(_driver_error(error))
    if isinstance(error, sqlite3.DatabaseError):
        # These two kinds are the statement's fault; "malformed" and "not a database" are plain DatabaseErrors.
        return not isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError)
    state = sqlstate_of(error)
    if state is not None:
        return state[:2] in _CLASSES or state in _STATES or state == _NO_RIGHT
    # asyncpg's own complaints about a connection that is closed, or busy being closed, carry no SQLSTATE.
    return type(error).__module__.startswith("asyncpg") and "nterface" in type(error).__name__


def sqlstate_of(error: BaseException) -> str | None:
    """PostgreSQL's own word for what went wrong (its appendix A); None of what never came from it."""
    inner = _driver_error(error) if isinstance(error, DBAPIError) else error
    state = getattr(inner, "sqlstate", None)
    return state if isinstance(state, str) else None


def _driver_error(error: DBAPIError) -> BaseException:
    """The driver's error under SQLAlchemy's; its asyncpg adapter puts one of its own in between."""
    inner = error.orig
    assert inner is not None
    return inner.__cause__ if inner.__cause__ is not None else inner
