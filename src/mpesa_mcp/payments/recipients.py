"""Since when a recipient is known: what the rules about first payments ask."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import func
from sqlmodel import col, select

from mpesa_mcp.payments.batches.models import Batch, BatchLine
from mpesa_mcp.payments.batches.states import BatchStage, RowState
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.states import NOTHING_MOVED, PaymentKind
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment

# Recipients that one statement asks about.
_AT_ONCE = 500
_OPEN = [stage for stage in BatchStage if not stage.is_over]


async def first_paid(
    session: OrganizationSession,
    environment: Environment,
    phones: Collection[str],
    *,
    until: datetime | None = None,
    but_for: str = "",
) -> dict[str, datetime]:
    """When each recipient's first payment was asked for that moved, or may still move, money of this organization.

    Rows of batches that wait to become payments are among them. `until`: what was asked for later is not; `but_for` is
    the id of a payment or a batch that is not.
    """
    asked = sorted(phones)
    found: dict[str, datetime] = {}
    for start in range(0, len(asked), _AT_ONCE):
        part = asked[start : start + _AT_ONCE]
        # In this order: a row that becomes a payment in between is found as both, and not as neither.
        waiting = await _waiting(session, environment, part, until, but_for)
        for phone, at in [*waiting, *await _paid(session, environment, part, until, but_for)]:
            found[phone] = min(found.get(phone, at), at)
    return found


async def _paid(
    session: OrganizationSession,
    environment: Environment,
    phones: Collection[str],
    until: datetime | None,
    but_for: str,
) -> list[tuple[str, datetime]]:
    statement = (
        select(Payment.phone)
        .add_columns(func.min(col(Payment.created_at)))
        .where(
            col(Payment.phone).in_(phones),
            col(Payment.kind) != PaymentKind.STK_PUSH,
            col(Payment.environment) == environment,
            col(Payment.status).not_in(NOTHING_MOVED),
            col(Payment.id) != but_for,
            *([col(Payment.created_at) <= until] if until is not None else []),
        )
        .group_by(col(Payment.phone))
    )
    return [(phone, at) for phone, at in await session.rows(statement)]


async def _waiting(
    session: OrganizationSession,
    environment: Environment,
    phones: Collection[str],
    until: datetime | None,
    but_for: str,
) -> list[tuple[str, datetime]]:
    still_open = select(Batch.id).where(col(Batch.status).in_(_OPEN), Batch.environment == environment)
    statement = (
        select(BatchLine.phone)
        .add_columns(func.min(col(BatchLine.asked_at)))
        .where(
            col(BatchLine.batch_id).in_(still_open),
            col(BatchLine.state) == RowState.WAITING,
            col(BatchLine.phone).in_(phones),
            col(BatchLine.batch_id) != but_for,
            *([col(BatchLine.asked_at) <= until] if until is not None else []),
        )
        .group_by(col(BatchLine.phone))
    )
    return [(phone, at) for phone, at in await session.rows(statement)]
