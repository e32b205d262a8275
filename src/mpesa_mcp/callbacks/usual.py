"""The usual callback: a whole success of a payment that Daraja accepted, about which nothing else is known or claimed.

Those of one organization are settled at once. By the same measure as in `inbox`, and for this case alone: whatever is
odd about a callback, its attempt or its payment leaves it to `inbox`, as it was.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import update
from sqlmodel import col, select

from mpesa_mcp.callbacks.matching import IDS
from mpesa_mcp.callbacks.models import UNAPPLIED, Callback, CallbackStatus, Channel
from mpesa_mcp.callbacks.statements import Statement, read_statement
from mpesa_mcp.callbacks.weight import is_evidence, must_be_confirmed
from mpesa_mcp.daraja.codes import Verdict
from mpesa_mcp.daraja.results import Malformed
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.models import Attempt, Hint, Payment
from mpesa_mcp.payments.outcomes import change_by, move_together
from mpesa_mcp.payments.states import CONCERNS_NO_OTHER, PaymentStatus
from mpesa_mcp.store.crossings import Claim
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Kes


@dataclass(frozen=True, slots=True)
class _Usual:
    callback: Callback
    payment: Payment
    said: Statement


async def apply_usual(
    core: Core, session: OrganizationSession, claims: Sequence[Claim], confirm_payouts_from: Kes
) -> Collection[str]:
    """Settles the payments of the usual callbacks among these; the ids of those callbacks."""
    usual = await _untaken(session, await _usual(session, claims, confirm_payouts_from))
    if not usual:
        return ()
    now = core.clock.now()
    await move_together(core, session, [(each.payment, change_by(each.said.as_evidence, now)) for each in usual])
    applied = {each.callback.id for each in usual}
    await session.change(
        update(Callback)
        .where(col(Callback.id).in_(applied))
        .values(status=CallbackStatus.APPLIED, note=None, applied_at=now, next_action_at=None, lease_until=None)
    )
    return applied


async def _usual(session: OrganizationSession, claims: Sequence[Claim], confirm_payouts_from: Kes) -> list[_Usual]:
    """What is usual by the callback, its attempt and its payment, which are held from here on."""
    fences = {claim.id: claim.fence for claim in claims}
    callbacks = await session.all(
        select(Callback)
        .where(col(Callback.id).in_(fences), col(Callback.status).in_(UNAPPLIED))
        .order_by(col(Callback.id))
        .with_for_update(key_share=True)
    )
    if not callbacks:
        return []
    wanted = select(Attempt).where(col(Attempt.id).in_([callback.attempt_id for callback in callbacks]))
    attempts = {row.id: row for row in await session.all(wanted)}
    named = [attempt.payment_id for attempt in attempts.values() if attempt.payment_id is not None]
    pending = select(Payment).where(
        col(Payment.id).in_(named), Payment.status == PaymentStatus.PENDING, col(Payment.kind).in_(CONCERNS_NO_OTHER)
    )
    held = await session.all(pending.order_by(col(Payment.id)).with_for_update(key_share=True))
    payments = {payment.id: payment for payment in held}
    hinted = await session.all(select(Hint.payment_id).where(col(Hint.payment_id).in_(payments)))
    often = Counter(attempts[callback.attempt_id].payment_id for callback in callbacks)
    found = []
    for callback in callbacks:
        attempt = attempts[callback.attempt_id]
        payment = payments.get(attempt.payment_id or "")
        if payment is None or payment.id in hinted or often[payment.id] > 1:
            continue
        if callback.fence != fences[callback.id] or callback.channel != Channel.RESULT:
            continue
        said = _whole_success(payment, attempt, callback)
        if said is not None and not must_be_confirmed(payment, attempt, callback, said, confirm_payouts_from):
            found.append(_Usual(callback, payment, said))
    return found


async def _untaken(session: OrganizationSession, usual: Sequence[_Usual]) -> list[_Usual]:
    """Those whose receipt no other payment has, stored or among these."""
    if not usual:
        return []
    receipts = Counter(each.said.receipt for each in usual)
    taken = await session.all(select(col(Payment.receipt)).where(col(Payment.receipt).in_(receipts)))
    return [each for each in usual if receipts[each.said.receipt] == 1 and each.said.receipt not in taken]


def _whole_success(payment: Payment, attempt: Attempt, callback: Callback) -> Statement | None:
    """What it says, if that is a success that counts, nothing disagrees, and it names no id that we do not know."""
    try:
        said = read_statement(payment, attempt, callback.body.encode())
    except Malformed:
        return None
    names_others = any(getattr(said, name) not in {None, getattr(attempt, name)} for name in IDS)
    if said.meaning.verdict is not Verdict.SUCCEEDED or said.disagreements or names_others:
        return None
    return said if is_evidence(said) else None
