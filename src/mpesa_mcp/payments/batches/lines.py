"""The rows of a batch as they are stored: what their digest is, and leaving out those that wait."""

from sqlalchemy import update
from sqlmodel import col, select

from mpesa_mcp.payments.batches.judging import give_back_waiting
from mpesa_mcp.payments.batches.models import Batch, BatchLine
from mpesa_mcp.payments.batches.rows import BatchDigest
from mpesa_mcp.payments.batches.states import RowState
from mpesa_mcp.store.tenancy import OrganizationSession

_READ_AT_ONCE = 1_000


async def digest_of(session: OrganizationSession, batch: Batch) -> str:
    """The digest of the rows as they are stored now."""
    digest = BatchDigest(
        batch_id=batch.id, environment=batch.environment, shortcode=batch.shortcode, purpose=batch.purpose
    )
    after = 0
    while True:
        statement = (
            select(BatchLine.line, BatchLine.phone, BatchLine.amount_cents, BatchLine.reference)
            .add_columns(col(BatchLine.remarks))
            .where(
                col(BatchLine.batch_id) == batch.id,
                col(BatchLine.state) != RowState.REJECTED,
                col(BatchLine.line) > after,
            )
            .order_by(col(BatchLine.line))
            .limit(_READ_AT_ONCE)
        )
        rows = await session.rows(statement)
        for line, phone, cents, reference, remarks in rows:
            digest.add(line=line, phone=phone, cents=cents, reference=reference, remarks=remarks)
        if len(rows) < _READ_AT_ONCE:
            return digest.hexdigest()
        after = rows[-1][0]


async def leave_out_waiting(session: OrganizationSession, batch: Batch, *, gives_back: bool = True) -> None:
    """Rows that wait are left out; those that wait to be tried again stay what they came to."""
    if gives_back:
        await give_back_waiting(session, batch)
    waiting = update(BatchLine).where(col(BatchLine.batch_id) == batch.id, col(BatchLine.state) == RowState.WAITING)
    await session.change(waiting.where(col(BatchLine.payment_id).is_(None)).values(state=RowState.CANCELLED))
    await session.change(waiting.values(state=RowState.MADE, tries=col(BatchLine.tries) - 1))
