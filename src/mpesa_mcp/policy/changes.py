"""Changing rules: by an org_admin in person or by the operator, never by a tool or an API key.

A change that allows anything more than before needs a second org_admin, if the organization has two, or had: see
`policy.second_person`. It becomes a proposal, which another org_admin confirms or declines within a week. The operator
counts as the first of the two and never as the second. The rule of a key that is over one person takes away. Whoever
changes a rule has the organization alone, so that each payment is judged by the old rule or by the new one.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import delete, update
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.errors import Advice, ConflictError, NotFoundError
from mpesa_mcp.identity.api_keys import ended_keys
from mpesa_mcp.identity.models import ApiKey, User
from mpesa_mcp.identity.origins import origins_of
from mpesa_mcp.identity.principal import Actor, NotAllowed
from mpesa_mcp.identity.standing import changeable_alone
from mpesa_mcp.policy.approvals import Approval, ApprovalStatus
from mpesa_mcp.policy.loosening import loosened
from mpesa_mcp.policy.models import RuleProposal, SpendRule
from mpesa_mcp.policy.proposals import (
    MOST_WAITING,
    ProposalRecord,
    ProposalStatus,
    is_open,
    open_proposals,
    proposal_record,
)
from mpesa_mcp.policy.rule_book import rule_of
from mpesa_mcp.policy.rules import DEFAULT_RULE, NO_RULE, ORGANIZATION, Rule
from mpesa_mcp.policy.scopes import checked_for_scope, checked_scope
from mpesa_mcp.policy.second_person import SecondPerson, second_person
from mpesa_mcp.policy.words import Words, rule_from, words_of
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock, Role, new_id

PROPOSAL_LIFE = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleChange:
    """What a change came to: done, or (`proposal`) waiting for a second person.

    `before` and `after` are what holds for the scope without it and with it, whether or not that is a rule of its own;
    `voided` how many open proposals it has ended, as they were about the rule before.
    """

    before: Words
    after: Words
    proposal: ProposalRecord | None = None
    voided: int = 0


class AnotherMustConfirm(ConflictError):
    """Who proposed is one of the two people already."""

    code = "another_person_needed"
    advice = Advice.ASK_A_PERSON

    def __init__(self, next_step: str) -> None:
        super().__init__(f"A proposal needs two people, and this one is yours. {next_step}")


class NewerThanProposal(NotAllowed):
    """A person who could be made for the purpose of confirming it."""

    code = "newer_than_proposal"

    def __init__(self) -> None:
        super().__init__(
            "You became org_admin after this change was proposed. Somebody who was that before confirms it."
        )


class ProposalClosed(ConflictError):
    """It is decided, expired or void."""

    code = "proposal_closed"

    def __init__(self, status: ProposalStatus) -> None:
        super().__init__(f"This proposal is {status}, and nothing was changed. Propose the change anew.")
        self.status = status


class TooManyProposals(ConflictError):
    """A bound of the list, so that nobody fills it."""

    code = "too_many_proposals"

    def __init__(self) -> None:
        super().__init__(f"{MOST_WAITING} proposals wait already: confirm or decline some of them first.")


async def set_rule(
    store: Store, clock: Clock, *, organization_id: str, scope: str, rule: Rule | None, actor: Actor
) -> RuleChange:
    """Gives a scope this rule, or (None) takes its rule away; the organization's then is the default again.

    Or proposes it, when a second person must agree: the same change, asked for again by who proposed it, is the same
    proposal. Raises InputError, NotAllowed, NotFoundError, OrganizationClosed, TooManyProposals.
    """
    async with store.session(organization_id) as session:
        before = await _changeable(session, scope, actor)
        return await _set(session, clock, scope, before, rule, actor)


async def change_rule(
    store: Store,
    clock: Clock,
    *,
    organization_id: str,
    scope: str,
    words: Words,
    cleared: Collection[str],
    actor: Actor,
) -> RuleChange:
    """As `set_rule`, of the rule that holds for the scope, with these fields changed and those cleared."""
    async with store.session(organization_id) as session:
        before = await _changeable(session, scope, actor)
        rule = rule_from(words_of(in_force(scope, before)) | words | dict.fromkeys(cleared))
        return await _set(session, clock, scope, before, rule, actor)


async def confirm(
    store: Store, clock: Clock, *, organization_id: str, proposal_id: str, actor: Actor
) -> ProposalRecord:
    """Makes the proposed change, if another org_admin than who proposed it says so.

    Raises NotAllowed, NewerThanProposal, AnotherMustConfirm, ProposalClosed, NotFoundError, OrganizationClosed.
    """
    async with store.session(organization_id) as session:
        await changeable_alone(session)
        if actor.is_operator:
            raise NotAllowed("The command line only proposes. An org_admin confirms it, signed in over REST.")
        user = await _require_changer(session, actor)
        row = await _pending(session, clock, proposal_id)
        if row.proposed_by == actor.name:
            raise AnotherMustConfirm((await second_person(session, clock.now())).next_step)
        assert user is not None  # the operator has none
        if not user.had_role_before(row.proposed_at):
            raise NewerThanProposal
        before = await _stored(session, row.scope)
        _decide(row, ProposalStatus.CONFIRMED, clock, actor)
        account = (await origins_of(session, [user.id]))[user.id]
        of_proposal = {"proposal_id": row.id, "proposed_by": row.proposed_by, **account.for_audit}
        await _apply(session, clock, row.scope, before, _rule(row.after), actor, of_proposal)
        return proposal_record(row, clock.now())


async def decline(
    store: Store, clock: Clock, *, organization_id: str, proposal_id: str, actor: Actor
) -> ProposalRecord:
    """Drops a proposed change; who proposed it may, too.

    Raises NotAllowed, ProposalClosed, NotFoundError, OrganizationClosed.
    """
    async with store.session(organization_id) as session:
        await changeable_alone(session)
        await _require_changer(session, actor)
        row = await _pending(session, clock, proposal_id)
        _decide(row, ProposalStatus.DECLINED, clock, actor)
        detail = {"proposal_id": row.id}
        audit.record(
            session, clock, actor=actor.name, action="rule.proposal_declined", subject=row.scope, detail=detail
        )
        return proposal_record(row, clock.now())


async def _changeable(session: OrganizationSession, scope: str, actor: Actor) -> Rule | None:
    """The scope's own rule, for one who may change it."""
    checked_scope(scope)
    await changeable_alone(session)
    await _require_changer(session, actor)
    await _require_key(session, scope)
    return await _stored(session, scope)


