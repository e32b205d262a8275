"""Rules about money that leaves: reading them, changing them, and the second person of a change that allows more.

Who may change them is decided by `policy.changes`, whatever stands here.
"""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Response, status
from pydantic import ConfigDict, Field

from mpesa_mcp.api.examples import AT, JANE, example, example_of
from mpesa_mcp.api.permissions import allow
from mpesa_mcp.api.routes import Call, PermittedRoute
from mpesa_mcp.api.shapes import NOTHING, Answer, Body, Cursor, Limit, Moment, Nothing, Page, Whole
from mpesa_mcp.payments.limits import limits_of
from mpesa_mcp.policy.changes import confirm, decline, set_rule
from mpesa_mcp.policy.proposals import ProposalStatus, page_proposals
from mpesa_mcp.policy.remaining import Remaining
from mpesa_mcp.policy.rule_book import RuleRecord, list_rules
from mpesa_mcp.policy.rules import Rule
from mpesa_mcp.policy.windows import Window
from mpesa_mcp.policy.words import masked, rule_from, words_of
from mpesa_mcp.values import Environment, Role

router = APIRouter(prefix="/spend-rules", tags=["spend rules"], route_class=PermittedRoute)

Scope = Annotated[str, Path(max_length=60, description="organization, role:manager, key:<key id> or tool:b2c_payment.")]
ProposalId = Annotated[str, Path(max_length=40)]
Shillings = Annotated[int | None, Field(default=None, ge=0, le=1_000_000_000, description="Whole shillings.")]
Count = Annotated[int | None, Field(default=None, ge=0, le=1_000_000)]
Phones = Annotated[list[str] | None, Field(default=None, max_length=1000)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class RuleBody(Body):
    """The whole rule: a field that is left out sets no limit. Hours, days and months are Nairobi's."""

    model_config = example(approval_above=10000, per_day=100000, hours="08:00-18:00")
    per_payment: Shillings
    per_hour: Shillings
    per_day: Shillings
    per_month: Shillings
    payments_per_hour: Count
    payments_per_day: Count
    payments_per_month: Count
    per_recipient_per_day: Shillings
    payments_per_recipient_per_day: Count
    first_payment: Shillings
    cool_off_hours: Count
    allowed_recipients: Phones
    denied_recipients: Phones
    hours: str | None = Field(default=None, max_length=11, description="08:00-18:00")
    days: list[Day] | None = Field(default=None, max_length=7)
    largest_batch: Count
    approval_above: Shillings
    second_approval_above: Shillings
    confirm_in_chat_above: Shillings


class RuleAnswer(RuleBody, Answer):
    """The rule of one scope. `is_default`: nobody has changed it since the organization was made.

    `key_ended`: the key that it is for is revoked or expired, so that any org_admin may take the rule away.
    """

    model_config = ConfigDict(extra="ignore", strict=False) | example(
        scope="organization", is_default=False, changed_at=AT, changed_by=f"user:{JANE}", key_ended=False
    )
    scope: str
    is_default: bool
    changed_at: Moment | None
    changed_by: str | None
    key_ended: bool


class LimitLeft(Answer):
    """What may be paid in one hour, day or month of Nairobi, and what is left of it. Null: no limit of that sort."""

    model_config = example(window="day", limit="100000.00", left="97500.00", resets_at="2026-11-25T21:00:00Z")
    window: Window
    limit: str | None
    left: str | None
    payments: int | None
    payments_left: int | None
    resets_at: Moment


class RuleLeft(Answer):
    """One rule that binds the caller; the numbers of phones in it are masked."""

    model_config = example(scope="organization")
    scope: str
    limits: list[LimitLeft]
    rule: RuleBody


class LimitsAnswer(Answer):
    """`tools` are those that move money and are open to the caller."""

    model_config = example(
        environment="simulator", role="manager", tools=["stk_push", "b2c_payment", "reverse", "bulk_payment"]
    )
    environment: Environment
    currency: Literal["KES"] = "KES"
    role: Role
    tools: list[str]
    rules: list[RuleLeft]


class ProposalAnswer(Answer):
    """A change that allows more than before, and waits for another org_admin; or what became of it."""

    model_config = example(
        proposal_id="rpr_01kb0g0k6p9t2y5ax8b1e4g7rw",
        scope="organization",
        after=example_of(RuleBody) | {"per_day": 250000},
        status="pending",
        proposed_by=f"user:{JANE}",
        proposed_at=AT,
        expires_at="2026-12-02T08:30:00Z",
        next_step="Another org_admin confirms it.",
    )
    proposal_id: str
    scope: str
    before: RuleBody | None
    after: RuleBody | None = Field(description="Null: the scope's own rule goes.")
    status: ProposalStatus
    proposed_by: str
    proposed_at: Moment
    expires_at: Moment
    decided_by: str | None
    decided_at: Moment | None
    next_step: str | None = Field(description="While it waits: who confirms it, and when one may do it alone.")


class RuleChanged(Answer):
    """Done, or (202) proposed: then another org_admin must confirm it."""

    model_config = example(done=True, proposal=None)
    done: bool
    proposal: ProposalAnswer | None


class RuleProposed(RuleChanged):
    """Another org_admin must confirm it."""

    model_config = example(done=False, proposal=example_of(ProposalAnswer))
    proposal: ProposalAnswer


@router.get("")
@allow(Role.USER)
async def list_(call: Call) -> Whole[RuleAnswer]:
    """List the rules, the organization's own first. Phone numbers in them are masked for all but an org_admin."""
    found = await list_rules(call.core.store, call.core.clock, call.organization_id)
    return Whole(items=[_rule(call, record) for record in found])


@router.get("/limits")
@allow(Role.USER)
async def limits(call: Call) -> LimitsAnswer:
    """Read what the caller may do with money, and what is left of it."""
    found = await limits_of(call.core, call.principal)
    return LimitsAnswer(
        environment=found.environment,
        role=found.role,
        tools=list(found.tools),
        rules=[
            RuleLeft(scope=each.scope, limits=[_left(left) for left in each.remaining], rule=_masked(each.rule))
            for each in found.rules
        ],
    )


@router.put("/{scope}", responses={status.HTTP_202_ACCEPTED: {"model": RuleProposed}})
@allow(Role.ORG_ADMIN, person=True)
async def put(call: Call, scope: Scope, body: RuleBody, response: Response) -> RuleChanged:
    """Give a scope this rule in place of the one it has."""
    return await _change(call, scope, rule_from(body.model_dump()), response)


@router.delete("/{scope}", responses={status.HTTP_202_ACCEPTED: {"model": RuleProposed}})
@allow(Role.ORG_ADMIN, person=True)
async def delete(call: Call, scope: Scope, response: Response) -> RuleChanged:
    """Take a scope's rule away; the organization's becomes the default again."""
    return await _change(call, scope, None, response)


@router.get("/proposals")
@allow(Role.ORG_ADMIN)
async def proposals(call: Call, limit: Limit = 50, cursor: Cursor = None) -> Page[ProposalAnswer]:
    """List proposals, newest first, those that are decided too."""
    page = await page_proposals(call.core.store, call.core.clock, call.organization_id, limit=limit, cursor=cursor)
    return Page(items=[ProposalAnswer.model_validate(each) for each in page.items], next_cursor=page.next_cursor)


@router.post("/proposals/{proposal_id}/confirm")
@allow(Role.ORG_ADMIN, person=True)
async def confirm_(call: Call, proposal_id: ProposalId, _body: Nothing = NOTHING) -> ProposalAnswer:
    """Make a change that another org_admin, or the operator, has proposed."""
    return ProposalAnswer.model_validate(
        await confirm(
            call.core.store,
            call.core.clock,
            organization_id=call.organization_id,
            proposal_id=proposal_id,
            actor=call.actor,
        )
    )


@router.post("/proposals/{proposal_id}/decline")
@allow(Role.ORG_ADMIN, person=True)
async def decline_(call: Call, proposal_id: ProposalId, _body: Nothing = NOTHING) -> ProposalAnswer:
    """Drop a proposed change."""
    return ProposalAnswer.model_validate(
        await decline(
            call.core.store,
            call.core.clock,
            organization_id=call.organization_id,
            proposal_id=proposal_id,
            actor=call.actor,
        )
    )


async def _change(call: Call, scope: str, rule: Rule | None, response: Response) -> RuleChanged:
    change = await set_rule(
        call.core.store,
        call.core.clock,
        organization_id=call.organization_id,
        scope=scope,
        rule=rule,
        actor=call.actor,
    )
    if change.proposal is None:
        return RuleChanged(done=True, proposal=None)
    response.status_code = status.HTTP_202_ACCEPTED
    return RuleProposed(done=False, proposal=ProposalAnswer.model_validate(change.proposal))


def _left(left: Remaining) -> LimitLeft:
    return LimitLeft(
        window=left.window,
        limit=None if left.limit is None else str(left.limit),
        left=None if left.left is None else str(left.left),
        payments=left.payments,
        payments_left=left.payments_left,
        resets_at=left.resets_at,
    )


def _masked(rule: Rule) -> RuleBody:
    return RuleBody.model_validate(masked(words_of(rule)))


def _rule(call: Call, record: RuleRecord) -> RuleAnswer:
    words = words_of(record.rule)
    return RuleAnswer(
        scope=record.scope,
        is_default=record.is_default,
        changed_at=record.changed_at,
        changed_by=record.changed_by,
        key_ended=record.key_ended,
        # Whoever changes a rule says the whole of it, and must see the whole of it.
        **(words if call.principal.role is Role.ORG_ADMIN else masked(words)),
    )
