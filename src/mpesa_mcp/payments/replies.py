"""What Daraja's own answers to sends come to. Those that come at one moment are written down together."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import update
from sqlmodel import col, select

from mpesa_mcp.daraja.conclusions import Accepted, Conclusion, NotSent, Refused, Unknown
from mpesa_mcp.payments.attempts import has_unread_callback
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.history import record_history
from mpesa_mcp.payments.models import Attempt, Payment
from mpesa_mcp.payments.outcomes import accept, lock_payment, move
from mpesa_mcp.payments.schedule import NOT_SENT_TRIES, first_question_after, resend_after
from mpesa_mcp.payments.states import PaymentEvent, PaymentKind, PaymentStatus, Reply, next_status
from mpesa_mcp.store.crossings import Claim, DueTable
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment


async def conclude_send(core: Core, claim: Claim, attempt_id: str, conclusion: Conclusion) -> None:
    """Records what the HTTP call came to, and moves the payment accordingly, if this sender still holds it.

    Together with what else the organization's calls came to at this moment.
    """
    organization_id = claim.organization_id
    conclude = partial(_conclude_sends, core, organization_id)
    await core.store.together.ask(("conclusions", organization_id), conclude, _Sent(claim, attempt_id, conclusion))


@dataclass(frozen=True, slots=True)
class _Sent:
    claim: Claim
    attempt_id: str
    conclusion: Conclusion


async def _conclude_sends(core: Core, organization_id: str, sent: Sequence[_Sent]) -> Sequence[None]:
    now = core.clock.now()
    async with core.store.session(organization_id) as session:
        session.wake(DueTable.CALLBACKS)
        accepted = [each for each in sent if isinstance(each.conclusion, Accepted)]
        usual = await _conclude_usual(core, session, accepted, now) if len(sent) > 1 else set()
        for each in sent:
            if each.claim.id not in usual:
                await _conclude_send(core, session, each, now)
    return [None] * len(sent)


async def _conclude_usual(
    core: Core, session: OrganizationSession, accepted: Sequence[_Sent], now: datetime
) -> set[str]:
    """What was accepted, of senders that still hold it: all at once. The ids of those payments; the rest is as it was.

    Not a reversal: with it another payment would have to be held.
    """
    wanted = select(Payment).where(
        col(Payment.id).in_([each.claim.id for each in accepted]), col(Payment.kind) != PaymentKind.REVERSAL
    )
    rows = {row.id: row for row in await session.all(wanted.order_by(col(Payment.id)).with_for_update(key_share=True))}
    usual = [
        each
        for each in accepted
        if (row := rows.get(each.claim.id)) is not None
        and row.fence == each.claim.fence
        and row.status == PaymentStatus.SENDING
    ]
    by_moment: dict[datetime, list[str]] = defaultdict(list)
    await _record_replies(session, usual, now)
    for each in usual:
        _, values = _after_send(core, rows[each.claim.id], each.conclusion, now)
        by_moment[values["next_action_at"]].append(each.claim.id)
    for ask_at, payment_ids in by_moment.items():
        await accept(core, session, payment_ids, next_action_at=ask_at)
    return {each.claim.id for each in usual}


async def _conclude_send(core: Core, session: OrganizationSession, sent: _Sent, now: datetime) -> None:
    claim, conclusion = sent.claim, sent.conclusion
    payment = await lock_payment(session, claim.id)
    await record_reply(session, sent.attempt_id, conclusion, now)
    event, values = _after_send(core, payment, conclusion, now)
    if payment.fence != claim.fence:
        # Paused past the lease: reconciliation took over, and only evidence counts from here on.
        record_history(session, claim.id, now, event=event, source="reply", note="came after the lease ran out")
        return
    after = next_status(PaymentStatus.SENDING, event)
    if after is not None and after.nothing_moved and await has_unread_callback(session, payment.id):
        event = PaymentEvent.UNCLEAR  # an earlier send may have been carried out
    await move(core, session, payment, event, source="reply", **values)


async def _record_replies(session: OrganizationSession, sent: Sequence[_Sent], now: datetime) -> None:
    """As `record_reply`, of attempts that are held."""
    conclusions = {each.attempt_id: each.conclusion for each in sent}
    held = select(Attempt).where(col(Attempt.id).in_(list(conclusions)), col(Attempt.replied_at).is_(None))
    for attempt in await session.all(held.order_by(col(Attempt.id)).with_for_update(key_share=True)):
        attempt.replied_at = attempt.in_flight_until = now
        for name, value in _reply(conclusions[attempt.id]).items():
            setattr(attempt, name, value)
    await session.flush()


async def record_reply(session: OrganizationSession, attempt_id: str, conclusion: Conclusion, now: datetime) -> None:
    """Writes the reply and the ids it brought onto the attempt, once."""
    await session.change(
        update(Attempt)
        .where(col(Attempt.id) == attempt_id, col(Attempt.replied_at).is_(None))
        .values(replied_at=now, in_flight_until=now, **_reply(conclusion))
    )


def _reply(conclusion: Conclusion) -> dict[str, Any]:
    match conclusion:
        case Accepted():
            return {
                "reply": Reply.ACCEPTED,
                "merchant_request_id": conclusion.merchant_request_id,
                "checkout_request_id": conclusion.checkout_request_id,
                "conversation_id": conclusion.conversation_id,
                "originator_conversation_id": conclusion.originator_conversation_id,
            }
        case Refused():
            return {"reply": Reply.REFUSED, "reply_code": conclusion.code}
        case NotSent():
            return {"reply": Reply.NOT_SENT, "reply_code": conclusion.code}
        case Unknown():
            return {"reply": Reply.UNKNOWN, "reply_code": conclusion.code}


def _after_send(
    core: Core, payment: Payment, conclusion: Conclusion, now: datetime
) -> tuple[PaymentEvent, dict[str, Any]]:
    kind = PaymentKind(payment.kind)
    ask_at = now + first_question_after(kind, core.reconcile_speed(Environment(payment.environment)))
    match conclusion:
        case Accepted():
            return PaymentEvent.ACCEPTED, {"next_action_at": ask_at}
        case Refused():
            return PaymentEvent.REFUSED, {
                "code": conclusion.code,
                "reason": conclusion.reason,
                "next_action_at": ask_at,
            }
        case Unknown():
            return PaymentEvent.UNCLEAR, {
                "code": conclusion.code,
                "reason": conclusion.reason,
                "next_action_at": ask_at,
            }
        case NotSent():
            tried = payment.not_sent_count + 1
            last = tried >= NOT_SENT_TRIES
            return (PaymentEvent.NOT_SENT_FOR_GOOD if last else PaymentEvent.NOT_SENT), {
                "code": conclusion.code,
                "reason": conclusion.reason,
                "next_action_at": ask_at if last else now + resend_after(tried, conclusion.retry_after_seconds),
                "not_sent_count": tried,
            }
