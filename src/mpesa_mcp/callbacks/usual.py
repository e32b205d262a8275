"""The usual callback: a whole success of a payment that Daraja accepted, about which nothing else is known or claimed.

Several of one organization are settled at once. This is the inbox's own conclusion for that case and no other one:
whatever is odd about a callback, its attempt or its payment leaves it to `inbox`, as it was.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import update
from sqlmodel import col, select

from mpesa_mcp.callbacks.models import UNAPPLIED, Callback, CallbackStatus, Channel
from mpesa_mcp.callbacks.statements import Statement, read_statement
from mpesa_mcp.daraja.codes import Verdict
from mpesa_mcp.daraja.results import Malformed
from mpesa_mcp.identity.organizations import get_organization
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.models import Attempt, Hint, Payment
from mpesa_mcp.payments.outcomes import move
from mpesa_mcp.payments.states import PaymentEvent, PaymentKind, PaymentStatus, Reply
from mpesa_mcp.store.crossings import Claim
from mpesa_mcp.store.tenancy import OrganizationSession

_IDS = ("checkout_request_id", "conversation_id", "merchant_request_id")


@dataclass(frozen=True, slots=True)
class _Usual:
    callback: Callback
    payment: Payment
    said: Statement


async def apply_usual(core: Core, session: OrganizationSession, claims: Sequence[Claim]) -> set[str]:
    """Settles the payments of the usual callbacks among these; the ids of those callbacks."""
    now = core.clock.now()
    usual = await _untaken(session, await _usual(session, claims))
    with session.gathering():
        for each in usual:
            await move(
                core,
                session,
                each.payment,
                PaymentEvent.SUCCESS,
                source="callback",
                code=each.said.code,
                reason=each.said.meaning.reason,
                receipt=each.said.receipt,
                untrusted_text=each.said.untrusted_text,
                has_hints=False,
            )
    applied = [each.callback.id for each in usual]
    if applied:
        await session.change(
            update(Callback)
            .where(col(Callback.id).in_(applied))
            .values(status=CallbackStatus.APPLIED, note=None, applied_at=now, next_action_at=None, lease_until=None)
        )
    return set(applied)


async def _usual(session: OrganizationSession, claims: Sequence[Claim]) -> list[_Usual]:
    """What is usual by the callback, its attempt and its payment, which are held from here on."""
    fences = {claim.id: claim.fence for claim in claims}
    callbacks = await session.all(
        select(Callback)
        .where(col(Callback.id).in_(list(fences)))
        .order_by(col(Callback.id))
        .with_for_update(key_share=True)
    )
    wanted = select(Attempt).where(col(Attempt.id).in_([callback.attempt_id for callback in callbacks]))
    attempts = {row.id: row for row in await session.all(wanted)}
    named = [attempt.payment_id for attempt in attempts.values() if attempt.payment_id is not None]
    held = select(Payment).where(col(Payment.id).in_(named)).order_by(col(Payment.id)).with_for_update(key_share=True)
    payments = {row.id: row for row in await session.all(held)}
    hinted = set(await session.all(select(Hint.payment_id).where(col(Hint.payment_id).in_(named))))
    confirm_from = (await get_organization(session)).confirm_payouts_from.cents
    often = Counter(attempts[callback.attempt_id].payment_id for callback in callbacks)
    found = []
    for callback in callbacks:
        attempt = attempts[callback.attempt_id]
        payment = payments.get(attempt.payment_id or "")
        if (
            payment is None
            or callback.fence != fences[callback.id]
            or callback.status not in UNAPPLIED
            or callback.channel != Channel.RESULT
            or often[payment.id] > 1
            or payment.id in hinted
            or not _is_accepted(attempt, callback)
            or not _is_pending(payment, confirm_from)
        ):
            continue
        if (said := _whole_success(payment, attempt, callback)) is not None:
            found.append(_Usual(callback, payment, said))
    return found


async def _untaken(session: OrganizationSession, usual: Sequence[_Usual]) -> list[_Usual]:
    """Those whose receipt no other payment has, stored or among these."""
    receipts = Counter(each.said.receipt for each in usual)
    known = select(col(Payment.receipt)).where(col(Payment.receipt).in_(list(receipts)))
    taken = set(await session.all(known))
    return [each for each in usual if receipts[each.said.receipt] == 1 and each.said.receipt not in taken]


def _is_accepted(attempt: Attempt, callback: Callback) -> bool:
    """Daraja's own answer came, and came first."""
    if attempt.reply != Reply.ACCEPTED or attempt.replied_at is None:
        return False
    return callback.received_at >= attempt.replied_at


def _is_pending(payment: Payment, confirm_from: int) -> bool:
    """It waits for its end, which a callback alone may tell. A reversal decides about another payment, too."""
    kind = PaymentKind(payment.kind)
    return (
        payment.status == PaymentStatus.PENDING
        and payment.receipt is None
        and kind is not PaymentKind.REVERSAL
        and (not kind.pays_out or payment.amount_cents < confirm_from)
    )


def _whole_success(payment: Payment, attempt: Attempt, callback: Callback) -> Statement | None:
    """What it says, if that is a success with amount, receipt and an id of ours, and nothing disagrees."""
    try:
        said = read_statement(payment, attempt, callback.body.encode())
    except Malformed:
        return None
    names_others = any(getattr(said, name) not in {None, getattr(attempt, name)} for name in _IDS)
    if said.meaning.verdict is not Verdict.SUCCEEDED or said.disagreements or names_others:
        return None
    return said if said.names_our_id and said.is_complete else None
