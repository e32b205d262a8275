"""Reconciliation: asks Daraja about whatever stays silent. It has no code path that sends money.

Each unsettled payment that left has a next time to be looked at. An STK push is asked about by its checkout id, from
the reply or from a callback nobody confirmed yet; payouts and reversals by a Transaction Status inquiry whose answer
comes like any other callback. After the last question a person must decide.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

import structlog
from sqlalchemy import delete, update
from sqlmodel import col, select

from mpesa_mcp.daraja.codes import Verdict, stk_meaning
from mpesa_mcp.daraja.operations import StkQuery
from mpesa_mcp.daraja.results import SUCCESS
from mpesa_mcp.daraja.stk_answers import Decided, NotAsked, Nothing
from mpesa_mcp.errors import MpesaMcpError
from mpesa_mcp.identity.models import Organization
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.doubts import another_may_move
from mpesa_mcp.payments.hints import belongs_elsewhere, deserves_an_answer, hints_of, mark_answered
from mpesa_mcp.payments.inquiries import OPEN, add_status_inquiry
from mpesa_mcp.payments.models import Attempt, Hint, Inquiry, Payment
from mpesa_mcp.payments.outcomes import Change, Evidence, apply_evidence, lock_payment, move, receipt_is_taken
from mpesa_mcp.payments.questions import Question, conversation_to_ask_by, only_one, questions_about
from mpesa_mcp.payments.records import InquiryStatus
from mpesa_mcp.payments.schedule import (
    SEND_LEASE,
    TO_BE_ASKED_ABOUT,
    asked_often_enough,
    inquiry_life,
    next_question_after,
)
from mpesa_mcp.payments.states import PaymentEvent, PaymentKind, PaymentStatus
from mpesa_mcp.store.crossings import Claim, DueTable, claim_due
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment

log = structlog.get_logger(__name__)


_ASKED_IN_VAIN = "Safaricom has not said what became of this, however often it was asked; a person must find out."
_NOTHING_TO_ASK_BY = (
    "Safaricom gave no id to ask about this by, and has not told by itself what became of it; a person must find out."
)
_OPEN_PAYMENT = [PaymentStatus.PENDING, PaymentStatus.UNKNOWN]


@dataclass(slots=True)
class Answers:
    """What a round of questions came to: settled or not, and the hints that were not confirmed.

    `not_before`: calls of the app are paused until then, so that the round was not finished.
    """

    settled: bool = False
    not_before: datetime | None = None
    unconfirmed: list[Hint] = field(default_factory=list)


async def claim_silent(core: Core, limit: int, passing_over: Collection[str] = ()) -> Sequence[Claim]:
    """Takes payments that left and are due to be looked at, for `ask_about`."""
    return await claim_due(
        core.store,
        DueTable.PAYMENTS,
        statuses=[PaymentStatus.SENDING, PaymentStatus.PENDING, PaymentStatus.UNKNOWN],
        now=core.clock.now(),
        lease=SEND_LEASE,
        limit=limit,
        passing_over=passing_over,
    )


async def ask_about(core: Core, claim: Claim) -> None:
    """One look at one payment: asks Daraja, applies the answer, or sets the next time."""
    async with core.store.session(claim.organization_id) as session:
        payment = await lock_payment(session, claim.id)
        if payment.fence != claim.fence:
            return
        if PaymentStatus(payment.status) is PaymentStatus.SENDING:
            await move(
                core,
                session,
                payment,
                Change(
                    PaymentEvent.LEASE_RAN_OUT,
                    source="clock",
                    reason="The process stopped while sending, so it is not known whether this was carried out.",
                    next_action_at=core.clock.now(),
                ),
            )
            return
        if not PaymentKind(payment.kind).is_asked_about_by_checkout:
            await _ask_by_inquiry(core, session, claim, payment)
            return
        hints = await hints_of(session, payment.id)
        questions = await questions_about(session, payment)
    answers = await _ask_stk(core, payment, questions)
    if answers.settled:
        return
    if answers.not_before is not None:
        await _ask_later(core, claim, answers.not_before)
        return
    asked = {hint.id for question in questions for hint in question.hints}
    # One that nothing can be asked by has been looked at, and that is all there is to do about it.
    unconfirmed = [*answers.unconfirmed, *(hint for hint in hints if hint.id not in asked)]
    async with core.store.session(claim.organization_id) as session:
        payment = await lock_payment(session, claim.id)
        now, speed = core.clock.now(), core.reconcile_speed(Environment(payment.environment))
        await mark_answered(session, unconfirmed, now)
        # What callbacks claim is asked about beside the schedule: whoever posts them must not use up its questions.
        beside = any(deserves_an_answer(hint, now, speed) for hint in answers.unconfirmed)
        await _set_next(core, session, claim, payment, counts=not beside)


async def ask_now(core: Core, session: OrganizationSession, payment: Payment, *, reason: str | None = None) -> None:
    """Has an unsettled payment, locked by the caller, asked about at once; `reason` tells why it is not settled yet.

    A callback named it, and only our own question can confirm that. A few hints are kept at most, so callbacks cannot
    use up the questions. The fence grows, so that a question already under way does not put this one off.
    """
    if PaymentStatus(payment.status) not in _OPEN_PAYMENT:
        return
    values: dict[str, object] = {} if reason is None else {"reason": reason}
    if PaymentKind(payment.kind).is_asked_about_by_checkout:
        values |= {"next_action_at": core.clock.now(), "lease_until": None, "fence": col(Payment.fence) + 1}
    else:
        await _add_inquiry(core, session, payment)
    if values:
        session.wake(payment.id, TO_BE_ASKED_ABOUT)
        await session.change(
            update(Payment)
            .where(col(Payment.id) == payment.id, col(Payment.status).in_(_OPEN_PAYMENT))
            .values(**values)
        )


async def _ask_stk(core: Core, payment: Payment, questions: Sequence[Question]) -> Answers:
    """Asks for each known checkout id until one is decided."""
    answers = Answers()
    for question in questions:
        try:
            shortcode = await core.shortcodes.open(payment.organization_id, payment.shortcode_id)
            query = StkQuery(
                shortcode=shortcode.shortcode,
                passkey=shortcode.require_passkey(),
                checkout_request_id=question.checkout_request_id,
            )
        except MpesaMcpError as problem:
            log.warning("question_not_possible", payment_id=payment.id, code=problem.code)
            return answers
        answer = await core.daraja.stk_query(shortcode.app, query)
        if isinstance(answer, NotAsked):
            answers.not_before = answer.until
            return answers
        if not isinstance(answer, Decided):
            if not isinstance(answer, Nothing) or answer.code == "does_not_exist":
                answers.unconfirmed.extend(question.hints)
            continue
        match await _settle_by_answer(core, payment, question, answer):
            case _Came.SETTLED:
                answers.settled = True
                return answers
            case _Came.UNCONFIRMED:
                answers.unconfirmed.extend(question.hints)
            case _Came.CONFIRMED:
                pass  # its hints stay until it is settled: nothing makes room of what our own question has confirmed
    return answers


async def _ask_later(core: Core, claim: Claim, when: datetime) -> None:
    """Not asked, so no question of the schedule is used up."""
    async with core.store.session(claim.organization_id) as session:
        await session.change(
            update(Payment)
            .where(
                col(Payment.id) == claim.id,
                col(Payment.fence) == claim.fence,
                col(Payment.status).in_(_OPEN_PAYMENT),
            )
            .values(next_action_at=when, lease_until=None)
        )


class _Came(StrEnum):
    """What a decided answer came to."""

    SETTLED = "settled"
    CONFIRMED = "a success, while another send is open"
    UNCONFIRMED = "nothing"


async def _settle_by_answer(core: Core, payment: Payment, question: Question, answer: Decided) -> _Came:
    """Applies a decided answer, unless it settles nothing, or the id turned out to be another payment's."""
    meaning = stk_meaning(answer.result_code)
    if meaning.verdict not in {Verdict.SUCCEEDED, Verdict.FAILED}:
        return _Came.UNCONFIRMED
    moved = meaning.verdict is Verdict.SUCCEEDED
    async with core.store.session(payment.organization_id) as session:
        if not question.is_ours:
            # Two payments whose callbacks named one id take turns here: the second finds it adopted.
            await session.lock(Organization, session.organization_id)
        await lock_payment(session, payment.id)
        # Callbacks that were read while Daraja was being asked count too: one of them may have told the receipt.
        known = [
            hint
            for hint in await hints_of(session, payment.id)
            if hint.checkout_request_id == question.checkout_request_id
        ]
        question = replace(question, hints=known)
        attempt = await session.get(Attempt, question.attempt_id)
        assert attempt is not None
        if await another_may_move(session, payment.id, named=question.checkout_request_id):
            return _Came.CONFIRMED if moved else _Came.UNCONFIRMED  # nothing has ended before that prompt has
        if not await _adopt(session, question, answer, attempt, payment.id):
            return _Came.UNCONFIRMED
        # An answer tells no receipt; the callbacks that named this checkout may have, if they agree.
        # Of an id that Daraja gave us only at the address of that send: others were told another address.
        telling = [each for each in known if each.attempt_id == attempt.id or not question.is_ours]
        receipt = only_one(hint.receipt for hint in telling if hint.result_code == SUCCESS) if moved else None
        if receipt and question.is_ours and await receipt_is_taken(session, receipt, payment.id):
            receipt = None
        # They have been answered, so they no longer speak for or against anything; unless one that named the id
        # Daraja gave us is contradicted now.
        speak_on = question.is_ours and not moved
        answered = [hint.id for hint in question.hints if not speak_on or hint.result_code != SUCCESS]
        await session.change(delete(Hint).where(col(Hint.id).in_(answered)))
        evidence = Evidence(
            verdict=meaning.verdict,
            source="question",
            code=answer.result_code,
            reason=meaning.reason,
            receipt=receipt,
        )
        applied = await apply_evidence(core, session, payment.id, evidence)
    return _Came.SETTLED if applied else _Came.UNCONFIRMED


