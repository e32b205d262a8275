"""`mpesa-mcp rule`: rules about money that leaves. A change that allows more is only proposed, where two must agree."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from mpesa_mcp.cli.output import Document, JsonOption, OrgOption, acting, emit, run, say

if TYPE_CHECKING:
    from mpesa_mcp.payments.core import Core
    from mpesa_mcp.policy.changes import RuleChange
    from mpesa_mcp.policy.proposals import ProposalRecord

commands = typer.Typer(no_args_is_help=True, help="Rules about money that leaves an organization.")

ScopeOption = Annotated[
    str, typer.Option(help="organization, role:manager, key:<key id> or tool:b2c_payment: whom the rule is for.")
]


def shillings(help_text: str) -> typer.models.OptionInfo:
    """An option of whole shillings."""
    option: typer.models.OptionInfo = typer.Option(
        parser=_whole_shillings, metavar="SHILLINGS", help=f"{help_text} In whole KES."
    )
    return option


def _whole_shillings(text: str) -> int:
    if not re.fullmatch(r"[0-9]+|[0-9]{1,3}(,[0-9]{3})+", text):
        raise typer.BadParameter("It is written as whole shillings, for example 25000 or 25,000.")
    return int(text.replace(",", ""))


@commands.command("list")
def list_(org: OrgOption, as_json: JsonOption = False) -> None:
    """List an organization's rules, its own first."""

    async def act(core: "Core") -> list[Document]:
        from mpesa_mcp.identity.organizations import organization_by_slug
        from mpesa_mcp.policy.rule_book import list_rules
        from mpesa_mcp.policy.words import words_of

        found = await organization_by_slug(core.store, org)
        return [
            {
                "scope": record.scope,
                "rule": words_of(record.rule),
                "is_default": record.is_default,
                "changed_at": record.changed_at,
                "changed_by": record.changed_by,
                "key_ended": record.key_ended,
            }
            for record in await list_rules(core.store, core.clock, found.organization_id)
        ]

    emit(run(act), as_json=as_json, columns=("scope", "rule", "is_default", "key_ended", "changed_at", "changed_by"))