async def _set(
    session: OrganizationSession, clock: Clock, scope: str, before: Rule | None, after: Rule | None, actor: Actor
) -> RuleChange:
    if after is not None:
        checked_for_scope(scope, after)
    was, will_be = in_force(scope, before), in_force(scope, after)
    change = RuleChange(before=words_of(was), after=words_of(will_be))
    if before == after:
        return change
    if loosened(was, will_be) and not (after is None and await _binds_nothing(session, scope, clock.now())):
        second = await second_person(session, clock.now())
        if second.is_needed:
            return replace(change, proposal=await _propose(session, clock, scope, before, after, actor, second))
    return replace(change, voided=await _apply(session, clock, scope, before, after, actor))


async def _require_changer(session: OrganizationSession, actor: Actor) -> User | None:
    """The org_admin, in person; None for the operator. Raises NotAllowed."""
    if actor.is_operator:
        return None
    if actor.role is not Role.ORG_ADMIN or not actor.is_person or actor.user_id is None:
        raise NotAllowed("Only an org_admin changes rules, signed in as a person; no API key and no assistant can.")
    user = await session.get(User, actor.user_id)
    if user is None or not user.is_org_admin:
        raise NotAllowed
    return user


async def _require_key(session: OrganizationSession, scope: str) -> None:
    """Raises NotFoundError for a key that is not the organization's."""
    kind, _, name = scope.partition(":")
    if kind == "key" and await session.get(ApiKey, name) is None:
        raise NotFoundError("key")


