"""The audit of the caller's organization, newest first. Whether the chain is intact: `mpesa-mcp audit verify`."""

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from mpesa_mcp.api.examples import AT, JANE, example
from mpesa_mcp.api.permissions import allow
from mpesa_mcp.api.routes import Call, PermittedRoute
from mpesa_mcp.api.shapes import Answer, Cursor, Limit, Moment, Page
from mpesa_mcp.audit.reading import EntryFilter, list_entries
from mpesa_mcp.values import Role

router = APIRouter(prefix="/audit", tags=["audit"], route_class=PermittedRoute)

Word = Annotated[str | None, Query(max_length=120)]
Day = Annotated[date | None, Query(description="A day in Nairobi, included.")]


class EntryAnswer(Answer):
    """One act: who, what, on what, whether it was allowed, and where it came from."""

    model_config = example(
        entry_id="aud_01kb0f7g3k6q9v2xc5y8b1d4ns",
        at=AT,
        actor=f"user:{JANE}",
        action="user.role_changed",
        subject="usr_01kb0f8h4m7r0w3yd6z9c2e5pt",
        decision="allowed",
        address="198.51.100.7",
        request_id="req_01kb0f9j5n8s1x4ze7a0d3f6qv",
        before={"role": "user"},
        after={"role": "manager"},
    )
    entry_id: str
    at: Moment
    actor: str
    action: str
    subject: str
    decision: str
    reasons: str | None
    client: str | None = Field(description="What an MCP client said of itself; nobody checks it.")
    address: str | None
    request_id: str | None
    trace_id: str | None
    detail: dict[str, Any] | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@router.get("")
@allow(Role.ORG_ADMIN, platform=True)
async def list_(
    call: Call,
    actor: Word = None,
    action: Word = None,
    subject: Word = None,
    from_date: Day = None,
    to_date: Day = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[EntryAnswer]:
    """List what was done in the organization; a super_admin reads the platform's own."""
    narrowed = EntryFilter(actor=actor, action=action, subject=subject, first=from_date, last=to_date)
    page = await list_entries(call.core.store, call.organization_id, narrowed, limit=limit, cursor=cursor)
    return Page(items=[EntryAnswer.model_validate(each) for each in page.entries], next_cursor=page.next_cursor)
