"""`mpesa-mcp batch`: pay the rows of a file, see what became of them, and decide about what has not left."""

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpesa_mcp.cli.batch_waiting import until_at_rest
from mpesa_mcp.cli.output import Document, JsonOption, OrgOption, emit, operator, run, say
from mpesa_mcp.daraja.operations import Purpose
from mpesa_mcp.errors import ConflictError, InputError
from mpesa_mcp.payments.batches.states import Outcome, Sum
from mpesa_mcp.values import Environment, Kes, Role, sha256_hex

if TYPE_CHECKING:
    from mpesa_mcp.payments.batches.problems import BatchInvalid
    from mpesa_mcp.payments.batches.reading import BatchRecord, LineRecord
    from mpesa_mcp.payments.batches.submission import BatchRequest
    from mpesa_mcp.payments.core import Core

commands = typer.Typer(help="Pay many people by a file, and read what became of each row.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="A batch id.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Stay until nothing more happens by itself.")]
_COLUMNS = ("created_at", "batch_id", "name", "status", "count", "amount", "environment", "created_by")
_LEFT_OUT_SHOWN = 20


@commands.command("create")
def create(
    org: OrgOption,
    file: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="CSV with a header, or JSON.")],
    name: Annotated[str | None, typer.Option(help="What people call it; by default the file's name.")] = None,
    purpose: Annotated[Purpose, typer.Option(help="Why the payouts are made; receivers see it.")] = Purpose.BUSINESS,
    key: Annotated[
        str | None, typer.Option(help="Idempotency key; by default of the file's content, so that it is paid once.")
    ] = None,
    expected_total: Annotated[str | None, typer.Option(help="KES. Refused if the rows amount to another sum.")] = None,
    expected_count: Annotated[int | None, typer.Option(help="Refused if there are more or fewer rows.")] = None,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Pay the good rows, leave the others out.")
    ] = False,
    environment: Annotated[Environment | None, typer.Option(help="Where; by default the organization's.")] = None,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check every row of a file, then pay all of them; or list what is wrong and pay none."""

    async def act(core: "Core") -> "tuple[dict[str, Any], Sequence[LineRecord]] | BatchInvalid":
        from mpesa_mcp.identity.organizations import organization_by_slug
        from mpesa_mcp.identity.principal import Principal
        from mpesa_mcp.payments.batches.problems import BatchInvalid
        from mpesa_mcp.payments.batches.submission import SubmittedBefore, submit_batch

        organization = await organization_by_slug(core.store, org)
        place = environment or organization.default_environment
        principal = Principal(organization.organization_id, operator(), Role.ORG_ADMIN, place, None, operator())
        request = _request(
            file,
            name=_name_of(file) if name is None else name,
            purpose=purpose,
            key=key,
            expected_total=expected_total,
            expected_count=expected_count,
            skip_invalid=skip_invalid,
        )
        try:
            opened = await submit_batch(core, principal, request)
        except BatchInvalid as refused:
            return refused
        except SubmittedBefore as before:
            if key is not None:
                raise
            raise ConflictError(
                f"This file was submitted before as {before.batch_id}, with {before.otherwise}. Nothing was stored or "
                f"sent. See what became of it: mpesa-mcp batch show --org {org} {before.batch_id}"
            ) from None
        if opened.replayed:
            say("This was submitted before, and is that batch: nothing is paid again. Give --key to pay it anew.")
        _tell_approval(core, opened.batch)
        batch = await until_at_rest(core, opened.batch, org=org) if wait else opened.batch
        return _document(core, batch) | {"replayed": opened.replayed}, await _left_out(core, batch)

    done = run(act)
    if not isinstance(done, tuple):
        _tell_problems(done, org=org, as_json=as_json)
        raise typer.Exit(1)
    _emit_rows(*done, org=org, as_json=as_json)


@commands.command("list")
def list_(
    org: OrgOption,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most, newest first.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List batches, newest first, of every environment."""

    async def act(core: "Core") -> list[dict[str, object]]:
        from mpesa_mcp.identity.organizations import organization_by_slug
        from mpesa_mcp.payments.batches.reading import list_batches

        organization = await organization_by_slug(core.store, org)
        page = await list_batches(core, organization.organization_id, environment=None, limit=limit)
        return [_document(core, batch) for batch in page.items]

    emit(run(act), as_json=as_json, columns=_COLUMNS)


