"""Reading approvals: the queue of what waits for people, and one with all that whoever decides should know."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import case, func
from sqlmodel import col, select

from mpesa_mcp.errors import InputError, NotFoundError
from mpesa_mcp.identity.named import names_of
from mpesa_mcp.payments.batches.models import Batch, BatchLine
from mpesa_mcp.payments.batches.states import BatchStage, RowState
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.held import sending_of
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.reading import payment_record
from mpesa_mcp.payments.records import PaymentRecord
from mpesa_mcp.payments.states import PaymentKind
from mpesa_mcp.policy.approvals import Approval, ApprovalRecord, ApprovalStatus, approval_records
from mpesa_mcp.policy.digests import Sending
from mpesa_mcp.store.paging import Page, page_by_id
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment, Kes

MOST_EARLIER = 10
_EARLIER = timedelta(days=366)
_OPEN = [stage for stage in BatchStage if not stage.is_over]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedBatch:
    """What a person should know of a batch: `left_out` rows of its file are not paid, `largest` is its largest one."""

    name: str
    purpose: str
    shortcode: str
    left_out: int
    largest: Kes


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedFor:
    """One approval with the payment or the batch it is about; `asker` is the name of the key or the person."""

    approval: ApprovalRecord
    payment: PaymentRecord | None
    batch: AskedBatch | None
    asker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToDecide(AskedFor):
    """`sending` is exactly what the digest stands for; `earlier` what went to the same number within a year before.

    While it waits, `earlier` has what was asked for since, too; `rows_waiting` is how many rows of batches wait to go
    to that number. `gives_back` is what a reversal reverses.
    """

    sending: Sending | None
    earlier: Sequence[PaymentRecord]
    rows_waiting: int
    gives_back: PaymentRecord | None


def read_status(text: str) -> ApprovalStatus:
    """Raises InputError."""
    if text not in set(ApprovalStatus):
        raise InputError(f"status must be one of: {', '.join(ApprovalStatus)}.", field="status")
    return ApprovalStatus(text)


async def list_approvals(
    core: Core,
    organization_id: str,
    *,
    environment: Environment | None = None,
    status: ApprovalStatus | None = None,
    limit: int,
    cursor: str | None = None,
) -> Page[AskedFor]:
    """Newest first; of all environments when none is named. Raises InputError."""
    conditions = []
    if environment is not None:
        conditions.append(col(Approval.environment) == environment)
    if status is not None:
        conditions.append(col(Approval.status) == status)
    async with core.store.reading(organization_id) as session:
        page = await page_by_id(session, Approval, *conditions, limit=limit, cursor=cursor)
        approvals = await approval_records(session, page.items)
        wanted = [each.payment_id for each in approvals if each.payment_id is not None]
        rows = await session.all(select(Payment).where(col(Payment.id).in_(wanted)))
        batches = await _batches(session, [each.batch_id for each in approvals if each.batch_id is not None])
        names = await names_of(session, {each.asked_by for each in approvals})
    payments = {row.id: payment_record(row) for row in rows}
    items = [
        AskedFor(
            approval=each,
            payment=payments.get(each.payment_id or ""),
            batch=batches.get(each.batch_id or ""),
            asker=names[each.asked_by],
        )
        for each in approvals
    ]
    return Page(items, page.next_cursor)


async def approval_to_decide(
    core: Core, organization_id: str, approval_id: str, *, environment: Environment | None = None
) -> ToDecide:
    """One approval. Raises NotFoundError, also for one of another environment than the one that is named."""
    async with core.store.reading(organization_id) as session:
        row = await session.get(Approval, approval_id.strip().lower())
        if row is None or (environment is not None and row.environment != environment):
            raise NotFoundError("approval")
        [approval] = await approval_records(session, [row])
        names = await names_of(session, {row.asked_by})
        payment = await session.get(Payment, row.payment_id) if row.payment_id is not None else None
        is_waiting = approval.status is ApprovalStatus.PENDING
        reversed_id = payment.reverses_payment_id if payment is not None else None
        given_back = await session.get(Payment, reversed_id) if reversed_id is not None else None
        return ToDecide(
            approval=approval,
            payment=payment_record(payment) if payment is not None else None,
            batch=(await _batches(session, [row.batch_id])).get(row.batch_id) if row.batch_id is not None else None,
            asker=names[row.asked_by],
            sending=sending_of(payment) if payment is not None else None,
            earlier=await _earlier(session, payment, until_now=is_waiting) if payment is not None else [],
            rows_waiting=await _rows_waiting(session, payment) if payment is not None and is_waiting else 0,
            gives_back=payment_record(given_back) if given_back is not None else None,
        )


async def approval_about(core: Core, organization_id: str, payment_id: str) -> ApprovalRecord | None:
    """What people were asked about a payment, if they were."""
    async with core.store.reading(organization_id) as session:
        rows = await session.all(select(Approval).where(col(Approval.payment_id) == payment_id))
        return next(iter(await approval_records(session, rows)), None)


async def count_waiting(session: OrganizationSession) -> int:
    """How many approvals wait for a person, in every environment."""
    waiting = select(func.count(col(Approval.id))).where(col(Approval.status) == ApprovalStatus.PENDING)
    return await session.first(waiting) or 0


async def _batches(session: OrganizationSession, batch_ids: Sequence[str]) -> Mapping[str, AskedBatch]:
    """These batches, by their ids."""
    if not batch_ids:
        return {}
    is_left_out = col(BatchLine.state) == RowState.REJECTED
    of_rows = (
        select(BatchLine.batch_id)
        .add_columns(
            func.sum(case((is_left_out, 1), else_=0)),
            func.max(case((is_left_out, 0), else_=col(BatchLine.amount_cents))),
        )
        .where(col(BatchLine.batch_id).in_(batch_ids))
        .group_by(col(BatchLine.batch_id))
    )
    found = {row.id: row for row in await session.all(select(Batch).where(col(Batch.id).in_(batch_ids)))}
    return {
        batch_id: AskedBatch(
            name=found[batch_id].name,
            purpose=found[batch_id].purpose,
            shortcode=found[batch_id].shortcode,
            left_out=int(left_out),
            largest=Kes(int(largest)),
        )
        for batch_id, left_out, largest in await session.rows(of_rows)
    }


async def _earlier(session: OrganizationSession, payment: Payment, *, until_now: bool) -> Sequence[PaymentRecord]:
    """The last payments to the same number, in the same environment; with or without what was asked for later."""
    to_the_same = select(Payment).where(
        Payment.phone == payment.phone,
        Payment.environment == payment.environment,
        Payment.kind != PaymentKind.STK_PUSH,
        Payment.id != payment.id,
        col(Payment.created_at) > payment.created_at - _EARLIER,
    )
    if not until_now:
        to_the_same = to_the_same.where(col(Payment.created_at) <= payment.created_at)
    newest_first = to_the_same.order_by(col(Payment.created_at).desc(), col(Payment.id).desc())
    return [payment_record(row) for row in await session.all(newest_first.limit(MOST_EARLIER))]


async def _rows_waiting(session: OrganizationSession, payment: Payment) -> int:
    """How many rows of batches wait to go to the same number, in the same environment."""
    still_open = select(Batch.id).where(col(Batch.status).in_(_OPEN), Batch.environment == payment.environment)
    waiting = select(func.count(col(BatchLine.line))).where(
        col(BatchLine.batch_id).in_(still_open),
        BatchLine.state == RowState.WAITING,
        BatchLine.phone == payment.phone,
    )
    return await session.first(waiting) or 0
