"""Outcomes: the only code beside dispatch's step to `sending` that changes the status of a stored payment.

Each change names the status it expects in its WHERE, and commits together with its history line and audit entry.
What the table of `states` does not list changes nothing and is recorded. There is no code path here that sends.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import update
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.daraja.codes import Verdict
from mpesa_mcp.payments.batches.brakes import stop_if_refused_in_a_row
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.doubts import is_contradicted
from mpesa_mcp.payments.history import record_history, record_no_change
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.schedule import TO_BE_ASKED_ABOUT
from mpesa_mcp.payments.spending import follow
from mpesa_mcp.payments.states import PaymentEvent, PaymentStatus, next_status
from mpesa_mcp.payments.usage import count_change
from mpesa_mcp.store.crossings import DueTable
from mpesa_mcp.store.tenancy import OrganizationSession

_TRIES = 5


@dataclass(frozen=True, slots=True)
class Change:
    """One event, and what is kept of it.

    `next_action_at` is when the payment is looked at again; a settled one never is. `reason` is our own sentence, shown
    to everybody; `note` is what a person wrote, for the history.
    """

    event: PaymentEvent
    _: KW_ONLY
    source: str
    code: str | None = None
    reason: str | None = None
    receipt: str | None = None
    untrusted_text: str | None = None
    next_action_at: datetime | None = None
    not_sent_count: int | None = None
    actor: str = "system"
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What Daraja said about a payment, already checked against it, and what we make of it.

    `reason` is our own sentence; `untrusted_text` is theirs, cleaned. `source` is callback, question or timeout.
    """

    verdict: Verdict
    source: str
    code: str | None
    reason: str
    receipt: str | None = None
    untrusted_text: str | None = None


_EVENT_OF = {
    Verdict.SUCCEEDED: PaymentEvent.SUCCESS,
    Verdict.FAILED: PaymentEvent.FAILURE,
    Verdict.UNKNOWN: PaymentEvent.UNCLEAR,
    Verdict.PENDING: PaymentEvent.UNCLEAR,
}


async def lock_payment(session: OrganizationSession, payment_id: str) -> Payment:
    """The payment, kept from everybody else until this transaction ends.

    A reversal decides about the payment it reverses, too. That one is always taken first, so that no two transactions
    can wait for each other.
    """
    payment = await session.get(Payment, payment_id)
    assert payment is not None  # rows of payments are never deleted
    if payment.reverses_payment_id is not None:
        await session.lock(Payment, payment.reverses_payment_id)
    locked = await session.lock(Payment, payment_id)
    assert locked is not None
    return locked


async def apply_evidence(core: Core, session: OrganizationSession, payment_id: str, evidence: Evidence) -> bool:
    """Moves the payment, locked by the caller, as the evidence says; repeated evidence is a recorded no-op.

    False when the evidence cannot be this payment's, because another one has its receipt.
    """
    payment = await session.get(Payment, payment_id)
    assert payment is not None
    if evidence.receipt and await receipt_is_taken(session, evidence.receipt, payment.id):
        # One receipt is one movement: this one is accounted for elsewhere.
        await record_no_change(
            session, payment.id, core.clock.now(), event="receipt_taken", source=evidence.source, code=evidence.code
        )
        return False
    await move(core, session, payment, change_by(evidence, core.clock.now()))
    return True


def change_by(evidence: Evidence, now: datetime) -> Change:
    """What the evidence makes of a payment it is about."""
    is_unclear = evidence.verdict in {Verdict.UNKNOWN, Verdict.PENDING}
    return Change(
        _EVENT_OF[evidence.verdict],
        source=evidence.source,
        code=evidence.code,
        reason=evidence.reason,
        receipt=evidence.receipt,
        untrusted_text=evidence.untrusted_text,
        # Asked about at once: whoever said "unclear" may have ended the waiting.
        next_action_at=now if is_unclear else None,
    )


async def receipt_is_taken(session: OrganizationSession, receipt: str, payment_id: str) -> bool:
    """Whether another payment of the organization has this receipt."""
    other = select(Payment.id).where(Payment.receipt == receipt, Payment.id != payment_id)
    return await session.first(other) is not None


async def stop_asking(
    core: Core, session: OrganizationSession, payment: Payment, *, code: str | None, reason: str
) -> None:
    """Leaves an unsettled payment to a person: unknown, with `reason`, and no further question of ours."""
    if PaymentStatus(payment.status) is PaymentStatus.PENDING:
        await move(core, session, payment, Change(PaymentEvent.UNCLEAR, source="question", code=code, reason=reason))
        return
    stopped = await session.change(
        update(Payment)
        .where(col(Payment.id) == payment.id, col(Payment.status) == PaymentStatus.UNKNOWN)
        # The fence, so that a look under way does not set the next one.
        .values(next_action_at=None, lease_until=None, fence=col(Payment.fence) + 1, reason=reason)
    )
    if stopped:
        now = core.clock.now()
        record_history(session, payment.id, now, event="not_answerable", source="question", code=code, note=reason)
        session.wake(payment.id)


