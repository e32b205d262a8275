"""Reading batches: one, many, its rows in order. What a batch has come to is derived from its rows each time."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import ColumnElement, Select, and_, case, false, func, or_
from sqlmodel import col, select

from mpesa_mcp.errors import InputError, NotFoundError
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.batches.models import Batch, BatchLine
from mpesa_mcp.payments.batches.states import (
    BatchStage,
    BatchStatus,
    Outcome,
    RowState,
    Sum,
    Totals,
    batch_status,
    outcome_of,
)
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.desk import needs_a_person
from mpesa_mcp.payments.models import Payment, PaymentHistory
from mpesa_mcp.payments.reading import reason_of
from mpesa_mcp.payments.records import AskedApproval
from mpesa_mcp.payments.states import NOTHING_MOVED, PaymentEvent, PaymentStatus
from mpesa_mcp.policy.approvals import APPROVAL_LIFE
from mpesa_mcp.store.paging import Page
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment, Kes, Msisdn
from mpesa_mcp.values.msisdn import mask_within

# Rows read at once, so that a result of ten thousand takes no more memory than one of a hundred.
_AT_ONCE = 500
_OF_LINE = and_(
    col(Payment.organization_id) == col(BatchLine.organization_id), col(Payment.id) == col(BatchLine.payment_id)
)
_DOUBTFUL = (PaymentStatus.UNKNOWN, PaymentStatus.DISPUTED)
_UNPAID = (*NOTHING_MOVED, *_DOUBTFUL)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord:
    """One batch as it stands: `stage` is what was decided about it, `status` what it has come to.

    `count` and `amount` are of the rows that are paid; times in UTC. `may_retry`: rows are proven failed, and a batch
    that was let go and not ended may have them tried again.
    """

    organization_id: str
    batch_id: str
    name: str
    stage: BatchStage
    status: BatchStatus
    environment: Environment
    shortcode: str
    purpose: str
    count: int
    amount: Kes
    totals: Totals
    may_retry: bool
    reason: str | None
    approval: AskedApproval | None
    created_by: str
    created_at: datetime
    updated_at: datetime
    retried: Sum | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRecord:
    """One row and what it has come to. `reason` is our own sentence.

    A row that was rejected has neither phone nor amount: what it said of them is in `given`, as text that may be
    anything.
    """

    line: int
    outcome: Outcome
    phone: Msisdn | None
    amount: Kes | None
    reference: str
    remarks: str
    payment_id: str | None
    receipt: str | None
    result_code: str | None
    reason: str | None
    untrusted_text: str | None
    given: Mapping[str, str] | None = None

    @property
    def said_phone(self) -> Msisdn | str | None:
        """Its phone; of a rejected row what it said there, masked where that is no number: it may nearly be one."""
        said = self.phone or (self.given or {}).get("phone")
        try:
            return Msisdn.parse(said) if isinstance(said, str) and said else said
        except InputError:
            return mask_within(said) if isinstance(said, str) else None

    @property
    def said_amount(self) -> Kes | str | None:
        """Its amount; of a rejected row what it said there."""
        return self.amount or (self.given or {}).get("amount")


async def find_batch(core: Core, principal: Principal, batch_id: str) -> BatchRecord:
    """Raises NotFoundError; another environment's is not found either."""
    async with core.store.reading(principal.organization_id) as session:
        row = await session.get(Batch, batch_id.strip().lower())
        if row is None or row.environment != principal.environment:
            raise NotFoundError("batch")
        return batch_record(row, await totals_of(session, row.id))


async def batch_of(core: Core, organization_id: str, batch_id: str) -> BatchRecord:
    """One batch of an organization in any environment, for its operator. Raises NotFoundError."""
    async with core.store.reading(organization_id) as session:
        row = await session.get(Batch, batch_id.strip().lower())
        if row is None:
            raise NotFoundError("batch")
        return batch_record(row, await totals_of(session, row.id))


