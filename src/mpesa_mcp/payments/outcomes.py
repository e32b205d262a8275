"""Outcomes: the only code that changes a payment's status once it has been sent.

Each change names the status it expects in its WHERE, and commits together with its history line and audit entry.
What the table of `states` does not list changes nothing and is recorded. There is no code path here that sends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import update
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.daraja.codes import Verdict
from mpesa_mcp.daraja.results import SUCCESS
from mpesa_mcp.payments.batches.brakes import stop_if_refused_in_a_row
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.history import record_history, record_no_change
from mpesa_mcp.payments.models import Attempt, Hint, Payment
from mpesa_mcp.payments.spending import follow
from mpesa_mcp.payments.states import PaymentEvent, PaymentStatus, Reply, next_status
from mpesa_mcp.payments.usage import count_change
from mpesa_mcp.store.crossings import DueTable
from mpesa_mcp.store.tenancy import OrganizationSession

_TRIES = 5


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
    values: dict[str, Any] = {"code": evidence.code, "reason": evidence.reason}
    if evidence.receipt and await receipt_is_taken(session, evidence.receipt, payment.id):
        # One receipt is one movement: this one is accounted for elsewhere.
        await record_no_change(
            session, payment.id, core.clock.now(), event="receipt_taken", source=evidence.source, code=evidence.code
        )
        return False
    if evidence.receipt:
        values["receipt"] = evidence.receipt
    if evidence.untrusted_text:
        values["untrusted_text"] = evidence.untrusted_text
    if evidence.verdict in {Verdict.UNKNOWN, Verdict.PENDING}:
        # Asked about at once: whoever said "unclear" may have ended the waiting.
        values["next_action_at"] = core.clock.now()
    await move(core, session, payment, _EVENT_OF[evidence.verdict], source=evidence.source, **values)
    return True


async def receipt_is_taken(session: OrganizationSession, receipt: str, payment_id: str) -> bool:
    """Whether another payment of the organization has this receipt."""
    other = select(Payment.id).where(Payment.receipt == receipt, Payment.id != payment_id)
    return await session.first(other) is not None


async def stop_asking(
    core: Core, session: OrganizationSession, payment: Payment, *, code: str | None, reason: str
) -> None:
    """Leaves an unsettled payment to a person: unknown, with `reason`, and no further question of ours."""
    if PaymentStatus(payment.status) is PaymentStatus.PENDING:
        await move(core, session, payment, PaymentEvent.UNCLEAR, source="question", code=code, reason=reason)
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


async def move(
    core: Core,
    session: OrganizationSession,
    payment: Payment,
    event: PaymentEvent,
    *,
    source: str,
    code: str | None = None,
    reason: str | None = None,
    receipt: str | None = None,
    untrusted_text: str | None = None,
    next_action_at: datetime | None = None,
    not_sent_count: int | None = None,
    actor: str = "system",
    note: str | None = None,
    has_hints: bool = True,
) -> PaymentStatus:
    """Applies one event: compare-and-set, history, audit; and the consequences for a reversed payment.

    Returns the status the payment has afterwards. `next_action_at` is when it is looked at again; a settled payment
    never is. `reason` is our own sentence, shown to everybody; `note` is what a person wrote, for the history.
    `has_hints` is False for whoever knows that there is none, so that nothing can contradict.
    """
    now = core.clock.now()
    for _ in range(_TRIES):
        before = PaymentStatus(payment.status)
        after = next_status(before, event)
        if after is None:
            await _note(core, session, payment, event, now, source=source, code=code, receipt=receipt)
            return before
        changes: dict[str, Any] = {"status": after, "updated_at": now, "lease_until": None}
        changes["next_action_at"] = None if after.is_settled else next_action_at
        if after.is_settled:
            changes["settled_at"] = now
        if event is PaymentEvent.APPROVED:
            changes["queued_at"] = now
        changes["reason"] = reason
        if after is not PaymentStatus.REVERSED:
            changes["result_code"] = code
        if receipt and event in {PaymentEvent.SUCCESS, PaymentEvent.RESOLVED_SUCCEEDED}:
            changes["receipt"] = receipt
        if untrusted_text:
            changes["untrusted_text"] = untrusted_text
        if not_sent_count is not None:
            changes["not_sent_count"] = not_sent_count
        changed = await session.change(
            update(Payment).where(col(Payment.id) == payment.id, col(Payment.status) == before).values(**changes)
        )
        if changed:
            session.wake(payment.id, DueTable.PAYMENTS)
            record_history(
                session,
                payment.id,
                now,
                event=event,
                before=before,
                after=after,
                source=source,
                code=code,
                note=note or reason,
            )
            audit.record(session, core.clock, actor=actor, action=f"payment.{after}", subject=payment.id, reasons=note)
            count_change(session, payment, before, after)
            follow(session, payment, before, after)
            if after is PaymentStatus.FAILED and code is not None:
                await stop_if_refused_in_a_row(session, core.clock, payment, code)
            if after is PaymentStatus.SUCCEEDED and payment.reverses_payment_id:
                await _mark_reversed(core, session, payment)
            is_disputed = has_hints and await dispute_if_contradicted(core, session, payment.id)
            return PaymentStatus.DISPUTED if is_disputed else after
        again = await session.get(Payment, payment.id)
        assert again is not None
        payment = again
    raise RuntimeError("a payment changed under five compare-and-sets in a row")


async def accept(
    core: Core, session: OrganizationSession, payment_ids: Sequence[str], *, next_action_at: datetime
) -> None:
    """As `move` with ACCEPTED, of payments that are being sent and that the caller holds: all at once.

    For this event alone, which has no consequence for a counter or another payment.
    """
    now = core.clock.now()
    before, event = PaymentStatus.SENDING, PaymentEvent.ACCEPTED
    after = next_status(before, event)
    changes = {"status": after, "updated_at": now, "lease_until": None, "next_action_at": next_action_at}
    changed = await session.change(
        update(Payment)
        .where(col(Payment.id).in_(payment_ids), col(Payment.status) == before)
        .values(**changes, reason=None, result_code=None)
    )
    assert changed == len(payment_ids)  # they are held
    for payment_id in payment_ids:
        record_history(session, payment_id, now, event=event, before=before, after=after, source="reply")
        audit.record(session, core.clock, actor="system", action=f"payment.{after}", subject=payment_id)
    session.wake(*payment_ids, DueTable.PAYMENTS)


async def _is_contradicted(
    session: OrganizationSession, payment_id: str, status: PaymentStatus, receipt: str | None
) -> bool:
    """Whether a success that was only a hint speaks against this ending: nothing moved, or another send's did."""
    successes = select(Hint.id).where(Hint.payment_id == payment_id, Hint.result_code == SUCCESS)
    if status.nothing_moved:
        return await session.first(successes) is not None
    if status is not PaymentStatus.SUCCEEDED:
        return False
    not_sent = select(Attempt.id).where(Attempt.payment_id == payment_id, Attempt.reply == Reply.NOT_SENT)
    other = successes.where(col(Hint.attempt_id).in_(not_sent), col(Hint.receipt).is_not(None))
    if receipt is not None:
        return await session.first(other.where(col(Hint.receipt) != receipt)) is not None
    # A push whose receipt nobody told: the hints about the checkout that was confirmed are gone, so this is another's.
    return await session.first(other.where(col(Hint.checkout_request_id).is_not(None))) is not None


