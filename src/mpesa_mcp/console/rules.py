"""Rules about money: which there are and what is left of them, changing one, and the second person of a change.

A change that allows more than before becomes a proposal, where the organization has a second org_admin to confirm it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import Response
from starlette.routing import Route

from mpesa_mcp.console import words
from mpesa_mcp.console.callers import callers
from mpesa_mcp.console.rendering import going_to, rendered
from mpesa_mcp.console.visits import Visit, page
from mpesa_mcp.errors import ConflictError, InputError, MpesaMcpError, NotFoundError
from mpesa_mcp.identity.api_keys import list_keys
from mpesa_mcp.payments.limits import rules_with_limits
from mpesa_mcp.policy.changes import confirm, decline, set_rule
from mpesa_mcp.policy.proposals import ProposalRecord, ProposalStatus, list_open_proposals, list_proposals
from mpesa_mcp.policy.rule_book import RuleRecord, list_rules
from mpesa_mcp.policy.rules import ORGANIZATION, Rule
from mpesa_mcp.policy.scopes import TOOLS, checked_scope
from mpesa_mcp.policy.words import AMOUNTS, COUNTS, DAYS, RECIPIENTS, Words, masked, rule_from, words_of
from mpesa_mcp.values import MEMBER_ROLES, Role, sha256_hex

_SCOPES: Final = (*(f"role:{role}" for role in MEMBER_ROLES), *(f"tool:{tool}" for tool in TOOLS))


class RuleChanged(ConflictError):
    """Somebody else changed the rule while the form was filled in."""

    code = "rule_changed"

    def __init__(self) -> None:
        super().__init__("The rule was changed while you wrote. Nothing was done; look at it again first.")


@page(Role.USER)
async def rules(visit: Visit) -> Response:
    """All of them, the organization's own first, and the changes that wait for a second person."""
    return await _shown(visit)


async def _shown(visit: Visit, refused: MpesaMcpError | None = None) -> Response:
    core, organization_id = visit.core, visit.organization_id
    found = await list_rules(core.store, core.clock, organization_id)
    scopes = [each.scope for each in found]
    limits = await rules_with_limits(core, organization_id, visit.principal.environment, scopes)
    proposals = await _waiting(visit)
    proposers = await _proposers(visit, found)
    keys = [key for key in await list_keys(core.store, organization_id) if key.is_usable(core.clock.now())]
    people = {each.proposed_by for each in proposals} | {each.changed_by for each in found if each.changed_by}
    people |= {*proposers.values()}
    return rendered(
        "rules.html",
        visit=visit,
        status=refused.http_status if refused else 200,
        rules=[(each, _readable(visit, each.rule)) for each in found],
        left={each.scope: each.remaining for each in limits},
        proposals=proposals,
        proposers=proposers,
        names=await callers(visit, {*scopes, *people}),
        without=[scope for scope in (*_SCOPES, *(f"key:{key.key_id}" for key in keys)) if scope not in scopes],
        key_names={f"key:{key.key_id}": key.name for key in keys},
        refused=refused,
    )


@page(Role.ORG_ADMIN)
async def rule(visit: Visit) -> Response:
    """The form of one rule."""
    scope, name = await _scope(visit)
    now = await _in_force(visit, scope)
    return _form(visit, scope, name, version=_version(now), shown=now)


async def _change_again(visit: Visit, refused: MpesaMcpError) -> Response:
    scope, name = await _scope(visit)
    if isinstance(refused, RuleChanged):
        # Who would undo somebody else's change sees that first, and not what they wrote themselves.
        now = await _in_force(visit, scope)
        return _form(visit, scope, name, version=_version(now), shown=now, refused=refused)
    sent = _sent(visit.form)
    return _form(visit, scope, name, version=visit.form["seen"], shown=sent, refused=refused, wrong=_wrong(sent))


@page(Role.ORG_ADMIN, again=_change_again)
async def change(visit: Visit) -> Response:
    """Gives a scope the rule of the form, or proposes it."""
    scope, _ = await _scope(visit)
    wanted = _sent(visit.form)
    if visit.form.get("seen") != _version(await _in_force(visit, scope)):
        raise RuleChanged
    # The organization always has a rule: without one of its own, the default. Any other may have none.
    is_none = "remove" in visit.form or (not wanted and scope != ORGANIZATION)
    await set_rule(
        visit.core.store,
        visit.core.clock,
        organization_id=visit.organization_id,
        scope=scope,
        rule=None if is_none else rule_from(wanted),
        actor=visit.actor,
    )
    return going_to("/console/rules")


@page(Role.ORG_ADMIN, again=_shown)
async def confirm_it(visit: Visit) -> Response:
    """Makes a change that somebody else has proposed."""
    return await _decided(visit, confirm)