async def _adopt(
    session: OrganizationSession, question: Question, answer: Decided, attempt: Attempt, payment_id: str
) -> bool:
    """Our own answer confirmed the id that a callback named: from here on it is the attempt's.

    False when it confirms nothing the callbacks said of the id, or the id has turned out to be another payment's.
    """
    if attempt.checkout_request_id == question.checkout_request_id:
        return True  # Daraja's own reply gave us this id; nobody's hint outranks that
    verdict = stk_meaning(answer.result_code).verdict
    if not any(stk_meaning(hint.result_code).verdict is verdict for hint in question.hints):
        return False
    name = "checkout_request_id"
    if await belongs_elsewhere(session, name, question.checkout_request_id, payment_id=payment_id):
        return False
    await session.change(
        update(Attempt)
        .where(col(Attempt.id) == attempt.id, col(Attempt.checkout_request_id).is_(None))
        .values(
            checkout_request_id=question.checkout_request_id,
            merchant_request_id=answer.merchant_request_id
            or only_one(hint.merchant_request_id for hint in question.hints),
        )
    )
    return True


async def _ask_by_inquiry(core: Core, session: OrganizationSession, claim: Claim, payment: Payment) -> None:
    """Asks about a payout or a reversal; looks again when the question under way has ended, if there is one."""
    busy_until = await _add_inquiry(core, session, payment)
    if busy_until is None:
        await _set_next(core, session, claim, payment)
        return
    await session.change(
        update(Payment)
        .where(col(Payment.id) == claim.id, col(Payment.fence) == claim.fence, col(Payment.status).in_(_OPEN_PAYMENT))
        .values(next_action_at=busy_until, lease_until=None)
    )


