"""Batches of payouts: submitting them as JSON or CSV, reading them, their result, and deciding about one."""

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import anyio.to_thread
from fastapi import APIRouter, Path, Query
from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Match
from starlette.types import Scope

from mpesa_mcp.api.examples import APPROVAL, AT, BATCH, KEY, NEXT_DAY, PAYMENT, SOON, example
from mpesa_mcp.api.payments import InEnvironment, reader
from mpesa_mcp.api.permissions import allow
from mpesa_mcp.api.routes import LARGE_BODIES, Call, Calling, PermittedRoute, with_body_up_to
from mpesa_mcp.api.shapes import NOTHING, Answer, Body, Cursor, Limit, Moment, Nothing, Page
from mpesa_mcp.billing.states import Act
from mpesa_mcp.daraja.operations import Purpose
from mpesa_mcp.payments.batches.control import cancel_batch, pause_batch, resume_batch
from mpesa_mcp.payments.batches.files import MAX_FILE_BYTES, rows_of_csv, rows_of_list
from mpesa_mcp.payments.batches.reading import BatchRecord, find_batch, list_batches
from mpesa_mcp.payments.batches.results import COLUMNS, result_csv
from mpesa_mcp.payments.batches.retrying import retry_batch
from mpesa_mcp.payments.batches.rows import MOST_ROWS
from mpesa_mcp.payments.batches.states import BatchStatus, Outcome
from mpesa_mcp.payments.batches.submission import BatchRequest, submit_batch
from mpesa_mcp.payments.core import Core
from mpesa_mcp.values import Environment, Kes, Role

_CSV: Final = "text/csv"
_RESULT: Final = (
    f"{','.join(COLUMNS)}\r\n"
    f"1,succeeded,2547*****678,2500.00,SAL-1,November salary,{PAYMENT},UKP7Z8CJ88,0,The money was paid out.,\r\n"
)
router = APIRouter(prefix="/batches", tags=["batches"], route_class=PermittedRoute)

BatchId = Annotated[str, Path(max_length=80)]
Name = Annotated[str, Field(min_length=2, max_length=80)]
Key = Annotated[str, Field(min_length=1, max_length=64, description="Repeat it to ask about the same batch.")]
ExpectedTotal = Annotated[int | None, Field(ge=0, description="Whole KES. Refused if the rows amount to another sum.")]
ExpectedCount = Annotated[int | None, Field(ge=0, description="Refused if there are more or fewer rows.")]
SkipInvalid = Annotated[bool, Field(description="Pay the good rows although others are wrong.")]


class GivenPayment(Body):
    """One payout. What is wrong with it is told by its line in `error.errors`, together with all others."""

    # A field that there is not is told by its line like all else.
    model_config = ConfigDict(extra="allow", json_schema_extra={"additionalProperties": False})
    phone: Annotated[Any, Field(description="A Kenyan mobile number, as text.")] = None
    amount: Annotated[Any, Field(description="Whole KES, a number from 10 to 250000.")] = None
    reference: Annotated[Any, Field(description="1 to 12 letters, digits, spaces or dashes.")] = None
    remarks: Annotated[Any, Field(description="2 to 100 characters on one line.")] = None


class BatchSubmission(Body):
    model_config = example(
        name="Salaries November",
        purpose="salary",
        idempotency_key="salaries-2026-11",
        expected_total=2500,
        expected_count=1,
        payments=[{"phone": "0712345678", "amount": 2500, "reference": "SAL-1", "remarks": "November salary"}],
    )
    name: Name
    idempotency_key: Key
    payments: Annotated[list[GivenPayment], Field(min_length=1, max_length=MOST_ROWS)]
    purpose: Annotated[Purpose, Field(strict=False)] = Purpose.BUSINESS
    expected_total: ExpectedTotal = None
    expected_count: ExpectedCount = None
    skip_invalid: SkipInvalid = False


class OutcomeAnswer(Answer):
    model_config = example(outcome="succeeded", count=1, amount="2500.00")
    outcome: Outcome
    count: int
    amount: str | None = Field(description="KES. Null of rejected rows: not every amount of theirs can be read.")


