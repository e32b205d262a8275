"""What keeps payments of a batch from leaving: it is paused or over, or Safaricom refuses them for reasons of ours.

Dispatch asks `is_let_go` in the very statement that takes a payment for sending, and whoever stops a batch changes
every payment of it that is queued: of the two, the one that commits first wins, and nothing leaves a stopped batch.
"""

from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, or_, update
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.credentials.shortcodes import ShortcodeUnavailable
from mpesa_mcp.daraja.conclusions import TOKEN_REFUSALS
from mpesa_mcp.daraja.credential import CertificateMissing, PasswordUnusable
from mpesa_mcp.daraja.oauth import KeysRefused
from mpesa_mcp.payments.batches.models import Batch
from mpesa_mcp.payments.batches.states import BatchStage
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.states import PaymentStatus
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock

# So many refusals one after the other, each for a reason of ours, stop a batch: the rest would be refused as well, and
# wrong credentials lock the initiator after a few tries (daraja/codes.md §3).
IN_A_ROW = 5
# Codes that payments fail with: of results, of what Daraja answers at once, and of what keeps us from asking it.
_OURS = {
    "1": "the utility account does not hold enough money",
    "5": "the paying account would fall below its least balance",
    "11": "the paying account is not active",
    "13": "Safaricom could not identify the paying account",
    "20": "Safaricom does not know the initiator",
    "21": "the initiator lacks the role for payouts",
    "2001": "the initiator's name or password is wrong",
    "2006": "the rules of the paying account do not allow payouts",
    "2028": "the shortcode does not have the product for payouts",
    "8006": "the initiator is locked",
    **dict.fromkeys(TOKEN_REFUSALS, "the Daraja app lacks the product for payouts"),
    KeysRefused.code: "Safaricom refuses the consumer key and secret",
    CertificateMissing.code: "Safaricom's production certificate is not configured",
    PasswordUnusable.code: "the initiator's password is empty or too long",
    ShortcodeUnavailable.code: "credentials of the shortcode are missing",
}
_LET_GO = [stage for stage in BatchStage if stage.may_send]


def is_let_go() -> ColumnElement[bool]:
    """Of a payment in an UPDATE: whether its batch, if it has one, lets it leave."""
    let_go = select(Batch.id).where(col(Batch.id) == col(Payment.batch_id), col(Batch.status).in_(_LET_GO))
    return or_(col(Payment.batch_id).is_(None), let_go.exists())


async def is_stopped(session: OrganizationSession, payment: Payment) -> bool:
    """`is_let_go`, asked at once, the other way round."""
    if payment.batch_id is None:
        return False
    let_go = select(Batch.id).where(Batch.id == payment.batch_id, col(Batch.status).in_(_LET_GO))
    return await session.first(let_go) is None


async def room_in(session: OrganizationSession, batch_id: str) -> int | None:
    """How many more payments of a batch may be sent now; None for any number.

    Until one has succeeded since it was let go, those under way and those refused in a row are together no more than
    stop it: else what is sent before the first answers would be refused as well. Of the queue those that `is_tried` are
    counted already, and need no room. The batch is locked meanwhile.
    """
    batch = await session.get(Batch, batch_id)
    if batch is None or await _has_paid(session, batch):
        return None
    batch = await session.lock(Batch, batch_id)
    if batch is None or not BatchStage(batch.status).may_send:
        return None  # nothing of it leaves: `is_let_go`
    under_way = select(func.count(col(Payment.id))).where(
        Payment.batch_id == batch_id,
        col(Payment.settled_at).is_(None),
        or_(
            col(Payment.status).in_([PaymentStatus.SENDING, PaymentStatus.PENDING]),
            and_(col(Payment.status) == PaymentStatus.QUEUED, col(Payment.result_code).in_(_OURS)),
        ),
    )
    tried = (await session.first(under_way) or 0) + await _refused_in_a_row(session, batch_id, batch.counted_from)
    return max(IN_A_ROW - tried, 0)


def is_tried(payment: Payment) -> bool:
    """Whether a queued payment came back for a reason of ours, for which it fails when it is refused again."""
    return payment.result_code in _OURS


async def _has_paid(session: OrganizationSession, batch: Batch) -> bool:
    paid = select(Payment.id).where(
        Payment.batch_id == batch.id,
        col(Payment.settled_at) >= batch.counted_from,
        Payment.status == PaymentStatus.SUCCEEDED,
    )
    return await session.first(paid.limit(1)) is not None


async def park(session: OrganizationSession, batch_id: str) -> None:
    """Nobody looks at its queued payments any more, and whoever holds one finds that it is not his."""
    await session.change(
        update(Payment)
        .where(col(Payment.batch_id) == batch_id, col(Payment.status) == PaymentStatus.QUEUED)
        .values(next_action_at=None, lease_until=None, fence=col(Payment.fence) + 1)
    )


async def stop(session: OrganizationSession, clock: Clock, batch_id: str, *, reason: str, actor: str) -> bool:
    """Pauses a running batch; False when it is not running."""
    stopped = await session.change(
        update(Batch)
        .where(col(Batch.id) == batch_id, col(Batch.status) == BatchStage.RUNNING)
        .values(
            status=BatchStage.PAUSED,
            reason=reason,
            updated_at=clock.now(),
            next_action_at=None,
            lease_until=None,
            fence=col(Batch.fence) + 1,
        )
    )
    if not stopped:
        return False
    await park(session, batch_id)
    session.wake(batch_id)
    audit.record(session, clock, actor=actor, action="batch.paused", subject=batch_id, reasons=reason)
    return True


async def stop_if_refused_in_a_row(session: OrganizationSession, clock: Clock, payment: Payment, code: str) -> None:
    """To be asked when a payment has just failed with this code."""
    if payment.batch_id is None or code not in _OURS:
        return
    # Locked, so that of several that fail at one moment each sees those before it.
    batch = await session.lock(Batch, payment.batch_id)
    if batch is None or not BatchStage(batch.status).may_send:
        return
    if await _refused_in_a_row(session, batch.id, batch.counted_from) < IN_A_ROW:
        return
    reason = (
        f"Stopped after {IN_A_ROW} refusals in a row, the last because {_OURS[code]}. Put that right, then resume; "
        "rows that failed are paid with retry."
    )
    await stop(session, clock, batch.id, reason=reason, actor="system")


async def _refused_in_a_row(session: OrganizationSession, batch_id: str, since: datetime) -> int:
    """How many of the latest ends are such refusals, up to the first that is none."""
    latest = (
        select(Payment.status)
        .add_columns(col(Payment.result_code))
        .where(col(Payment.batch_id) == batch_id, col(Payment.settled_at) >= since)
        .order_by(col(Payment.settled_at).desc(), col(Payment.id).desc())
        .limit(IN_A_ROW)
    )
    refused = 0
    for status, code in await session.rows(latest):
        if status != PaymentStatus.FAILED or code not in _OURS:
            break
        refused += 1
    return refused
