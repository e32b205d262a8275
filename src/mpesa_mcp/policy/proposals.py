"""Reading the changes of rules that wait for a second person, and what became of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import ColumnElement
from sqlmodel import col, select

from mpesa_mcp.policy.models import RuleProposal
from mpesa_mcp.policy.second_person import SecondPerson, second_person
from mpesa_mcp.policy.words import Words
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.paging import Page, page_by_id
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock

# At a moment, of one organization.
MOST_WAITING: Final = 50


class ProposalStatus(StrEnum):
    """`void`: the rule was changed in the meantime, so that the proposal is about something that is no more."""

    PENDING = "pending"
    CONFIRMED = "confirmed"
    DECLINED = "declined"
    EXPIRED = "expired"
    VOID = "void"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalRecord:
    """A change of a rule that waits for a second person, or what became of it. None: no rule of its own."""

    proposal_id: str
    scope: str
    before: Words | None
    after: Words | None
    status: ProposalStatus
    proposed_by: str
    proposed_at: datetime
    expires_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    # While it waits: who confirms it, and when the change can be made alone.
    next_step: str | None = None


async def page_proposals(
    store: Store, clock: Clock, organization_id: str, *, limit: int, cursor: str | None
) -> Page[ProposalRecord]:
    """Newest first, those that are decided too. Raises InputError."""
    async with store.reading(organization_id) as session:
        page = await page_by_id(session, RuleProposal, limit=limit, cursor=cursor)
        second = await second_person(session, clock.now())
    return Page([proposal_record(row, clock.now(), second) for row in page.items], page.next_cursor)


async def list_proposals(store: Store, clock: Clock, organization_id: str) -> Sequence[ProposalRecord]:
    """The newest proposals, those that are decided too."""
    return (await page_proposals(store, clock, organization_id, limit=2 * MOST_WAITING, cursor=None)).items


async def list_open_proposals(store: Store, clock: Clock, organization_id: str) -> Sequence[ProposalRecord]:
    """Those that somebody can still decide, newest first."""
    async with store.reading(organization_id) as session:
        now = clock.now()
        rows = await open_proposals(session, now)
        second = await second_person(session, now)
    return [proposal_record(row, now, second) for row in rows]


async def open_proposals(session: OrganizationSession, now: datetime) -> Sequence[RuleProposal]:
    """The rows of the same, MOST_WAITING at most."""
    return await session.all(select(RuleProposal).where(*is_open(now)).order_by(col(RuleProposal.id).desc()))


def is_open(now: datetime) -> tuple[ColumnElement[bool], ...]:
    """That a proposal is undecided and in time."""
    return col(RuleProposal.status) == ProposalStatus.PENDING, col(RuleProposal.expires_at) > now


def proposal_record(row: RuleProposal, now: datetime, second: SecondPerson | None = None) -> ProposalRecord:
    """The proposal as it stands now; what can be done about it, where `second` is known."""
    status = ProposalStatus(row.status)
    if status is ProposalStatus.PENDING and now >= row.expires_at:
        status = ProposalStatus.EXPIRED
    return ProposalRecord(
        proposal_id=row.id,
        scope=row.scope,
        before=row.before,
        after=row.after,
        status=status,
        proposed_by=row.proposed_by,
        proposed_at=row.proposed_at,
        expires_at=row.expires_at,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        next_step=second.next_step if second and status is ProposalStatus.PENDING else None,
    )
