"""What a caller may do under the rules, and what is left of it now. Read only: intake decides when it comes to it."""

from collections.abc import Sequence
from dataclasses import dataclass

from mpesa_mcp.identity.organizations import get_organization
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.batches.submission import BatchRequest
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.requests import B2cRequest, ReversalRequest, StkPushRequest
from mpesa_mcp.payments.standing import refusal
from mpesa_mcp.payments.states import PaymentKind
from mpesa_mcp.policy.counters import used_so_far
from mpesa_mcp.policy.remaining import Remaining, remaining
from mpesa_mcp.policy.rule_book import rules_of
from mpesa_mcp.policy.rules import Rule
from mpesa_mcp.policy.scopes import scopes_of
from mpesa_mcp.values import Environment, Role

_STOPPED = "Whatever the rules leave, nothing can be paid out now."
_MOVING = (StkPushRequest, B2cRequest, ReversalRequest, BatchRequest)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleLimits:
    """One rule that binds the caller, and what is left of it."""

    scope: str
    rule: Rule
    remaining: Sequence[Remaining]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`tools` are those that move money and are open to the caller now; `rules` all that bind it.

    `stopped` says why those that pay out are not among them, while the organization is frozen.
    """

    environment: Environment
    role: Role
    stopped: str | None
    tools: Sequence[str]
    rules: Sequence[RuleLimits]


async def limits_of(core: Core, principal: Principal) -> Limits:
    """What binds this caller in its environment."""
    allowed = [request.tool for request in _MOVING if principal.may_use(request.tool, request.least_role)]
    async with core.store.reading(principal.organization_id) as session:
        stopped = refusal((await get_organization(session)).status, PaymentKind.B2C, so=_STOPPED)
    tools = [tool for tool in allowed if stopped is None or tool == StkPushRequest.tool]
    scopes = dict.fromkeys(
        scope for tool in allowed for scope in scopes_of(actor=principal.actor, role=principal.role, tool=tool)
    )
    return Limits(
        environment=principal.environment,
        role=principal.role,
        stopped=stopped.message if stopped is not None else None,
        tools=tools,
        rules=await rules_with_limits(core, principal.organization_id, principal.environment, list(scopes)),
    )


async def rules_with_limits(
    core: Core, organization_id: str, environment: Environment, scopes: Sequence[str]
) -> Sequence[RuleLimits]:
    """The rules of these scopes, and what is left of them in one environment."""
    now = core.clock.now()
    async with core.store.reading(organization_id) as session:
        rules = await rules_of(session, scopes)
        used = await used_so_far(session, environment=environment, scopes=rules, recipients=(), at=now)
    return [
        RuleLimits(scope=scope, rule=rule, remaining=remaining(scope, rule, used, now)) for scope, rule in rules.items()
    ]
