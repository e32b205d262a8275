"""What Daraja's own answers to sends come to. Those that come at one moment are written down together."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from sqlmodel import col, select

from mpesa_mcp.daraja.conclusions import (
    TOKEN_REFUSALS,
    Accepted,
    Conclusion,
    NotSent,
    PhoneBusy,
    Refused,
    TokenRefused,
    Unknown,
)
from mpesa_mcp.payments.attempts import has_unread_callback
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.history import record_history
from mpesa_mcp.payments.models import Attempt, Payment
from mpesa_mcp.payments.outcomes import Change, lock_payment, move, move_together
from mpesa_mcp.payments.schedule import NOT_SENT_TRIES, first_question_after, resend_after
from mpesa_mcp.payments.states import CONCERNS_NO_OTHER, PaymentEvent, PaymentKind, PaymentStatus, Reply, next_status
from mpesa_mcp.store.crossings import Claim
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment


async def conclude_send(core: Core, claim: Claim, attempt_id: str, conclusion: Conclusion) -> None:
    """Records what the HTTP call came to, and moves the payment accordingly, if this sender still holds it.

    Together with what else the organization's calls came to at this moment.
    """
    organization_id = claim.organization_id
    conclude = partial(_conclude_sends, core, organization_id)
    sent = _Sent(claim, attempt_id, conclusion)
    await core.store.together.ask(("conclusions", organization_id), conclude, sent)


@dataclass(frozen=True, slots=True)
class _Sent:
    claim: Claim
    attempt_id: str
    conclusion: Conclusion


async def _conclude_sends(core: Core, organization_id: str, sent: Sequence[_Sent]) -> Sequence[None]:
    now = core.clock.now()
    async with core.store.session(organization_id) as session:
        usual = await _conclude_usual(core, session, sent, now)
        for each in sent:
            if each.attempt_id not in usual:
                await _conclude_send(core, session, each, now)
    return [None] * len(sent)


async def _conclude_usual(
    core: Core, session: OrganizationSession, sent: Sequence[_Sent], now: datetime
) -> Collection[str]:
    """What was accepted, of senders that still hold it: all at once. The ids of those attempts; the rest is as it was.

    Not a reversal: with it another payment would have to be held.
    """
    accepted = [each for each in sent if isinstance(each.conclusion, Accepted)]
    if not accepted:
        return ()
    wanted = select(Payment).where(
        col(Payment.id).in_([each.claim.id for each in accepted]),
        col(Payment.kind).in_(CONCERNS_NO_OTHER),
        col(Payment.status) == PaymentStatus.SENDING,
    )
    held = await session.all(wanted.order_by(col(Payment.id)).with_for_update(key_share=True))
    payments = {(payment.id, payment.fence): payment for payment in held}
    usual = {
        each.attempt_id: (payment, each.conclusion)
        for each in accepted
        if (payment := payments.get((each.claim.id, each.claim.fence))) is not None
    }
    await record_replies(session, {attempt_id: accepted for attempt_id, (_, accepted) in usual.items()}, now)
    changes = [(payment, _after_send(core, payment, accepted, now)) for payment, accepted in usual.values()]
    await move_together(core, session, changes)
    return usual.keys()


async def _conclude_send(core: Core, session: OrganizationSession, sent: _Sent, now: datetime) -> None:
    claim, conclusion = sent.claim, sent.conclusion
    payment = await lock_payment(session, claim.id)
    refused_token = [reply in TOKEN_REFUSALS for reply in await _replies_before(session, payment.id, sent.attempt_id)]
    if isinstance(conclusion, TokenRefused) and refused_token[-1:] == [True]:
        conclusion = conclusion.of_a_fresh_token
    await record_replies(session, {sent.attempt_id: conclusion}, now)
    change = _after_send(core, payment, conclusion, now)
    if payment.fence != claim.fence:
        # Paused past the lease: reconciliation took over, and only evidence counts from here on.
        note = "came after the lease ran out"
        record_history(session, claim.id, now, event=change.event, source="reply", note=note)
        return
    if isinstance(conclusion, PhoneBusy) and any(refused_token):
        # The reply stays a refusal: this send is no reason to doubt what is heard of the one before.
        change = replace(change, event=PaymentEvent.UNCLEAR, reason=_PERHAPS_OUR_OWN_PROMPT)
    after = next_status(PaymentStatus.SENDING, change.event)
    if after is not None and after.nothing_moved and await has_unread_callback(session, payment.id):
        change = replace(change, event=PaymentEvent.UNCLEAR)  # an earlier send may have been carried out
    await move(core, session, payment, change)


async def _replies_before(session: OrganizationSession, payment_id: str, attempt_id: str) -> Sequence[str | None]:
    """The codes of the payment's sends before this one, which were taken for not sent, in their order."""
    earlier = select(Attempt).where(Attempt.payment_id == payment_id, Attempt.id < attempt_id)
    return [attempt.reply_code for attempt in await session.all(earlier.order_by(col(Attempt.id)))]


_PERHAPS_OUR_OWN_PROMPT = (
    "The phone is busy with another M-Pesa request, perhaps with an earlier send of this one, whose access token was "
    "refused; so it is not known whether this was carried out."
)


async def record_replies(session: OrganizationSession, replies: Mapping[str, Conclusion], now: datetime) -> None:
    """Writes replies and the ids they brought onto their attempts, by id, once. Conclusions of one kind."""
    rows = [
        ({"id": attempt_id, "replied_at": None}, {"replied_at": now, "in_flight_until": now, **_reply(conclusion)})
        for attempt_id, conclusion in replies.items()
    ]
    await session.change_many(Attempt, rows)


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


def _after_send(core: Core, payment: Payment, conclusion: Conclusion, now: datetime) -> Change:
    kind = PaymentKind(payment.kind)
    ask_at = now + first_question_after(kind, core.reconcile_speed(Environment(payment.environment)))
    match conclusion:
        case Accepted():
            return Change(PaymentEvent.ACCEPTED, source="reply", next_action_at=ask_at)
        case Refused() | Unknown():
            return Change(
                PaymentEvent.REFUSED if isinstance(conclusion, Refused) else PaymentEvent.UNCLEAR,
                source="reply",
                code=conclusion.code,
                reason=conclusion.reason,
                next_action_at=ask_at,
            )
        case TokenRefused():
            # At once, and no try used up: the second in a row is a refusal.
            return Change(
                PaymentEvent.NOT_SENT,
                source="reply",
                code=conclusion.code,
                reason=conclusion.reason,
                next_action_at=now,
            )
        case NotSent():
            tried = payment.not_sent_count + 1
            last = tried >= NOT_SENT_TRIES
            return Change(
                PaymentEvent.NOT_SENT_FOR_GOOD if last else PaymentEvent.NOT_SENT,
                source="reply",
                code=conclusion.code,
                reason=conclusion.reason,
                next_action_at=ask_at if last else now + resend_after(tried, conclusion.retry_after_seconds),
                not_sent_count=tried,
            )