@page(Role.ORG_ADMIN, again=_shown)
async def decline_it(visit: Visit) -> Response:
    """Drops a proposed change."""
    return await _decided(visit, decline)


ROUTES: Final = (
    Route("/rules", rules),
    Route("/rules/{scope}", rule, methods=["GET"]),
    Route("/rules/{scope}", change, methods=["POST"]),
    Route("/rules/proposals/{proposal_id}/confirm", confirm_it, methods=["POST"]),
    Route("/rules/proposals/{proposal_id}/decline", decline_it, methods=["POST"]),
)


async def _decided(visit: Visit, decide: Any) -> Response:
    await decide(
        visit.core.store,
        visit.core.clock,
        organization_id=visit.organization_id,
        proposal_id=visit.request.path_params["proposal_id"],
        actor=visit.actor,
    )
    return going_to("/console/rules")


def _readable(visit: Visit, rule: Rule) -> Words:
    """The rule with the numbers in it whole for whoever changes it, and masked for everybody else."""
    return words_of(rule) if visit.may(Role.ORG_ADMIN) else masked(words_of(rule))


async def _waiting(visit: Visit) -> Sequence[ProposalRecord]:
    """The changes that wait for a second person, for those who can be that person."""
    if not visit.may(Role.ORG_ADMIN):
        return []
    return await list_open_proposals(visit.core.store, visit.core.clock, visit.organization_id)


async def _proposers(visit: Visit, found: Sequence[RuleRecord]) -> Mapping[str, str]:
    """By scope, who proposed the rule that holds, where a second person has confirmed it."""
    told = await list_proposals(visit.core.store, visit.core.clock, visit.organization_id)
    confirmed = {each.scope: each for each in reversed(told) if each.status is ProposalStatus.CONFIRMED}
    return {
        each.scope: last.proposed_by
        for each in found
        if (last := confirmed.get(each.scope))
        and (last.decided_by, last.after) == (each.changed_by, words_of(each.rule))
    }


def _form(
    visit: Visit,
    scope: str,
    name: str,
    *,
    version: str,
    shown: Words,
    refused: MpesaMcpError | None = None,
    wrong: tuple[str, str] | None = None,
) -> Response:
    """The form as it is filled in; `wrong` is the field that was refused, and why."""
    at, why = wrong or (None, None)
    return rendered(
        "rule.html",
        visit=visit,
        status=refused.http_status if refused else 200,
        scope=scope,
        name=name,
        version=version,
        shown=shown,
        days=DAYS,
        refused=refused,
        at=at,
        why=why,
    )


async def _scope(visit: Visit) -> tuple[str, str]:
    """Whom the rule of this address is for, and what people call that. Raises NotFoundError."""
    try:
        scope = checked_scope(visit.request.path_params["scope"])
    except InputError as unknown:
        raise NotFoundError("rule") from unknown
    names = await callers(visit, [scope])
    if scope.startswith("key:") and names[scope] == words.caller(scope, scope):
        raise NotFoundError("rule")
    return scope, words.scope(scope, names)


async def _in_force(visit: Visit, scope: str) -> Words:
    """The scope's rule as it is written; empty where there is none."""
    found = await list_rules(visit.core.store, visit.core.clock, visit.organization_id)
    return next((words_of(each.rule) for each in found if each.scope == scope), {})


def _version(words: Words) -> str:
    return sha256_hex(json.dumps(words, sort_keys=True))


def _wrong(sent: Words) -> tuple[str, str] | None:
    """The first field that cannot be read, and what it must be, by the name that the form has for it."""
    for name, value in sent.items():
        try:
            rule_from({name: value})
        except InputError as refused:
            said = refused.message.removeprefix(refused.field or "")
            line = _wrong_line(name, value)
            return name, f"{line}{words.rule_field(name)}{said}"
    return None


def _wrong_line(name: str, value: object) -> str:
    """Which of many numbers it is that cannot be read."""
    for line, number in enumerate(value if name in RECIPIENTS and isinstance(value, list) else [], 1):
        try:
            rule_from({name: [number]})
        except InputError:
            return f"Line {line} of "
    return ""


def _sent(form: Mapping[str, str]) -> Words:
    """The rule that a form says, unread: what is no number stays a text, which the rules refuse by name."""
    said: Words = {}
    for name in (*AMOUNTS, *COUNTS):
        text = form.get(name, "").replace(",", "").strip()
        if text:
            said[name] = int(text) if text.isascii() and text.isdigit() else text
    if form.get("hours", "").strip():
        said["hours"] = form["hours"].strip()
    for name in RECIPIENTS:
        numbers = [line.strip() for line in form.get(name, "").splitlines() if line.strip()]
        if numbers:
            said[name] = numbers
    if days := [day for day in DAYS if f"day_{day}" in form]:
        said["days"] = days
    return said
