"""`mpesa-mcp reconcile`: our payments beside a statement from the M-PESA portal, or the simulator's ledger."""

import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mpesa_mcp.cli.output import Document, JsonOption, OrgOption, emit, operator, run, say
from mpesa_mcp.values import Environment

if TYPE_CHECKING:
    from mpesa_mcp.payments.core import Core
    from mpesa_mcp.payments.findings import Comparison, Finding, Sums
    from mpesa_mcp.payments.movements import Source
    from mpesa_mcp.payments.scope import Asked, Scope

_COLUMNS = (
    "receipt",
    "payment_id",
    "ours",
    "theirs",
    "amount_ours",
    "amount_theirs",
    "when",
    "what_to_do",
    "untrusted_text",
)
_LONG = 10_000
_DAY = ["%Y-%m-%d"]


def reconcile(
    org: OrgOption,
    from_date: Annotated[datetime, typer.Option("--from", formats=_DAY, help="First day, in Nairobi.")],
    to_date: Annotated[datetime, typer.Option("--to", formats=_DAY, help="Last day, in Nairobi, included.")],
    statement: Annotated[
        Path | None, typer.Option(help="CSV exported from the M-PESA portal; without it, the simulator's ledger.")
    ] = None,
    environment: Annotated[Environment | None, typer.Option(help="Where, if the organization pays in several.")] = None,
    shortcode: Annotated[str | None, typer.Option(help="Whose statement it is, if there are several.")] = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take receipts for succeeded payments that have none, where it is sure.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare payments with Safaricom's statement. Exits with 1 if anything is left over.

    Changes nothing, save for missing receipts with --adopt.
    """

    async def act(core: "Core") -> tuple["Scope", "Source", "Comparison"]:
        from mpesa_mcp.payments.adoption import adopt_receipts
        from mpesa_mcp.payments.comparison import compare
        from mpesa_mcp.payments.findings import ADOPTED
        from mpesa_mcp.payments.scope import Asked

        asked = Asked(
            first=from_date.date(),
            last=to_date.date(),
            environment=environment,
            shortcode=shortcode,
            has_statement=statement is not None,
        )
        scope, source = await _both_sides(core, org, asked, statement)
        progress = _show_progress if sys.stderr.isatty() else _say_nothing
        found = await compare(core, scope, source, keep_all=as_json, progress=progress)
        if adopt:
            adopted = await adopt_receipts(
                core, scope.organization_id, scope.environment, found.adoptable, source=source.name, actor=operator()
            )
            found.matched_without_receipt = [
                replace(each, what_to_do=ADOPTED.format(source=source.name)) if each.payment_id in adopted else each
                for each in found.matched_without_receipt
            ]
        return scope, source, found

    scope, source, found = run(act)
    for note in found.notes:
        say(f"Note: {note}")
    if as_json:
        emit(_document(scope, found), as_json=True)
    else:
        _print_for_people(scope, source, found)
    if found.left_over:
        raise typer.Exit(1)


async def _both_sides(core: "Core", slug: str, asked: "Asked", statement: Path | None) -> tuple["Scope", "Source"]:
    from mpesa_mcp.identity.organizations import organization_by_slug
    from mpesa_mcp.payments.ledger import read_ledger
    from mpesa_mcp.payments.movements import Source
    from mpesa_mcp.payments.scope import choose_scope
    from mpesa_mcp.payments.statement import open_statement

    organization = await organization_by_slug(core.store, slug)
    if statement is None:
        scope = await choose_scope(core, organization, asked)
        return scope, await read_ledger(core, scope.shortcodes)
    opened = open_statement(statement)
    scope = await choose_scope(core, organization, replace(asked, stated_shortcode=opened.shortcode))
    return scope, Source(movements=opened.movements, is_ledger=False, read_at=core.clock.now())


def _print_for_people(scope: "Scope", source: "Source", found: "Comparison") -> None:
    totals = _totals(scope, found)
    emit({name: value for name, value in totals.items() if value not in (None, 0)}, as_json=False)
    listed = [*found.left_over, *found.matched_without_receipt]
    if listed:
        typer.echo()
        emit([_line(each) for each in listed], as_json=False, columns=_COLUMNS)
    if found.undecided:
        has, them = ("has", "it") if found.undecided == 1 else ("have", "them")
        say(
            f"undecided here: {found.undecided:,} of these days {has} no outcome here yet, and {source.name} shows no "
            f"money for {them}. What waits for a person: mpesa-mcp payment review --org {scope.slug}, and "
            f"mpesa-mcp approval list --org {scope.slug}. All else is followed here: compare again later."
        )
    left = len(found.left_over)
    say(f"{left} left over." if left else "Nothing is left over.")


def _document(scope: "Scope", found: "Comparison") -> Document:
    lists = (
        "matched",
        "matched_without_receipt",
        "missing_here",
        "missing_there",
        "amounts_differ",
        "statuses_differ",
        "charges",
    )
    return {name: [_line(each) for each in getattr(found, name)] for name in lists} | {"totals": _totals(scope, found)}


def _totals(scope: "Scope", found: "Comparison") -> dict[str, object]:
    return {
        "organization": scope.slug,
        "environment": scope.environment.value,
        "shortcodes": sorted(scope.shortcodes),
        "from": scope.first,
        "to": scope.last,
        "covered_from": found.first_at,
        "covered_to": found.last_at,
        "matched": found.matched_count,
        "matched_without_receipt": len(found.matched_without_receipt),
        "missing_here": len(found.missing_here),
        "missing_there": len(found.missing_there),
        "amounts_differ": len(found.amounts_differ),
        "statuses_differ": len(found.statuses_differ),
        "ours": _sums(found.ours),
        "theirs": _sums(found.theirs),
        "charges": {"count": found.charged.count, "amount": _decimal(found.charged.cents_in + found.charged.cents_out)},
        "not_completed_there": found.not_completed,
        "undecided_here": found.undecided,
        "completed_after_the_period": found.at_the_edge,
    }


def _sums(sums: "Sums") -> dict[str, object]:
    return {"count": sums.count, "paid_in": _decimal(sums.cents_in), "paid_out": _decimal(sums.cents_out)}


def _decimal(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _line(each: "Finding") -> Document:
    return {
        "receipt": each.receipt,
        "payment_id": each.payment_id,
        "kind": each.kind.value if each.kind else None,
        "direction": each.direction.value,
        "ours": each.ours.value if each.ours else None,
        "theirs": each.theirs,
        "amount_ours": None if each.amount_ours is None else str(each.amount_ours),
        "amount_theirs": None if each.amount_theirs is None else str(each.amount_theirs),
        "when": each.when,
        "what_to_do": each.what_to_do,
        "untrusted_text": each.untrusted_text,
    }


def _say_nothing(_lines: int) -> None:
    return None


def _show_progress(lines: int) -> None:
    """Tells somebody at a terminal that a long file is being read; short ones need none."""
    if lines % _LONG == 0:
        say(f"{lines:,} lines read ...")