class ApprovalAsked(Answer):
    """What the batch waits for, and where a person decides."""

    model_config = example(
        approval_id=APPROVAL, expires_at=NEXT_DAY, url=f"https://pay.example/console/approvals/{APPROVAL}"
    )
    approval_id: str
    expires_at: Moment
    url: str


class BatchAnswer(Answer):
    """One batch as it stands, derived from its payments. Rows that are unknown or disputed may have been paid."""

    model_config = example(
        batch_id=BATCH,
        name="Salaries November",
        status="completed",
        final=True,
        environment="simulator",
        shortcode="174379",
        purpose="salary",
        count=1,
        amount="2500.00",
        approval=None,
        created_by=f"key:{KEY}",
        created_at=AT,
        updated_at=SOON,
    )
    batch_id: str
    name: str
    status: BatchStatus
    final: bool
    replayed: bool = Field(default=False, description="This same request was made before; nothing was sent again.")
    environment: Environment
    shortcode: str
    purpose: str
    count: int = Field(description="Rows that are paid: those that were rejected are not among them.")
    amount: str
    currency: Literal["KES"] = "KES"
    totals: list[OutcomeAnswer]
    reason: str | None
    approval: ApprovalAsked | None
    created_by: str
    created_at: Moment
    updated_at: Moment