async def _add_inquiry(core: Core, session: OrganizationSession, payment: Payment) -> datetime | None:
    """Asks by the id Daraja knows the payment under, if any; when a question is under way, says when that will end."""
    now = core.clock.now()
    under_way = await session.first(
        select(Inquiry).where(Inquiry.payment_id == payment.id, col(Inquiry.status).in_(OPEN))
    )
    if under_way is not None:
        ends_at = under_way.next_action_at
        if ends_at is None or InquiryStatus(under_way.status) is InquiryStatus.QUEUED:
            ends_at = now + inquiry_life(core.reconcile_speed(Environment(payment.environment)))
        return max(now, ends_at) + timedelta(seconds=1)
    if (conversation_id := await conversation_to_ask_by(session, payment)) is not None:
        add_status_inquiry(session, payment, now, conversation_id=conversation_id)
    return None


async def _set_next(
    core: Core, session: OrganizationSession, claim: Claim, payment: Payment, *, counts: bool = True
) -> None:
    """Counts the question and sets the time of the next; a pending payment that was silent too long is unknown."""
    kind = PaymentKind(payment.kind)
    asked = payment.ask_count + counts
    wait = next_question_after(kind, asked, core.reconcile_speed(Environment(payment.environment)))
    next_action_at = core.clock.now() + wait if wait is not None else None
    still_ours = await session.change(
        update(Payment)
        .where(col(Payment.id) == claim.id, col(Payment.fence) == claim.fence, col(Payment.status).in_(_OPEN_PAYMENT))
        .values(ask_count=asked, next_action_at=next_action_at, lease_until=None)
    )
    if next_action_at is not None:
        session.wake_when_due(TO_BE_ASKED_ABOUT, next_action_at, now=core.clock.now())
    if not still_ours or not asked_often_enough(kind, asked):
        return
    if next_action_at is None:
        await session.change(
            update(Payment)
            .where(col(Payment.id) == claim.id, col(Payment.status) == PaymentStatus.UNKNOWN)
            .values(reason=_ASKED_IN_VAIN if await _can_be_asked_about(session, payment) else _NOTHING_TO_ASK_BY)
        )
    if PaymentStatus(payment.status) is PaymentStatus.PENDING:
        await move(
            core,
            session,
            payment,
            Change(
                PaymentEvent.SILENT,
                source="clock",
                # One that is being confirmed goes on saying so.
                reason=payment.reason or "Safaricom has not said what became of this; it is being asked about.",
                next_action_at=next_action_at,
            ),
        )


async def _can_be_asked_about(session: OrganizationSession, payment: Payment) -> bool:
    """Whether there is an id that Daraja can be asked by; a push or a reversal cut off while it was sent has none."""
    if PaymentKind(payment.kind).is_asked_about_by_checkout:
        return bool(await questions_about(session, payment))
    return await conversation_to_ask_by(session, payment) is not None