@commands.command("set")
def set_(
    org: OrgOption,
    scope: ScopeOption = "organization",
    per_payment: Annotated[int | None, shillings("The most of one payment.")] = None,
    per_hour: Annotated[int | None, shillings("The most in an hour.")] = None,
    per_day: Annotated[int | None, shillings("The most in a day of Nairobi.")] = None,
    per_month: Annotated[int | None, shillings("The most in a month.")] = None,
    payments_per_hour: Annotated[int | None, typer.Option(min=0, help="How many in an hour.")] = None,
    payments_per_day: Annotated[int | None, typer.Option(min=0, help="How many in a day.")] = None,
    payments_per_month: Annotated[int | None, typer.Option(min=0, help="How many in a month.")] = None,
    per_recipient_per_day: Annotated[int | None, shillings("The most to one number in a day.")] = None,
    payments_per_recipient_per_day: Annotated[int | None, typer.Option(min=0, help="How many to it in a day.")] = None,
    first_payment: Annotated[int | None, shillings("The most to a number that was never paid before.")] = None,
    cool_off_hours: Annotated[int | None, typer.Option(min=0, help="Hours after that without another.")] = None,
    allowed_recipients: Annotated[str | None, typer.Option(help="The only numbers, separated by commas.")] = None,
    denied_recipients: Annotated[str | None, typer.Option(help="Numbers that are never paid.")] = None,
    hours: Annotated[str | None, typer.Option(help="When in Nairobi: 08:00-18:00.")] = None,
    days: Annotated[str | None, typer.Option(help="On which days: mon,tue,wed,thu,fri.")] = None,
    largest_batch: Annotated[int | None, typer.Option(min=0, help="The most payments of one batch.")] = None,
    approval_above: Annotated[int | None, shillings("Above this a person must approve.")] = None,
    second_approval_above: Annotated[int | None, shillings("Above this two people must approve.")] = None,
    confirm_in_chat_above: Annotated[int | None, shillings("Above this the user confirms in the chat.")] = None,
    clear: Annotated[str | None, typer.Option(help="Limits to take away, by name, separated by commas.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Change a rule: what is given is set, everything else stays. The first rule of a scope begins without limits."""
    given = {name: value for name, value in locals().items() if name not in {"org", "scope", "clear", "as_json"}}
    for name in ("allowed_recipients", "denied_recipients", "days"):
        given[name] = _list(given[name])
    cleared = {name.replace("-", "_") for name in _list(clear) or ()}

    async def act(core: "Core") -> Document:
        from mpesa_mcp.policy.changes import change_rule

        organization_id = await _organization(core, org)
        change = await change_rule(
            core.store,
            core.clock,
            organization_id=organization_id,
            scope=scope,
            words={name: value for name, value in given.items() if value is not None},
            cleared=cleared,
            actor=acting(),
        )
        return await _told(core, organization_id, scope, change, as_json=as_json)

    emit(run(act), as_json=as_json)


@commands.command()
def remove(org: OrgOption, scope: ScopeOption, as_json: JsonOption = False) -> None:
    """Take a scope's rule away; the organization's becomes the default again."""

    async def act(core: "Core") -> Document:
        from mpesa_mcp.policy.changes import set_rule

        organization_id = await _organization(core, org)
        change = await set_rule(
            core.store, core.clock, organization_id=organization_id, scope=scope, rule=None, actor=acting()
        )
        return await _told(core, organization_id, scope, change, as_json=as_json)

    emit(run(act), as_json=as_json)


@commands.command()
def proposals(
    org: OrgOption,
    every: Annotated[bool, typer.Option("--all", help="Those that are decided, expired or void, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the proposed changes that wait. Another org_admin confirms or declines one, signed in."""

    async def act(core: "Core") -> list[Document]:
        from mpesa_mcp.policy.proposals import list_open_proposals, list_proposals

        listing = list_proposals if every else list_open_proposals
        found = await listing(core.store, core.clock, await _organization(core, org))
        return [_proposed(each) if as_json else _in_short(each) for each in found]

    columns = ("proposal_id", "scope", "change", "status", "proposed_by", "expires_at")
    emit(run(act), as_json=as_json, columns=columns)


async def _organization(core: "Core", org: str) -> str:
    from mpesa_mcp.identity.organizations import organization_by_slug

    return (await organization_by_slug(core.store, org)).organization_id


async def _told(core: "Core", organization_id: str, scope: str, change: "RuleChange", *, as_json: bool) -> Document:
    """What was changed or proposed; for a program the whole rule as it stands now."""
    proposal = change.proposal
    if as_json:
        from mpesa_mcp.policy.rule_book import list_rules
        from mpesa_mcp.policy.words import words_of

        found = await list_rules(core.store, core.clock, organization_id)
        rules = {record.scope: words_of(record.rule) for record in found}
        return {
            "scope": scope,
            "rule": rules.get(scope),
            "done": proposal is None,
            "proposal": None if proposal is None else _proposed(proposal),
            "voided": change.voided,
        }
    changes = _changes(change.before, change.after) or "nothing"
    if proposal is None:
        if change.voided:
            void = "1 open proposal is" if change.voided == 1 else f"{change.voided} open proposals are"
            say(f"{void} void now, being about the rule before. Whoever still wants such a change proposes it anew.")
        return {"scope": scope, "changed": changes}
    say(
        "Nothing is changed yet: it allows more than before, which takes two people. "
        f"{proposal.next_step} Signed in, at {core.settings.reached_at}/console/rules"
    )
    return {
        "scope": scope,
        "proposed": changes,
        "proposal_id": proposal.proposal_id,
        "expires_at": proposal.expires_at,
    }


def _in_short(proposal: "ProposalRecord") -> Document:
    """A proposal with what it would change, and not the whole rule twice."""
    from mpesa_mcp.policy.changes import in_force
    from mpesa_mcp.policy.words import words_of

    without = words_of(in_force(proposal.scope, None))
    before, after = (without if words is None else words for words in (proposal.before, proposal.after))
    return _proposed(proposal) | {"change": _changes(before, after)}


def _changes(before: Document, after: Document) -> dict[str, str]:
    """Field by field what differs; "none" where there is no limit."""
    return {
        name: f"{_limit(before.get(name))} -> {_limit(after.get(name))}"
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    }


def _limit(value: object) -> str:
    if value is None:
        return "none"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _proposed(proposal: "ProposalRecord") -> dict[str, object]:
    return {
        "proposal_id": proposal.proposal_id,
        "scope": proposal.scope,
        "before": proposal.before,
        "after": proposal.after,
        "status": proposal.status,
        "proposed_by": proposal.proposed_by,
        "proposed_at": proposal.proposed_at,
        "expires_at": proposal.expires_at,
        "decided_by": proposal.decided_by,
        "decided_at": proposal.decided_at,
        "next_step": proposal.next_step,
    }


def _list(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]