class _CsvRoute(PermittedRoute):
    """A route for bodies that are CSV; others go on to the next of the same path."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, inner = super().matches(scope)
        kinds = [value for name, value in scope.get("headers", ()) if name == b"content-type"]
        if match is Match.NONE or not any(kind.lower().startswith(_CSV.encode()) for kind in kinds):
            return Match.NONE, {}
        return match, inner


def batch_answer(core: Core, batch: BatchRecord, *, replayed: bool = False) -> BatchAnswer:
    return BatchAnswer(
        batch_id=batch.batch_id,
        name=batch.name,
        status=batch.status,
        final=batch.status.is_final,
        replayed=replayed,
        environment=batch.environment,
        shortcode=batch.shortcode,
        purpose=batch.purpose,
        count=batch.count,
        amount=str(batch.amount),
        totals=[
            OutcomeAnswer(
                outcome=outcome,
                count=each.count,
                amount=None if outcome is Outcome.REJECTED else str(Kes(each.cents)),
            )
            for outcome in Outcome
            if (each := batch.totals[outcome]).count
        ],
        reason=batch.reason,
        approval=None
        if batch.approval is None
        else ApprovalAsked(
            approval_id=batch.approval.approval_id,
            expires_at=batch.approval.expires_at,
            url=core.settings.approval_url(batch.approval.approval_id),
        ),
        created_by=batch.created_by,
        created_at=batch.created_at,
        updated_at=batch.updated_at,
    )


@allow(Role.MANAGER, act=Act.PAY_OUT)
@with_body_up_to(MAX_FILE_BYTES)
async def submit_csv(
    call: Call,
    request: Request,
    name: Annotated[Name, Query()],
    idempotency_key: Annotated[Key, Query()],
    purpose: Purpose = Purpose.BUSINESS,
    expected_total: Annotated[ExpectedTotal, Query()] = None,
    expected_count: Annotated[ExpectedCount, Query()] = None,
    skip_invalid: Annotated[SkipInvalid, Query()] = False,
) -> BatchAnswer:
    """Check and submit the rows of a CSV."""
    content = await request.body()

    def read() -> BatchRequest:
        return BatchRequest(
            name=name,
            rows=rows_of_csv(content),
            idempotency_key=idempotency_key,
            purpose=purpose,
            expected_total=None if expected_total is None else Kes.from_shillings(expected_total),
            expected_count=expected_count,
            skip_invalid=skip_invalid,
        )

    return await _submitted(call, read)


router.add_api_route("", submit_csv, methods=["POST"], route_class_override=_CsvRoute, include_in_schema=False)


@router.post("")
@allow(Role.MANAGER, act=Act.PAY_OUT)
@with_body_up_to(MAX_FILE_BYTES)
async def submit(call: Call, body: BatchSubmission) -> BatchAnswer:
    """Check every row, then store the batch, to be paid; or nothing at all.

    Each row that is wrong is listed in `error.errors` with its line, and nothing is stored unless `skip_invalid` says
    so. As CSV: send it as text/csv, with a first line that names phone, amount, reference and remarks (other columns
    are ignored), and the other fields of the body in the query. At most 10,000 rows and 4 MiB.
    """

    def read() -> BatchRequest:
        return BatchRequest(
            name=body.name,
            rows=rows_of_list([row.model_dump() for row in body.payments]),
            idempotency_key=body.idempotency_key,
            purpose=body.purpose,
            expected_total=None if body.expected_total is None else Kes.from_shillings(body.expected_total),
            expected_count=body.expected_count,
            skip_invalid=body.skip_invalid,
        )

    return await _submitted(call, read)


@router.get("")
@allow(Role.USER)
async def list_(
    call: Call, limit: Limit = 50, cursor: Cursor = None, environment: InEnvironment = None
) -> Page[BatchAnswer]:
    """List batches, newest first."""
    page = await list_batches(
        call.core,
        call.organization_id,
        environment=reader(call, environment).environment,
        limit=limit,
        cursor=cursor,
    )
    return Page(items=[batch_answer(call.core, each) for each in page.items], next_cursor=page.next_cursor)


@router.get("/{batch_id}")
@allow(Role.USER)
async def read(call: Call, batch_id: BatchId, environment: InEnvironment = None) -> BatchAnswer:
    """Read one batch: what it has come to, by the outcomes of its rows."""
    return batch_answer(call.core, await find_batch(call.core, reader(call, environment), batch_id))


@router.get(
    "/{batch_id}/result",
    response_class=StreamingResponse,
    responses={200: {"content": {_CSV: {"schema": {"type": "string", "examples": [_RESULT]}}}}},
)
@allow(Role.USER)
async def result(call: Call, batch_id: BatchId, environment: InEnvironment = None) -> Response:
    """Download what became of each row, as a CSV that is safe to open in a spreadsheet."""
    batch = await find_batch(call.core, reader(call, environment), batch_id)
    headers = {"Content-Disposition": f'attachment; filename="{batch.batch_id}.csv"'}
    return StreamingResponse(result_csv(call.core, batch), media_type=_CSV, headers=headers)


@router.post("/{batch_id}/pause")
@allow(Role.MANAGER)
async def pause(call: Call, batch_id: BatchId, _body: Nothing = NOTHING) -> BatchAnswer:
    """Keep what has not left from leaving."""
    return await _decided(call, batch_id, pause_batch)


@router.post("/{batch_id}/resume")
@allow(Role.MANAGER, person=True, act=Act.PAY_OUT)
async def resume(call: Call, batch_id: BatchId, _body: Nothing = NOTHING) -> BatchAnswer:
    """Let a paused batch go on."""
    return await _decided(call, batch_id, resume_batch)


@router.post("/{batch_id}/cancel")
@allow(Role.MANAGER)
async def cancel(call: Call, batch_id: BatchId, _body: Nothing = NOTHING) -> BatchAnswer:
    """Cancel what has not left; what was sent is settled as ever."""
    return await _decided(call, batch_id, cancel_batch)


@router.post("/{batch_id}/retry")
@allow(Role.MANAGER, person=True, act=Act.PAY_OUT)
async def retry(call: Call, batch_id: BatchId, _body: Nothing = NOTHING) -> BatchAnswer:
    """Make new payments for the rows that are proven failed, and for no other."""
    return await _decided(call, batch_id, retry_batch)


async def _submitted(call: Calling, read: Callable[[], BatchRequest]) -> BatchAnswer:
    asked = await anyio.to_thread.run_sync(read, limiter=LARGE_BODIES)  # not on the loop that serves everybody
    opened = await submit_batch(call.core, call.principal, asked)
    return batch_answer(call.core, opened.batch, replayed=opened.replayed)


async def _decided(call: Calling, batch_id: str, decide: Any) -> BatchAnswer:
    # A key decides about its own environment; a person about every one.
    environment = call.principal.environment if call.principal.user_id is None else None
    decided: BatchRecord = await decide(
        call.core, call.organization_id, batch_id, actor=call.principal.actor, environment=environment
    )
    return batch_answer(call.core, decided)
