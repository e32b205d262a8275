"""Waiting in the queue: a payment that may not leave yet is put back as it was, only due later.

No attempt, no try used up, and the same place: of rows that are due together the oldest goes first.
"""

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, or_, update
from sqlmodel import col, select

from mpesa_mcp.daraja.conclusions import Held
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.schedule import QUEUE_LIFE
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.store.crossings import Claim
from mpesa_mcp.store.tenancy import OrganizationSession


async def put_back(core: Core, claim: Claim, payment: Payment, held: Held) -> None:
    """Waits until its turn may come.

    What waits for the same shortcode would learn the same, so it is put back too, unless it must expire before.
    """
    async with core.store.session(claim.organization_id) as session:
        await wait_in_time(session, claim, payment, held.until)
        if held.others_until > core.clock.now():  # else only this one waits: others may probe
            through_the_same = col(Payment.shortcode_id) == payment.shortcode_id
            await others_wait(core, session, payment, held.others_until, through_the_same)


async def wait_in_time(session: OrganizationSession, claim: Claim, payment: Payment, until: datetime) -> None:
    """Waits until then, or until it is too old, should that come first."""
    await wait(session, min(until, given_up_at(payment) + timedelta(seconds=1)), is_held(claim))


async def others_wait(
    core: Core, session: OrganizationSession, payment: Payment, until: datetime, *which: ColumnElement[bool]
) -> None:
    """What waits of the same kind waits until then too, unless it must expire before."""
    of_the_kind = col(Payment.kind) == payment.kind
    in_time = col(Payment.queued_at) >= until - QUEUE_LIFE[PaymentKind(payment.kind)]
    await wait(session, until, _waits(core.clock.now(), until, of_the_kind, in_time, *which))


def is_held(claim: Claim) -> ColumnElement[bool]:
    """This payment, if the claim still holds it."""
    return and_(col(Payment.id) == claim.id, col(Payment.fence) == claim.fence)


def _waits(now: datetime, until: datetime, *more: ColumnElement[bool]) -> ColumnElement[bool]:
    """Nobody holds it, and it would be looked at before `until`."""
    waiting = select(Payment.id).where(
        col(Payment.status) == PaymentStatus.QUEUED,
        col(Payment.next_action_at) < until,
        or_(col(Payment.lease_until).is_(None), col(Payment.lease_until) <= now),
        *more,
    )
    # What somebody is changing at this moment is not waiting; and nobody waits for anybody here.
    return col(Payment.id).in_(waiting.with_for_update(skip_locked=True))


async def wait(session: OrganizationSession, until: datetime | None, which: ColumnElement[bool]) -> None:
    await session.change(
        update(Payment)
        .where(col(Payment.status) == PaymentStatus.QUEUED, which)
        .values(next_action_at=until, lease_until=None)
    )


def given_up_at(payment: Payment) -> datetime:
    assert payment.queued_at is not None  # or it would not be claimed
    return payment.queued_at + QUEUE_LIFE[PaymentKind(payment.kind)]
