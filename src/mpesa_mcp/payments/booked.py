"""Our side of a comparison: payments as they stand, read in pages, with what can tell which movement is theirs."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_
from sqlmodel import col, select

from mpesa_mcp.payments.models import Attempt, Payment
from mpesa_mcp.payments.movements import Direction, Movement
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment

_PAGE = 1000
# How long a payment may have waited, for a person or in the queue, before it was sent.
LONGEST_WAIT = timedelta(days=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """One payment of ours. `sent_at` is its latest send."""

    payment_id: str
    kind: PaymentKind
    status: PaymentStatus
    shortcode: str
    cents: int
    phone: str
    receipt: str | None
    reverses_receipt: str | None
    originator_conversation_id: str | None
    created_at: datetime
    settled_at: datetime | None
    sent_at: datetime | None

    @property
    def direction(self) -> Direction:
        return Direction.of(self.kind)

    @property
    def moves_at(self) -> datetime:
        """The earliest moment its money can have moved."""
        return self.sent_at or self.created_at

    @property
    def may_have_moved(self) -> bool:
        """Whether a movement without a payment can be this one's: what was never sent moved nothing."""
        return self.status.moved or self.sent_at is not None

    def is_named_by(self, movement: Movement) -> bool:
        """Whether a withdrawal tells of this payout or reversal by an id; customers write nothing in withdrawals."""
        if movement.direction is not Direction.OUT:
            return False
        ids = (self.originator_conversation_id, self.reverses_receipt)
        return any(each is not None and each in movement.text for each in ids)


async def booked_by_receipt(
    session: OrganizationSession, environment: Environment, receipts: Collection[str]
) -> Mapping[str, Booked]:
    """The payments of this environment with these receipts, whenever they were made."""
    found = await _read(session, environment, col(Payment.receipt).in_(receipts))
    return {each.receipt: each for each in found if each.receipt is not None}


async def booked_by_daraja_ids(
    session: OrganizationSession, environment: Environment, movements: Sequence[Movement]
) -> Mapping[str, Booked]:
    """Receipt of a movement → the payment whose ids, given by or to Daraja, the movement has."""
    checkouts = {each.checkout_request_id for each in movements if each.checkout_request_id}
    originators = {each.originator_conversation_id for each in movements if each.originator_conversation_id}
    if not checkouts and not originators:
        return {}
    sent = await session.rows(
        select(Attempt.payment_id)
        .add_columns(col(Attempt.checkout_request_id), col(Attempt.originator_conversation_id))
        .where(
            col(Attempt.payment_id).is_not(None),
            or_(
                col(Attempt.checkout_request_id).in_(checkouts),
                col(Attempt.originator_conversation_id).in_(originators),
            ),
        )
    )
    payment_of: dict[str | None, str] = {}
    for payment_id, checkout, originator in sent:
        payment_of |= {checkout: payment_id, originator: payment_id}
    wanted = or_(
        col(Payment.id).in_(set(payment_of.values())), col(Payment.originator_conversation_id).in_(originators)
    )
    found = {each.payment_id: each for each in await _read(session, environment, wanted)}
    payment_of |= {each.originator_conversation_id: each.payment_id for each in found.values()}
    payment_of.pop(None, None)
    named = {
        each.receipt: payment_of.get(each.checkout_request_id) or payment_of.get(each.originator_conversation_id)
        for each in movements
    }
    return {receipt: found[payment_id] for receipt, payment_id in named.items() if payment_id in found}


async def booked_between(
    session: OrganizationSession, environment: Environment, start: datetime, end: datetime
) -> AsyncIterator[Booked]:
    """Payments asked for in [start, end), oldest first, a page at a time."""
    span = and_(col(Payment.created_at) >= start, col(Payment.created_at) < end)
    after: ColumnElement[bool] | None = None
    while True:
        page = await _read(session, environment, span if after is None else and_(span, after), limit=_PAGE)
        for each in page:
            yield each
        if len(page) < _PAGE:
            return
        last = page[-1]
        after = or_(
            col(Payment.created_at) > last.created_at,
            and_(col(Payment.created_at) == last.created_at, col(Payment.id) > last.payment_id),
        )


async def places_of_payments(
    session: OrganizationSession, start: datetime, end: datetime
) -> Mapping[Environment, Collection[str]]:
    """Environment → shortcodes, of the payments asked for in [start, end)."""
    rows = await session.rows(
        select(Payment.environment)
        .add_columns(col(Payment.shortcode))
        .where(col(Payment.created_at) >= start, col(Payment.created_at) < end)
        .distinct()
    )
    places: dict[Environment, set[str]] = {}
    for environment, shortcode in rows:
        places.setdefault(Environment(environment), set()).add(shortcode)
    return places


async def _read(
    session: OrganizationSession, environment: Environment, wanted: ColumnElement[bool], *, limit: int | None = None
) -> Sequence[Booked]:
    statement = _columns().where(col(Payment.environment) == environment, wanted)
    if limit is not None:
        statement = statement.order_by(col(Payment.created_at), col(Payment.id)).limit(limit)
    return [
        Booked(
            payment_id=row.id,
            kind=PaymentKind(row.kind),
            status=PaymentStatus(row.status),
            shortcode=row.shortcode,
            cents=row.amount_cents,
            phone=row.phone,
            receipt=row.receipt,
            reverses_receipt=row.reverses_receipt,
            originator_conversation_id=row.originator_conversation_id,
            created_at=row.created_at,
            settled_at=row.settled_at,
            sent_at=row.sent_at,
        )
        for row in await session.rows(statement)
    ]


def _columns() -> Select[Any]:
    latest_send = (
        select(func.max(Attempt.sent_at)).where(col(Attempt.payment_id) == Payment.id).correlate(Payment)
    ).scalar_subquery()
    return select(Payment.id).add_columns(
        col(Payment.kind),
        col(Payment.status),
        col(Payment.shortcode),
        col(Payment.amount_cents),
        col(Payment.phone),
        col(Payment.receipt),
        col(Payment.reverses_receipt),
        col(Payment.originator_conversation_id),
        col(Payment.created_at),
        col(Payment.settled_at),
        latest_send.label("sent_at"),
    )