@commands.command("show")
def show(org: OrgOption, batch_id: IdArgument, wait: WaitOption = False, as_json: JsonOption = False) -> None:
    """Show one batch: what its rows have come to, and which were left out."""

    async def act(core: "Core") -> "tuple[dict[str, Any], Sequence[LineRecord]]":
        batch = await _found(core, org, batch_id)
        if wait:
            batch = await until_at_rest(core, batch, org=org)
        return _document(core, batch), await _left_out(core, batch)

    _emit_rows(*run(act), org=org, as_json=as_json)


@commands.command("result")
def result(
    org: OrgOption,
    batch_id: IdArgument,
    output: Annotated[Path | None, typer.Option(help="A file; by default standard output.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write what became of each row as a CSV that is safe to open in a spreadsheet."""

    async def act(core: "Core") -> list[dict[str, object]]:
        from mpesa_mcp.payments.batches.reading import lines_of
        from mpesa_mcp.payments.batches.results import cells, result_csv

        batch = await _found(core, org, batch_id)
        if as_json:
            return [
                {name: _plain(cell) for name, cell in cells(line).items()}
                async for lines in lines_of(core, batch)
                for line in lines
            ]
        content = [part async for part in result_csv(core, batch)]
        if output is not None:
            output.write_bytes(b"".join(content))
        else:
            sys.stdout.buffer.write(b"".join(content))
            sys.stdout.flush()
        return []

    lines = run(act)
    if as_json:
        emit(lines, as_json=True)


@commands.command("pause")
def pause(org: OrgOption, batch_id: IdArgument, as_json: JsonOption = False) -> None:
    """Keep what has not left from leaving."""
    _decide(org, batch_id, "pause_batch", as_json=as_json)


@commands.command("resume")
def resume(org: OrgOption, batch_id: IdArgument, as_json: JsonOption = False) -> None:
    """Let a paused batch go on."""
    _decide(org, batch_id, "resume_batch", as_json=as_json)


@commands.command("cancel")
def cancel(org: OrgOption, batch_id: IdArgument, as_json: JsonOption = False) -> None:
    """Cancel what has not left; what was sent is settled as ever."""
    _decide(org, batch_id, "cancel_batch", as_json=as_json)


@commands.command("retry")
def retry(org: OrgOption, batch_id: IdArgument, as_json: JsonOption = False) -> None:
    """Make new payments for the rows that are proven failed, and for no other."""
    _decide(org, batch_id, "retry_batch", as_json=as_json)


def _decide(org: str, batch_id: str, what: str, *, as_json: bool) -> None:
    async def act(core: "Core") -> tuple[dict[str, object], Sum | None]:
        from mpesa_mcp.identity.organizations import organization_by_slug
        from mpesa_mcp.payments.batches import control, retrying

        decide: Callable[..., Awaitable[BatchRecord]] = getattr(retrying if what == "retry_batch" else control, what)
        organization = await organization_by_slug(core.store, org)
        record = await decide(core, organization.organization_id, batch_id, actor=operator())
        return _document(core, record), record.retried

    decided, retried = run(act)
    emit(decided, as_json=as_json)
    if retried is not None:
        rows = "1 row is" if retried.count == 1 else f"{retried.count:,} rows are"
        say(f"{rows} tried again, KES {retried.cents / 100:,.2f} in all.")
    if what == "retry_batch" and decided["status"] == "paused":
        say(f"It is paused: go on with mpesa-mcp batch resume --org {org} {decided['batch_id']}")


async def _found(core: "Core", org: str, batch_id: str) -> "BatchRecord":
    from mpesa_mcp.identity.organizations import organization_by_slug
    from mpesa_mcp.payments.batches.reading import batch_of

    organization = await organization_by_slug(core.store, org)
    return await batch_of(core, organization.organization_id, batch_id)


def _name_of(file: Path) -> str:
    from mpesa_mcp.payments.requests import check_text

    name = file.stem[:80]
    try:
        check_text("name", name, 2, 80)
    except InputError:
        message = "The file's name does not do as the name of the batch. Give one with --name: 2 to 80 characters."
        raise InputError(message, field="name") from None
    return name


def _request(file: Path, *, key: str | None, expected_total: str | None, **values: Any) -> "BatchRequest":
    from mpesa_mcp.payments.batches.files import MAX_FILE_BYTES, rows_of_csv, rows_of_json
    from mpesa_mcp.payments.batches.submission import BatchRequest

    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
    except OSError:
        raise InputError("The file cannot be read.", field="file") from None
    rows = rows_of_json(content) if file.suffix.lower() == ".json" else rows_of_csv(content)
    return BatchRequest(
        rows=rows,
        idempotency_key=key or f"file-{sha256_hex(content.hex())[:40]}",
        expected_total=None if expected_total is None else Kes.from_decimal(expected_total),
        **values,
    )


def _tell_problems(refused: "BatchInvalid", *, org: str, as_json: bool) -> None:
    if as_json:
        error = {"code": refused.code, "message": refused.message, "errors": refused.errors_as_read}
        emit({"error": error}, as_json=True)
        return
    from mpesa_mcp.payments.batches.problems import together

    say(f"{refused.counted[0].upper()}{refused.counted[1:]}:")
    told = together(refused.problems, as_read=True)
    emit(
        [{"lines": each.lines or None, "field": each.field, "problem": each.message} for each in told],
        as_json=False,
        columns=("lines", "field", "problem"),
    )
    nothing = "Nothing was stored and nothing was sent."
    if not refused.limited:
        or_skip = ", or leave them out with --skip-invalid" if refused.may_skip else ""
        say(f"{nothing} Correct the file{or_skip}.")
        return
    correct = " Correct what is wrong." if refused.is_wrong else ""
    say(
        f"{nothing}{correct} Rows that only exceed a limit are right: an org_admin changes it with "
        f"mpesa-mcp rule set --org {org} ...; or submit them when it has room again. "
        "--skip-invalid would leave those people unpaid."
    )


def _tell_approval(core: "Core", batch: "BatchRecord") -> None:
    if batch.approval is not None:
        say(f"A person must approve it at {core.settings.approval_url(batch.approval.approval_id)}")


async def _left_out(core: "Core", batch: "BatchRecord") -> "Sequence[LineRecord]":
    from mpesa_mcp.payments.batches.reading import rejected_lines

    return await rejected_lines(core, batch, limit=_LEFT_OUT_SHOWN)


def _emit_rows(document: Mapping[str, Any], left_out: "Sequence[LineRecord]", *, org: str, as_json: bool) -> None:
    from mpesa_mcp.payments.batches.results import cells

    # With all that the row said: what is wrong may be anywhere in it.
    columns = ("line", "phone", "amount", "reference", "remarks", "reason")
    rows = [{name: _plain(cells(line)[name]) for name in columns} for line in left_out]
    if as_json:
        emit({**document, "left_out": rows}, as_json=True)
        return
    emit(document, as_json=False)
    if not rows:
        return
    count = int(document["totals"]["rejected"]["count"])
    say(f"Left out, and not paid: {count:,} rows")
    emit(rows, as_json=False, columns=columns)
    if count > len(rows):
        say(f"and {count - len(rows):,} more; all are in: mpesa-mcp batch result --org {org} {document['batch_id']}")


def _document(core: "Core", batch: "BatchRecord") -> dict[str, Any]:
    # What rejected rows amount to is not known: some amounts could not be read.
    totals: Document = {
        outcome.value: {"count": each.count} | ({} if outcome is Outcome.REJECTED else {"amount": str(Kes(each.cents))})
        for outcome, each in sorted(batch.totals.by_outcome.items())
    }
    return {
        "batch_id": batch.batch_id,
        "name": batch.name,
        "status": batch.status.value,
        "final": batch.status.is_final,
        "environment": batch.environment.value,
        "shortcode": batch.shortcode,
        "purpose": batch.purpose,
        "count": batch.count,
        "amount": str(batch.amount),
        "currency": "KES",
        "totals": totals,
        "reason": batch.reason,
        "approval_id": batch.approval.approval_id if batch.approval else None,
        "approval_url": core.settings.approval_url(batch.approval.approval_id) if batch.approval else None,
        "created_by": batch.created_by,
        "created_at": batch.created_at,
        "updated_at": batch.updated_at,
    }


def _plain(value: object) -> object:
    """What JSON shows of a cell; phones are masked, amounts written out."""
    return value if value is None or isinstance(value, int) else str(value)
