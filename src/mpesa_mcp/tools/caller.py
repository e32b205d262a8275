"""Who calls, and with what: made from the credential of the connection, never from an argument.

The server puts the Caller of a call into a context variable; tools receive it through a resolver, so that it is not
part of any input schema and no model can choose it.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from mcp.server.mcpserver import AcceptedElicitation, Context, Resolve

from mpesa_mcp.identity.principal import Principal

if TYPE_CHECKING:
    from mpesa_mcp.payments.core import Core


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller's principal, and the process's core."""

    core: "Core"
    principal: Principal


# The SDK wraps what resolvers give in this class; nobody else keeps it, and making it anew costs each call half a
# millisecond.
_KEPT: Final = AcceptedElicitation[Any]

CallerSource = Callable[[], Awaitable[Caller]]
calling: ContextVar[Caller] = ContextVar("calling")


async def current_caller() -> Caller:  # the SDK takes one that is not async to another thread
    """The resolver behind every tool's `caller` parameter."""
    return calling.get()


# What a tool declares to know who calls: filled by the server, absent from the input schema.
Me = Annotated[Caller, Resolve(current_caller)]


def progress_to(ctx: Context, seconds: float, waiting_for: str) -> Callable[[float], Awaitable[None]]:
    """Tells the client now and then that the tool still waits; does nothing for clients that did not ask."""

    async def tell(waited: float) -> None:
        await ctx.report_progress(min(waited, seconds), seconds, f"Waiting for {waiting_for}.")

    return tell


def given(text: str) -> str | None:
    """An optional text argument: empty means not given."""
    stripped = text.strip()
    return stripped or None