async def list_batches(
    core: Core, organization_id: str, *, environment: Environment | None, limit: int, cursor: str | None = None
) -> Page[BatchRecord]:
    """Newest first; the cursor is the id of the last one of the page before. Raises InputError."""
    statement = select(Batch).order_by(col(Batch.created_at).desc(), col(Batch.id).desc())
    if environment is not None:
        statement = statement.where(Batch.environment == environment)
    async with core.store.reading(organization_id) as session:
        if cursor is not None:
            last = await session.get(Batch, cursor)
            if last is None or environment not in {None, last.environment}:
                raise InputError("cursor must be the next_cursor of an earlier page.", field="cursor")
            earlier = and_(col(Batch.created_at) == last.created_at, col(Batch.id) < last.id)
            statement = statement.where(or_(col(Batch.created_at) < last.created_at, earlier))
        rows = await session.all(statement.limit(limit + 1))
        shown = [batch_record(row, await totals_of(session, row.id)) for row in rows[:limit]]
    return Page(shown, shown[-1].batch_id if len(rows) > limit else None)


async def lines_of(core: Core, batch: BatchRecord) -> AsyncIterator[Sequence[LineRecord]]:
    """All rows in the order of their lines, some hundreds at a time; each part is a view of its own moment."""
    after = 0
    while lines := await lines_after(core, batch, after, limit=_AT_ONCE):
        yield lines
        after = lines[-1].line


async def lines_after(
    core: Core, batch: BatchRecord, after: int, *, limit: int, rejected: bool = True
) -> Sequence[LineRecord]:
    """The next rows after this line, with those that were rejected or without; 0 is before all of them."""
    statement = _with_payments(batch.batch_id).where(col(BatchLine.line) > after).limit(limit)
    if not rejected:
        statement = statement.where(col(BatchLine.state) != RowState.REJECTED)
    async with core.store.reading(batch.organization_id) as session:
        rows = await session.rows(statement)
    return [_line_record(*row) for row in rows]


async def unpaid_lines(core: Core, batch: BatchRecord, *, limit: int) -> Sequence[LineRecord]:
    """The first rows that were rejected, failed, or are unknown or disputed."""
    return await _first_lines(core, batch, or_(_is_rejected(), _came_to(*_UNPAID)), limit=limit)


async def failed_lines(core: Core, batch: BatchRecord, *, limit: int) -> Sequence[LineRecord]:
    """The first rows of which it is certain that they were not paid: rejected, or failed."""
    return await _first_lines(core, batch, or_(_is_rejected(), _came_to(*NOTHING_MOVED)), limit=limit)


async def doubtful_lines(core: Core, batch: BatchRecord, *, limit: int) -> Sequence[LineRecord]:
    """The first rows that may have been paid, and nobody knows: unknown or disputed."""
    return await _first_lines(core, batch, _came_to(*_DOUBTFUL), limit=limit)


async def rejected_lines(core: Core, batch: BatchRecord, *, limit: int) -> Sequence[LineRecord]:
    """The first rows that were left out."""
    return await _first_lines(core, batch, _is_rejected(), limit=limit)


async def _first_lines(
    core: Core, batch: BatchRecord, which: ColumnElement[bool], *, limit: int
) -> Sequence[LineRecord]:
    async with core.store.reading(batch.organization_id) as session:
        rows = await session.rows(_with_payments(batch.batch_id).where(which).limit(limit))
    return [_line_record(*row) for row in rows]


def _is_rejected() -> ColumnElement[bool]:
    return col(BatchLine.state) == RowState.REJECTED


def _came_to(*statuses: PaymentStatus) -> ColumnElement[bool]:
    """That its payment has one of these statuses, and was not taken back."""
    return and_(col(BatchLine.state) == RowState.MADE, col(Payment.status).in_(statuses), ~is_withdrawn())


def is_withdrawn() -> ColumnElement[bool]:
    """Of a payment in a statement: whether it ended by being taken back; only those that ended unsent are looked up."""
    taken_back = select(PaymentHistory.id).where(
        PaymentHistory.payment_id == Payment.id,
        PaymentHistory.event == PaymentEvent.WITHDRAWN,
        PaymentHistory.to_status == PaymentStatus.EXPIRED,
    )
    return case((col(Payment.status) == PaymentStatus.EXPIRED, taken_back.exists()), else_=false())