async def dispute_if_contradicted(core: Core, session: OrganizationSession, payment_id: str) -> bool:
    """Looks for a success beside how the payment ended, of a send that was taken for not sent: then it is disputed.

    To be asked whenever the status, the receipt or the hints of a settled payment have changed.
    """
    payment = await session.get(Payment, payment_id)
    assert payment is not None
    if not await _is_contradicted(session, payment.id, PaymentStatus(payment.status), payment.receipt):
        return False
    reason = "Safaricom also reported a success of another send of this; a person must look."
    await move(core, session, payment, PaymentEvent.CONTRADICTION, source="callback", reason=reason)
    return True


async def _note(
    core: Core,
    session: OrganizationSession,
    payment: Payment,
    event: PaymentEvent,
    now: datetime,
    *,
    source: str,
    code: str | None,
    receipt: str | None,
) -> None:
    """Records an event that changes no status; a success already known, or disputed, may still bring its receipt."""
    status = PaymentStatus(payment.status)
    told_of_success = status.moved or status is PaymentStatus.DISPUTED
    if event is PaymentEvent.SUCCESS and told_of_success and receipt and payment.receipt is None:
        await session.change(
            update(Payment)
            .where(col(Payment.id) == payment.id, col(Payment.receipt).is_(None))
            .values(receipt=receipt, updated_at=now)
        )
        # Once in a payment's life, and always told.
        note = "brought the receipt"
        record_history(session, payment.id, now, event=event, before=status, source=source, code=code, note=note)
        await dispute_if_contradicted(core, session, payment.id)
        return
    await record_no_change(session, payment.id, now, event=event, before=status, source=source, code=code)


async def _mark_reversed(core: Core, session: OrganizationSession, reversal: Payment) -> None:
    received = await session.first(select(Payment).where(Payment.id == reversal.reverses_payment_id))
    assert received is not None
    reason = f"It was given back by {reversal.id}."
    await move(core, session, received, PaymentEvent.REVERSED, source="reversal", reason=reason)
