"""Batches: what each has come to, its rows, its result as a file; and stopping one, or letting it go on."""

import re
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from mpesa_mcp.audit.reading import EntryFilter, EntryRecord, list_entries
from mpesa_mcp.billing.states import Act
from mpesa_mcp.console import words
from mpesa_mcp.console.callers import who_asked
from mpesa_mcp.console.rendering import HEADERS, going_to, rendered, unchanged
from mpesa_mcp.console.visits import Endpoint, Visit, page
from mpesa_mcp.errors import MpesaMcpError
from mpesa_mcp.payments.batches.control import cancel_batch, pause_batch, resume_batch
from mpesa_mcp.payments.batches.reading import (
    BatchRecord,
    batch_of,
    doubtful_lines,
    failed_lines,
    lines_after,
    list_batches,
)
from mpesa_mcp.payments.batches.results import result_csv
from mpesa_mcp.payments.batches.retrying import retry_batch
from mpesa_mcp.payments.batches.states import Outcome
from mpesa_mcp.payments.standing import refusal
from mpesa_mcp.payments.states import PaymentKind
from mpesa_mcp.values import Role

_ON_A_PAGE: Final = 25
_ROWS_ON_A_PAGE: Final = 100
_LINE: Final = re.compile("[0-9]{1,9}")


@page(Role.USER)
async def batches(visit: Visit) -> Response:
    """All of them, newest first."""
    read = await list_batches(
        visit.core, visit.organization_id, environment=None, limit=_ON_A_PAGE, cursor=visit.query.get("cursor")
    )
    return rendered("batches.html", visit=visit, batches=read.items, older=read.next_cursor)


@page(Role.USER)
async def batch(visit: Visit) -> Response:
    """One of them. Until nothing more can become of it, the page looks again by itself."""
    return await _shown(visit)


async def _shown(visit: Visit, refused: MpesaMcpError | None = None) -> Response:
    found = await _found(visit)
    # What the organization subscribed to is asked when a button is pressed.
    frozen = _frozen(visit)
    version = f"{version_of(found)}{'-frozen' if frozen else ''}"
    if visit.query.get("seen") == version:
        return unchanged()
    given = visit.query.get("after", "")
    after = int(given) if _LINE.fullmatch(given) else 0
    # Those that were rejected stand among those that are not paid already.
    lines = await lines_after(visit.core, found, after, limit=_ROWS_ON_A_PAGE + 1, rejected=False)
    asked = await who_asked(visit, found.created_by, found.batch_id)
    return rendered(
        "batch.html",
        visit=visit,
        status=refused.http_status if refused else 200,
        batch=found,
        totals=[(outcome, found.totals[outcome]) for outcome in Outcome],
        lines=lines[:_ROWS_ON_A_PAGE],
        doubtful=await doubtful_lines(visit.core, found, limit=_ROWS_ON_A_PAGE) if not after else [],
        failed_rows=await failed_lines(visit.core, found, limit=_ROWS_ON_A_PAGE) if not after else [],
        most=_ROWS_ON_A_PAGE,
        may_retry=found.may_retry and found.status.is_at_rest,
        next=lines[_ROWS_ON_A_PAGE - 1].line if len(lines) > _ROWS_ON_A_PAGE else None,
        version=version,
        frozen=frozen,
        done=await _done(visit, found),
        asked=asked,
        refused=refused,
    )


def _frozen(visit: Visit) -> MpesaMcpError | None:
    """Why nothing of a batch leaves, whatever is decided about it."""
    assert visit.organization is not None
    return refusal(visit.organization.status, PaymentKind.B2C, so="Nothing was changed.")


async def _done(visit: Visit, batch: BatchRecord) -> EntryRecord | None:
    """What this visitor has just done to it, as the audit has it."""
    if (act := visit.query.get("done")) not in words.DONE_TO_A_BATCH:
        return None
    by_visitor = EntryFilter(actor=visit.principal.actor, subject=batch.batch_id, action=f"batch.{act}")
    found = await list_entries(visit.core.store, visit.organization_id, by_visitor, limit=1)
    return next(iter(found.entries), None)


def version_of(batch: BatchRecord) -> str:
    """Another one whenever a page about this batch would say something else."""
    return "-".join([batch.status, *(f"{batch.totals[outcome].count}" for outcome in Outcome)])


@page(Role.USER)
async def result(visit: Visit) -> Response:
    """Every row and what it has come to, for a spreadsheet."""
    found = await _found(visit)
    headers = HEADERS | {"Content-Disposition": f'attachment; filename="{found.batch_id}.csv"'}
    return StreamingResponse(result_csv(visit.core, found), media_type="text/csv; charset=utf-8", headers=headers)


def _deciding(decide: Callable[..., Awaitable[BatchRecord]], done: str, act: Act = Act.READ) -> Endpoint:
    """The page behind a button."""

    @page(Role.MANAGER, act=act, again=_shown)
    async def decided(visit: Visit) -> Response:
        found = await _found(visit)
        await decide(visit.core, visit.organization_id, found.batch_id, actor=visit.principal.actor)
        return going_to(f"/console/batches/{found.batch_id}?done={done}")

    return decided


ROUTES: Final = (
    Route("/batches", batches),
    Route("/batches/{batch_id}", batch),
    Route("/batches/{batch_id}/result.csv", result),
    Route("/batches/{batch_id}/pause", _deciding(pause_batch, "paused"), methods=["POST"]),
    Route("/batches/{batch_id}/resume", _deciding(resume_batch, "resumed", Act.PAY_OUT), methods=["POST"]),
    Route("/batches/{batch_id}/cancel", _deciding(cancel_batch, "cancelled"), methods=["POST"]),
    Route("/batches/{batch_id}/retry", _deciding(retry_batch, "retried", Act.PAY_OUT), methods=["POST"]),
)


async def _found(visit: Visit) -> BatchRecord:
    return await batch_of(visit.core, visit.organization_id, visit.request.path_params["batch_id"])