async def _binds_nothing(session: OrganizationSession, scope: str, now: datetime) -> bool:
    """Whether the rule is for a key that is revoked or expired, and people decide about nothing that it asked for."""
    if scope.removeprefix("key:") not in await ended_keys(session, now):
        return False
    waiting = select(Approval.id).where(Approval.asked_by == scope, Approval.status == ApprovalStatus.PENDING)
    return await session.first(waiting.limit(1)) is None


async def _stored(session: OrganizationSession, scope: str) -> Rule | None:
    row = await session.first(select(SpendRule).where(SpendRule.scope == scope))
    return None if row is None else rule_of(row)


def in_force(scope: str, rule: Rule | None) -> Rule:
    """What holds for a scope that has this rule of its own, or none."""
    if rule is not None:
        return rule
    return DEFAULT_RULE if scope == ORGANIZATION else NO_RULE


async def _propose(
    session: OrganizationSession,
    clock: Clock,
    scope: str,
    before: Rule | None,
    after: Rule | None,
    actor: Actor,
    second: SecondPerson,
) -> ProposalRecord:
    now = clock.now()
    waiting = await open_proposals(session, now)
    was, will_be = None if before is None else words_of(before), None if after is None else words_of(after)
    for open_ in waiting:
        if (open_.scope, open_.before, open_.after, open_.proposed_by) == (scope, was, will_be, actor.name):
            return proposal_record(open_, now, second)
    if len(waiting) >= MOST_WAITING:
        raise TooManyProposals
    row = RuleProposal(
        organization_id=session.organization_id,
        id=new_id("rpr"),
        scope=scope,
        before=was,
        after=will_be,
        status=ProposalStatus.PENDING,
        proposed_by=actor.name,
        proposed_at=now,
        expires_at=now + PROPOSAL_LIFE,
    )
    session.add(row)
    audit.record(
        session,
        clock,
        actor=actor.name,
        action="rule.proposed",
        subject=scope,
        before=row.before,
        after=row.after,
        detail={"proposal_id": row.id},
    )
    return proposal_record(row, now, second)


async def _apply(
    session: OrganizationSession,
    clock: Clock,
    scope: str,
    before: Rule | None,
    after: Rule | None,
    actor: Actor,
    of_proposal: Mapping[str, str] | None = None,
) -> int:
    """Writes the rule. Whatever else was proposed for the scope is about a rule that is no more: returns how many.

    `of_proposal` is for the audit: what was confirmed, and where the account of who confirmed it comes from.
    """
    now = clock.now()
    await session.flush()
    voided = await session.change(
        update(RuleProposal)
        .where(col(RuleProposal.scope) == scope, *is_open(now))
        .values(status=ProposalStatus.VOID, decided_at=now)
    )
    if after is None:
        await session.change(delete(SpendRule).where(col(SpendRule.scope) == scope))
    else:
        values = {"rule": words_of(after), "changed_at": now, "changed_by": actor.name}
        if not await session.insert_if_absent(SpendRule, scope=scope, **values):
            await session.change(update(SpendRule).where(col(SpendRule.scope) == scope).values(**values))
    audit.record(
        session,
        clock,
        actor=actor.name,
        action="rule.set" if after is not None else "rule.removed",
        subject=scope,
        before=None if before is None else words_of(before),
        after=None if after is None else words_of(after),
        detail=of_proposal,
    )
    return voided


async def _pending(session: OrganizationSession, clock: Clock, proposal_id: str) -> RuleProposal:
    """Raises NotFoundError, ProposalClosed."""
    row = await session.get(RuleProposal, proposal_id)
    if row is None:
        raise NotFoundError("proposal")
    status = proposal_record(row, clock.now()).status
    if status is not ProposalStatus.PENDING:
        raise ProposalClosed(status)
    return row


def _decide(row: RuleProposal, status: ProposalStatus, clock: Clock, actor: Actor) -> None:
    row.status, row.decided_by, row.decided_at = status, actor.name, clock.now()


def _rule(words: Words | None) -> Rule | None:
    return None if words is None else rule_from(words)
