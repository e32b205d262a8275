"""Reconciliation: asks Daraja about whatever stays silent. It has no code path that sends money.

Each unsettled payment that left has a next time to be looked at. An STK push is asked about by its checkout id, from
the reply or from a callback nobody confirmed yet; payouts and reversals by a Transaction Status inquiry whose answer
comes like any other callback. After the last question a person must decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import delete, update
from sqlmodel import col, select

from mpesa_mcp.credentials.shortcodes import open_shortcode
from mpesa_mcp.daraja.codes import Verdict, stk_meaning
from mpesa_mcp.daraja.operations import StkQuery
from mpesa_mcp.daraja.stk_answers import Decided
from mpesa_mcp.errors import MpesaMcpError
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.hints import belongs_elsewhere, hints_of, is_of_phone
from mpesa_mcp.payments.inquiries import OPEN, add_status_inquiry
from mpesa_mcp.payments.models import Attempt, Hint, Inquiry, Payment
from mpesa_mcp.payments.outcomes import Evidence, apply_evidence, move
from mpesa_mcp.payments.schedule import SEND_LEASE, asked_often_enough, next_question_after
from mpesa_mcp.payments.states import PaymentEvent, PaymentKind, PaymentStatus
from mpesa_mcp.store.crossings import Claim, DueTable, claim_due
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """An id Daraja may know the payment under; `hint` is the unconfirmed callback that named it, if one did."""

    checkout_request_id: str
    attempt_id: str
    hint: Hint | None


async def claim_silent(core: Core, limit: int) -> Sequence[Claim]:
    """Takes payments that left and are due to be looked at, for `ask_about`."""
    return await claim_due(
        core.store,
        DueTable.PAYMENTS,
        statuses=[PaymentStatus.SENDING, PaymentStatus.PENDING, PaymentStatus.UNKNOWN],
        now=core.clock.now(),
        lease=SEND_LEASE,
        limit=limit,
    )


async def ask_about(core: Core, claim: Claim) -> None:
    """One look at one payment: asks Daraja, applies the answer, or sets the next time."""
    async with core.store.session(claim.organization_id) as session:
        payment = await session.get(Payment, claim.id)
        assert payment is not None
        if PaymentStatus(payment.status) is PaymentStatus.SENDING:
            await move(
                core,
                session,
                payment,
                PaymentEvent.LEASE_RAN_OUT,
                source="clock",
                reason="The process stopped while sending, so it is not known whether this was carried out.",
                next_action_at=core.clock.now(),
            )
            return
        if PaymentKind(payment.kind) is not PaymentKind.STK_PUSH:
            await _add_inquiry(core, session, payment)
            await _set_next(core, session, claim, payment)
            return
        questions = await questions_about(session, payment)
    settled = await _ask_stk(core, payment, questions)
    if not settled:
        async with core.store.session(claim.organization_id) as session:
            await _set_next(core, session, claim, payment)


async def ask_now(core: Core, session: OrganizationSession, payment: Payment) -> None:
    """Has an unsettled payment asked about at once: a callback named it, and only our own question can confirm that.

    A few hints are kept at most, so callbacks cannot use up the questions. The fence grows, so that a question already
    under way does not put this one off.
    """
    if PaymentKind(payment.kind) is not PaymentKind.STK_PUSH:
        if PaymentStatus(payment.status) in {PaymentStatus.PENDING, PaymentStatus.UNKNOWN}:
            await _add_inquiry(core, session, payment)
        return
    now = core.clock.now()
    await session.change(
        update(Payment)
        .where(col(Payment.id) == payment.id, col(Payment.status).in_([PaymentStatus.PENDING, PaymentStatus.UNKNOWN]))
        .values(next_action_at=now, lease_until=None, fence=col(Payment.fence) + 1)
    )


async def _ask_stk(core: Core, payment: Payment, questions: Sequence[Question]) -> bool:
    """Asks for each known checkout id until one is decided; says whether one was."""
    for question in questions:
        try:
            shortcode = await open_shortcode(
                core.store, core.keyring, core.settings, payment.organization_id, payment.shortcode_id
            )
            query = StkQuery(
                shortcode=shortcode.shortcode,
                passkey=shortcode.require_passkey(),
                checkout_request_id=question.checkout_request_id,
            )
        except MpesaMcpError as problem:
            log.warning("question_not_possible", payment_id=payment.id, code=problem.code)
            return False
        answer = await core.daraja.stk_query(shortcode.app, query)
        if not isinstance(answer, Decided):
            continue
        meaning = stk_meaning(answer.result_code)
        if meaning.verdict not in {Verdict.SUCCEEDED, Verdict.FAILED}:
            continue
        # An answer tells no receipt; the callback that named this checkout may have.
        confirmed = question.hint if meaning.verdict is Verdict.SUCCEEDED else None
        async with core.store.session(payment.organization_id) as session:
            if not await _adopt(session, question, payment.id):
                continue
            if question.hint is not None:
                # It has been answered, so it no longer speaks for or against anything.
                await session.change(delete(Hint).where(col(Hint.id) == question.hint.id))
            applied = await apply_evidence(
                core,
                session,
                payment.id,
                Evidence(
                    verdict=meaning.verdict,
                    source="question",
                    code=answer.result_code,
                    reason=meaning.reason,
                    receipt=confirmed.receipt if confirmed else None,
                    untrusted_text=confirmed.untrusted_text if confirmed else None,
                ),
            )
        if applied:
            return True
    return False


async def questions_about(session: OrganizationSession, payment: Payment) -> Sequence[Question]:
    """The ids to ask about, the attempts' own first; a callback's only if it is of the payment's phone."""
    attempts = await session.all(
        select(Attempt).where(Attempt.payment_id == payment.id).order_by(col(Attempt.id).desc())
    )
    hints = await hints_of(session, payment.id)
    questions = [
        # A callback that named the attempt's own id, but not what moved, may still have named the receipt.
        Question(known, attempt.id, next((hint for hint in hints if hint.checkout_request_id == known), None))
        for attempt in attempts
        if (known := attempt.checkout_request_id)
    ]
    asked = {question.checkout_request_id for question in questions}
    for hint in hints:
        named = hint.checkout_request_id
        if named and named not in asked and is_of_phone(named, payment.phone):
            asked.add(named)
            questions.append(Question(named, hint.attempt_id, hint))
    return questions