async def move(core: Core, session: OrganizationSession, payment: Payment, change: Change) -> PaymentStatus:
    """Applies one event: compare-and-set, history, audit; and the consequences for a reversed payment.

    Returns the status the payment has afterwards.
    """
    now = core.clock.now()
    for _ in range(_TRIES):
        before = PaymentStatus(payment.status)
        after = next_status(before, change.event)
        if after is None:
            await _note(core, session, payment, change, now)
            return before
        changed = await session.change(
            update(Payment)
            .where(col(Payment.id) == payment.id, col(Payment.status) == before)
            .values(**_columns(change, after, now))
        )
        if changed:
            _tell(core, session, payment, change, before, after, now)
            if after is PaymentStatus.FAILED and change.code is not None:
                await stop_if_refused_in_a_row(session, core.clock, payment, change.code)
            if after is PaymentStatus.SUCCEEDED and payment.reverses_payment_id:
                await mark_reversed(core, session, payment)
            is_disputed = await dispute_if_contradicted(core, session, payment.id)
            return PaymentStatus.DISPUTED if is_disputed else after
        again = await session.get(Payment, payment.id)
        assert again is not None
        payment = again
    raise RuntimeError("a payment changed under five compare-and-sets in a row")


async def move_together(core: Core, session: OrganizationSession, moves: Sequence[tuple[Payment, Change]]) -> None:
    """As `move`, of payments that the caller holds, by an event that concerns no other and that no hint contradicts.

    That is: ACCEPTED, and a SUCCESS of what reverses nothing and has no hints. One statement for all of them.
    """
    now = core.clock.now()
    rows = []
    for payment, change in moves:
        before = PaymentStatus(payment.status)
        after = next_status(before, change.event)
        assert after is not None
        kept = {name: getattr(payment, name) for name in _MAY_BE_KEPT}
        rows.append(({"id": payment.id, "status": before}, kept | _columns(change, after, now)))
        _tell(core, session, payment, change, before, after, now)
    changed = await session.change_many(Payment, rows)
    assert changed == len(rows)  # they are held


_MAY_BE_KEPT = ("result_code", "receipt", "untrusted_text", "settled_at", "not_sent_count", "queued_at")


def _columns(change: Change, after: PaymentStatus, now: datetime) -> dict[str, Any]:
    """What the change makes of the payment's row."""
    columns: dict[str, Any] = {"status": after, "updated_at": now, "lease_until": None, "reason": change.reason}
    columns["next_action_at"] = None if after.is_settled else change.next_action_at
    if after.is_settled:
        columns["settled_at"] = now
    if change.event is PaymentEvent.APPROVED:
        columns["queued_at"] = now
    if after is not PaymentStatus.REVERSED:
        columns["result_code"] = change.code
    if change.receipt and change.event in {PaymentEvent.SUCCESS, PaymentEvent.RESOLVED_SUCCEEDED}:
        columns["receipt"] = change.receipt
    if change.event is PaymentEvent.RESOLVED_FAILED:
        columns["receipt"] = None  # it was another's, or nobody's: whoever it belongs to may bring it
    if change.untrusted_text:
        columns["untrusted_text"] = change.untrusted_text
    if change.not_sent_count is not None:
        columns["not_sent_count"] = change.not_sent_count
    return columns


def _tell(
    core: Core,
    session: OrganizationSession,
    payment: Payment,
    change: Change,
    before: PaymentStatus,
    after: PaymentStatus,
    now: datetime,
) -> None:
    """History, audit, counters, and who waits: in the transaction of the change."""
    session.wake(payment.id)
    if not after.is_settled and change.next_action_at is not None:
        queue = DueTable.PAYMENTS if after is PaymentStatus.QUEUED else TO_BE_ASKED_ABOUT
        session.wake_when_due(queue, change.next_action_at, now=now)
    record_history(
        session,
        payment.id,
        now,
        event=change.event,
        before=before,
        after=after,
        source=change.source,
        code=change.code,
        note=change.note or change.reason,
    )
    action = f"payment.{after}"
    audit.record(session, core.clock, actor=change.actor, action=action, subject=payment.id, reasons=change.note)
    count_change(session, payment, before, after)
    follow(session, payment, before, after)


async def dispute_if_contradicted(core: Core, session: OrganizationSession, payment_id: str) -> bool:
    """Looks for a success beside how the payment ended, of another request than that: then it is disputed.

    To be asked whenever the status, the receipt or the hints of a settled payment have changed.
    """
    payment = await session.get(Payment, payment_id)
    assert payment is not None
    if not await is_contradicted(session, payment):
        return False
    reason = "Safaricom also reported a success of another send of this; a person must look."
    await move(core, session, payment, Change(PaymentEvent.CONTRADICTION, source="callback", reason=reason))
    return True


async def _note(core: Core, session: OrganizationSession, payment: Payment, change: Change, now: datetime) -> None:
    """Records an event that changes no status; a success already known, or disputed, may still bring its receipt."""
    status, event = PaymentStatus(payment.status), change.event
    told_of_success = status.moved or status is PaymentStatus.DISPUTED
    if event is PaymentEvent.SUCCESS and told_of_success and change.receipt and payment.receipt is None:
        await session.change(
            update(Payment)
            .where(col(Payment.id) == payment.id, col(Payment.receipt).is_(None))
            .values(receipt=change.receipt, updated_at=now)
        )
        # Once in a payment's life, and always told.
        record_history(
            session,
            payment.id,
            now,
            event=event,
            before=status,
            source=change.source,
            code=change.code,
            note="brought the receipt",
        )
        await dispute_if_contradicted(core, session, payment.id)
        return
    await record_no_change(session, payment.id, now, event=event, before=status, source=change.source, code=change.code)


async def mark_reversed(core: Core, session: OrganizationSession, reversal: Payment) -> None:
    """What a reversal that succeeded does to the payment it reverses, which the caller holds, too."""
    received = await session.first(select(Payment).where(Payment.id == reversal.reverses_payment_id))
    assert received is not None
    reason = f"It was given back by {reversal.id}."
    await move(core, session, received, Change(PaymentEvent.REVERSED, source="reversal", reason=reason))
