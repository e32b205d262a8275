"""Every call of a tool is in the audit, refused ones too: who called what, through which client, and what came of it.
The same transaction counts it as usage. What the rate limits refuse is gathered and told together (`billing.refusals`).

Written before the answer leaves. What a call changed is recorded by the transaction that changed it; when this entry
alone cannot be written (a full disk), the answer is given all the same: a payment that was made must be told.
"""

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, InputRequiredResult

from mpesa_mcp.tools.caller import Caller

if TYPE_CHECKING:
    from mpesa_mcp.audit import Circumstances

log = logging.getLogger(__name__)


def circumstances_of(context: Context[Any, Any] | None) -> "Circumstances":
    """Where a call came from. Read off its own HTTP request: a session of the older protocol outlives its first one."""
    from mpesa_mcp.audit import Circumstances, circumstances

    if context is None:
        return circumstances()
    asked = context.request_context
    came = asked.request.scope.get("circumstances") if asked.request is not None else None
    given = asked.session.client_params
    client = f"{given.client_info.name} {given.client_info.version}" if given is not None else None
    return replace(came or Circumstances(), client=client)


@dataclass(frozen=True, slots=True)
class LimitedCall:
    """A call that the rate limits refused: of which tool, and by which client. In its HTTP request's scope."""

    tool: str
    client: str | None


def tell_limited(context: Context[Any, Any] | None, tool: str) -> None:
    """Lets the HTTP server know, which answers the next calls like it by itself."""
    from mpesa_mcp.audit import circumstances

    request = context.request_context.request if context is not None else None
    if request is not None:
        request.scope["limited_call"] = LimitedCall(tool, circumstances().client)


async def record_call(caller: Caller, tool: str, result: CallToolResult | InputRequiredResult) -> None:
    """Adds the entry of one call, and counts it."""
    from sqlalchemy.exc import SQLAlchemyError

    from mpesa_mcp import audit
    from mpesa_mcp.billing.usage import count_call
    from mpesa_mcp.store.engine import StoreUnavailable

    core, principal, now = caller.core, caller.principal, caller.core.clock.now()
    told = (result.structured_content or {}) if isinstance(result, CallToolResult) else {}
    refusal = told.get("error") or {}
    if refusal.get("code") == StoreUnavailable.code:
        # Waiting for the database once more would keep the caller twice as long, for an entry that is not written.
        _not_recorded(caller, tool)
        return
    try:
        async with core.store.session(principal.organization_id) as session:
            audit.record(
                session,
                core.clock,
                actor=principal.actor,
                action="tool.called",
                subject=tool,
                decision="refused" if refusal else "allowed",
                reasons=refusal.get("code"),
                detail={"payment_id": told["payment_id"]} if "payment_id" in told else None,
            )
            count_call(session, now, actor=principal.actor, tool=tool, refused=bool(refusal))
    except (StoreUnavailable, SQLAlchemyError):
        _not_recorded(caller, tool)


def _not_recorded(caller: Caller, tool: str) -> None:
    log.warning("call_not_recorded", extra={"tool": tool, "organization_id": caller.principal.organization_id})