async def _adopt(session: OrganizationSession, question: Question, payment_id: str) -> bool:
    """Our own answer confirmed the id that a callback named: from here on it is the attempt's.

    False when the id has turned out to be another payment's.
    """
    attempt = await session.get(Attempt, question.attempt_id)
    if attempt is not None and attempt.checkout_request_id == question.checkout_request_id:
        return True  # Daraja's own reply gave us this id; nobody's hint outranks that
    name = "checkout_request_id"
    if await belongs_elsewhere(session, name, question.checkout_request_id, payment_id=payment_id):
        return False
    if question.hint is not None:
        await session.change(
            update(Attempt)
            .where(col(Attempt.id) == question.attempt_id, col(Attempt.checkout_request_id).is_(None))
            .values(
                checkout_request_id=question.checkout_request_id,
                merchant_request_id=question.hint.merchant_request_id,
            )
        )
    return True


async def _add_inquiry(core: Core, session: OrganizationSession, payment: Payment) -> None:
    """Asks by the payout's own id, or by a reversal's acknowledgement; a reversal without one cannot be asked about."""
    open_already = await session.first(
        select(Inquiry.id).where(Inquiry.payment_id == payment.id, col(Inquiry.status).in_(OPEN))
    )
    if open_already is not None:
        return
    conversation_id = payment.originator_conversation_id
    if conversation_id is None:
        named = select(Attempt.conversation_id).where(
            Attempt.payment_id == payment.id, col(Attempt.conversation_id).is_not(None)
        )
        hinted = select(Hint.conversation_id).where(
            Hint.payment_id == payment.id, col(Hint.conversation_id).is_not(None)
        )
        asked = select(Inquiry.original_conversation_id).where(
            Inquiry.payment_id == payment.id, col(Inquiry.original_conversation_id).is_not(None)
        )
        conversation_id = (
            await session.first(named)
            or await session.first(hinted.where(col(Hint.conversation_id).not_in(asked)))
            or await session.first(hinted.order_by(col(Hint.id).desc()))
        )
    if conversation_id is not None:
        add_status_inquiry(session, payment, core.clock.now(), conversation_id=conversation_id)


async def _set_next(core: Core, session: OrganizationSession, claim: Claim, payment: Payment) -> None:
    """Counts the question and sets the time of the next; a pending payment that was silent too long is unknown."""
    kind = PaymentKind(payment.kind)
    asked = payment.ask_count + 1
    wait = next_question_after(kind, asked, core.reconcile_speed(Environment(payment.environment)))
    next_action_at = core.clock.now() + wait if wait is not None else None
    still_ours = await session.change(
        update(Payment)
        .where(
            col(Payment.id) == claim.id,
            col(Payment.fence) == claim.fence,
            col(Payment.status).in_([PaymentStatus.PENDING, PaymentStatus.UNKNOWN]),
        )
        .values(ask_count=asked, next_action_at=next_action_at, lease_until=None)
    )
    if still_ours and asked_often_enough(kind, asked):
        current = await session.get(Payment, claim.id)
        assert current is not None
        if PaymentStatus(current.status) is PaymentStatus.PENDING:
            await move(
                core,
                session,
                current,
                PaymentEvent.SILENT,
                source="clock",
                reason="Safaricom has not said what became of this; it is being asked about.",
                next_action_at=next_action_at,
            )
