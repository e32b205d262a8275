"""`mpesa-mcp audit`: reading the audit, proving that nobody changed it, and handing it to an auditor."""

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from mpesa_mcp.cli.output import Document, JsonOption, emit, run, say
from mpesa_mcp.cli.whose import OrgOption, PlatformOption, require_one, whose

if TYPE_CHECKING:
    from mpesa_mcp.audit.reading import EntryPage, EntryRecord
    from mpesa_mcp.audit.verification import Verdict
    from mpesa_mcp.payments.core import Core

commands = typer.Typer(no_args_is_help=True, help="Who did what: read it, verify it, export it.")

_DAY = ["%Y-%m-%d"]
_COLUMNS = ("at", "actor", "action", "subject", "decision", "reasons", "client", "address", "entry_id")

FromOption = Annotated[datetime | None, typer.Option("--from", formats=_DAY, help="First day, in Nairobi.")]
ToOption = Annotated[datetime | None, typer.Option("--to", formats=_DAY, help="Last day, in Nairobi, included.")]


@commands.command("list")
def list_(
    org: OrgOption = None,
    platform: PlatformOption = False,
    actor: Annotated[str | None, typer.Option(help='Whose acts: "key:..." or "operator:...".')] = None,
    action: Annotated[str | None, typer.Option(help='Which acts, as "key.created".')] = None,
    subject: Annotated[str | None, typer.Option(help="Acts on what: an id.")] = None,
    from_date: FromOption = None,
    to_date: ToOption = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most, newest first.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on after the entry with this id.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List entries, newest first."""
    require_one(org, platform=platform)

    async def act(core: "Core") -> "EntryPage":
        from mpesa_mcp.audit.reading import EntryFilter, list_entries

        narrowed = EntryFilter(actor=actor, action=action, subject=subject, first=_day(from_date), last=_day(to_date))
        return await list_entries(core.store, await whose(core, org), narrowed, limit=limit, cursor=cursor)

    page = run(act)
    emit([_document(entry) for entry in page.entries], as_json=as_json, columns=_COLUMNS)
    if page.next_cursor is not None:
        say(f"There are more: --cursor {page.next_cursor}")


@commands.command()
def verify(org: OrgOption = None, platform: PlatformOption = False, as_json: JsonOption = False) -> None:
    """Compute the whole chain anew. Exits with 1 and names the first broken entry if it is not intact.

    Note the head and keep it elsewhere: a later export must contain it.
    """
    require_one(org, platform=platform)

    async def act(core: "Core") -> "Verdict":
        from mpesa_mcp.audit.verification import verify as compute

        return await compute(core.store, core.clock, await whose(core, org))

    verdict = run(act)
    broken = verdict.first_broken
    first_broken = broken and {"sequence": broken.sequence, "entry_id": broken.entry_id, "why": broken.why.value}
    emit(
        {
            "intact": verdict.intact,
            "entries": verdict.entries,
            "head": verdict.head,
            "first_broken": first_broken,
        },
        as_json=as_json,
    )
    if not verdict.intact:
        raise typer.Exit(1)


@commands.command()
def export(
    org: OrgOption = None,
    platform: PlatformOption = False,
    from_date: FromOption = None,
    to_date: ToOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the chain as JSON Lines, oldest first; the last line is its head. With --json, as one array of the same."""
    require_one(org, platform=platform)

    async def act(core: "Core") -> None:
        from mpesa_mcp.audit.verification import export as lines_of

        before = "[" if as_json else ""
        first, last = _day(from_date), _day(to_date)
        async for line in lines_of(core.store, core.clock, await whose(core, org), first=first, last=last):
            typer.echo(before + line, nl=not as_json)
            before = ",\n" if as_json else ""
        if as_json:
            typer.echo("]")

    run(act)


def _day(given: datetime | None) -> date | None:
    return given.date() if given else None


def _document(entry: "EntryRecord") -> Document:
    return {
        "entry_id": entry.entry_id,
        "at": entry.at,
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "decision": entry.decision,
        "reasons": entry.reasons,
        "client": entry.client,
        "address": entry.address,
        "request_id": entry.request_id,
        "trace_id": entry.trace_id,
        "detail": entry.detail,
        "before": entry.before,
        "after": entry.after,
    }