def _with_payments(batch_id: str) -> Select[BatchLine, Payment, bool]:
    return (
        select(BatchLine)
        .add_columns(Payment, is_withdrawn())
        .outerjoin(Payment, _OF_LINE)
        .where(col(BatchLine.batch_id) == batch_id)
        .order_by(col(BatchLine.line))
    )


async def totals_of(session: OrganizationSession, batch_id: str) -> Totals:
    """The rows of a batch by outcome."""
    each = (
        select(BatchLine.state, BatchLine.amount_cents)
        .add_columns(col(Payment.status).label("payment"), is_withdrawn().label("withdrawn"))
        .outerjoin(Payment, _OF_LINE)
        .where(col(BatchLine.batch_id) == batch_id)
        .subquery()
        .c
    )
    statement = (
        select(each.state)
        .add_columns(each.payment, each.withdrawn, func.count(), func.sum(each.amount_cents))
        .group_by(each.state, each.payment, each.withdrawn)
    )
    totals = Totals.of(
        (
            outcome_of(RowState(state), PaymentStatus(payment) if payment else None, is_withdrawn=withdrawn),
            count,
            int(cents),
        )
        for state, payment, withdrawn, count, cents in await session.rows(statement)
    )
    return replace(totals, for_a_person=await _for_a_person(session, batch_id)) if totals.not_known else totals


async def _for_a_person(session: OrganizationSession, batch_id: str) -> int:
    """How many rows end only when a person decides."""
    made = and_(col(BatchLine.batch_id) == batch_id, col(BatchLine.state) == RowState.MADE)
    statement = select(func.count()).select_from(BatchLine).join(Payment, _OF_LINE).where(made, needs_a_person())
    return await session.first(statement) or 0


def batch_record(row: Batch, totals: Totals) -> BatchRecord:
    return BatchRecord(
        organization_id=row.organization_id,
        batch_id=row.id,
        name=row.name,
        stage=BatchStage(row.status),
        status=batch_status(BatchStage(row.status), totals),
        environment=Environment(row.environment),
        shortcode=row.shortcode,
        purpose=row.purpose,
        count=row.row_count,
        amount=Kes(row.amount_cents),
        totals=totals,
        may_retry=BatchStage(row.status).may_retry and totals[Outcome.FAILED].count > 0,
        reason=row.reason,
        approval=_asked_approval(row),
        created_by=row.created_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _asked_approval(row: Batch) -> AskedApproval | None:
    if row.approval_id is None or row.status != BatchStage.AWAITING_APPROVAL:
        return None
    return AskedApproval(row.approval_id, row.created_at + APPROVAL_LIFE)


def _line_record(line: BatchLine, payment: Payment | None, withdrawn: bool) -> LineRecord:
    state = RowState(line.state)
    outcome = outcome_of(state, PaymentStatus(payment.status) if payment else None, is_withdrawn=withdrawn)
    given = line.given or {}
    is_known = state is not RowState.REJECTED
    paid = payment if state is RowState.MADE else None
    return LineRecord(
        line=line.line,
        outcome=outcome,
        phone=Msisdn(line.phone) if is_known else None,
        amount=Kes(line.amount_cents) if is_known else None,
        reference=given.get("reference", line.reference),
        remarks=given.get("remarks", line.remarks),
        payment_id=line.payment_id,
        receipt=paid.receipt if paid else None,
        result_code=paid.result_code if paid else None,
        reason=_reason(line, paid, outcome),
        untrusted_text=paid.untrusted_text if paid else None,
        given=line.given,
    )


def _reason(line: BatchLine, paid: Payment | None, outcome: Outcome) -> str | None:
    """Of a row that was to be tried again and was not: why not, unless it turned out that it may have been paid."""
    told = reason_of(paid) if paid is not None else None
    return told if outcome in {Outcome.UNKNOWN, Outcome.DISPUTED} else line.problem or told
