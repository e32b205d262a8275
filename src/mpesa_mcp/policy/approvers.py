"""Who may decide about an approval.

Whoever decides is a person (a login session that no assistant has used) and an org_admin. An approver was that before
it was asked for, too: whoever can make users must not make an approver for the purpose. Nobody approves what they asked
for themselves, and where two approvals are needed they come from two people. The operator of the machine decides
nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import select

from mpesa_mcp.errors import Advice, ConflictError
from mpesa_mcp.identity.models import User
from mpesa_mcp.identity.principal import Actor, NotAllowed
from mpesa_mcp.policy.approvals import Approval, ApprovalDecision, Verdict, still_counts
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Role


class NotAnApprover(NotAllowed):
    """No person, or one who may not decide."""

    code = "not_an_approver"

    def __init__(self) -> None:
        super().__init__("Only an org_admin decides about this, signed in as a person.")


class OwnRequest(NotAllowed):
    """Who asked for it decides about it."""

    code = "own_request"

    def __init__(self) -> None:
        super().__init__("You asked for this yourself, so another org_admin must decide about it.")


class NewerThanRequest(NotAllowed):
    """A person who could have been made an approver for the purpose."""

    code = "newer_than_request"

    def __init__(self) -> None:
        super().__init__("You became org_admin after this was asked for; somebody who was one before must decide.")


class AnotherMustApprove(ConflictError):
    """Who has approved it approves it again, and two people are needed."""

    code = "another_person_needed"
    advice = Advice.ASK_A_PERSON

    def __init__(self) -> None:
        super().__init__("You have approved this already, and it needs two people: another org_admin must approve too.")


async def require_decider(session: OrganizationSession, actor: Actor) -> User:
    """The person who decides, who may at least decline. Raises NotAnApprover."""
    # Locked: whoever deactivates this person meanwhile comes before or after, never beside.
    user = await session.lock(User, actor.user_id) if actor.user_id is not None else None
    if user is None or not _decides(actor, user):
        raise NotAnApprover
    return user


async def require_approver(session: OrganizationSession, actor: Actor, approval: Approval) -> User:
    """The person who approves, if they may. Raises NotAnApprover, OwnRequest, NewerThanRequest."""
    user = await require_decider(session, actor)
    if (refused := refusal_of_approver(user, actor, approval)) is not None:
        raise refused
    return user


def refusal_of_approver(user: User | None, actor: Actor, approval: Approval) -> NotAllowed | None:
    """Why this person may not approve it."""
    if user is None or not _decides(actor, user):
        return NotAnApprover()
    if approval.asked_by == actor.name:
        return OwnRequest()
    return None if user.had_role_before(approval.asked_at) else NewerThanRequest()


@dataclass(frozen=True, slots=True)
class Approvers:
    """How many people of the organization may approve something, whether they have or not.

    `anew` could if the same caller asked for it again now, `org_admins` if somebody else did who is none of them.
    """

    now: int
    anew: int
    org_admins: int


async def approvers_of(session: OrganizationSession, approval: Approval) -> Approvers:
    """Who may approve it, by numbers."""
    people = [each for each in await session.all(select(User).where(User.role == Role.ORG_ADMIN)) if each.is_org_admin]
    actors = [Actor(f"user:{each.id}", Role.ORG_ADMIN, each.id, True) for each in people]
    return Approvers(
        now=sum(refusal_of_approver(each, actor, approval) is None for each, actor in zip(people, actors, strict=True)),
        anew=sum(actor.name != approval.asked_by for actor in actors),
        org_admins=len(people),
    )


def _decides(actor: Actor, user: User) -> bool:
    return actor.role is Role.ORG_ADMIN and actor.is_person and user.is_org_admin


async def approvals_given(session: OrganizationSession, approval: Approval) -> Sequence[str]:
    """The ids of the people whose approval counts: who is no org_admin any more is not among them."""
    given = select(ApprovalDecision).where(
        ApprovalDecision.approval_id == approval.id,
        ApprovalDecision.verdict == Verdict.APPROVED,
        ApprovalDecision.digest == approval.digest,
    )
    people = [await session.get(User, decision.user_id) for decision in await session.all(given)]
    return [user.id for user in people if user is not None and still_counts(user, approval)]
