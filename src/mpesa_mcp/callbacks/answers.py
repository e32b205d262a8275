"""Callbacks that answer an inquiry: a balance, or what became of a movement.

A status answer about one of our own payments is also evidence for it, if it agrees with the payment and our question
was one that Daraja acknowledged.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import update
from sqlmodel import col, select

from mpesa_mcp.callbacks.matching import Asked, status_disagreements
from mpesa_mcp.callbacks.models import Callback, CallbackStatus, Channel
from mpesa_mcp.daraja.codes import Meaning, Verdict, balance_meaning, status_meaning
from mpesa_mcp.daraja.results import SUCCESS, BalanceOutcome, Malformed, Party, Result, StatusOutcome, read_result
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.doubts import another_may_move
from mpesa_mcp.payments.hints import hints_of, mark_answered
from mpesa_mcp.payments.history import record_no_change
from mpesa_mcp.payments.inquiries import add_balance, answer_inquiry, nobody_may_ask
from mpesa_mcp.payments.models import Attempt, Hint, Inquiry, Payment
from mpesa_mcp.payments.outcomes import Evidence, apply_evidence, lock_payment, receipt_is_taken
from mpesa_mcp.payments.questions import conversation_to_ask_by
from mpesa_mcp.payments.reconciliation import ask_now
from mpesa_mcp.payments.records import InquiryStatus
from mpesa_mcp.payments.requests import InquiryKind
from mpesa_mcp.payments.states import PaymentKind, Reply
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Kes, clean_foreign_text

# The accounts an organization can have (daraja/api.md §9, quirk 36). Any other name is text somebody chose.
_ACCOUNTS = {
    name.lower(): name
    for name in (
        "Working Account",
        "Float Account",
        "Utility Account",
        "Charges Paid Account",
        "Merchant Account",
        "Organization Settlement Account",
    )
}
_MOST_ACCOUNTS = 20
# The initiator lacks the role to ask: asking again would be refused again (daraja/codes.md §5).
_MAY_NOT_ASK = "21"
Applied = tuple[CallbackStatus, str | None]


async def answer_of(core: Core, session: OrganizationSession, callback: Callback, attempt: Attempt) -> Applied:
    """Applies one callback of an inquiry; says what became of the callback."""
    assert attempt.inquiry_id is not None
    inquiry = await session.get(Inquiry, attempt.inquiry_id)
    assert inquiry is not None
    payment = await lock_payment(session, inquiry.payment_id) if inquiry.payment_id is not None else None
    if Channel(callback.channel) is Channel.TIMEOUT:
        # The answer may still come; if not, the question expires.
        return CallbackStatus.APPLIED, "a queue timeout"
    try:
        result = read_result(callback.body.encode())
        if not _answers(attempt, result):
            # A question costs nothing: what cannot be told from a forgery is asked again.
            return CallbackStatus.MISMATCHED, "disagrees in: conversation_id"
        is_balance = InquiryKind(inquiry.kind) is InquiryKind.BALANCE
        meaning = balance_meaning(result.result_code) if is_balance else status_meaning(result.result_code)
        if not result.is_final or meaning.verdict is Verdict.PENDING:
            return CallbackStatus.APPLIED, "more is to come"
        if is_balance:
            return await _balance(session, inquiry, result, meaning, core.clock.now())
        return await _status(core, session, inquiry, payment, attempt, result, meaning)
    except Malformed as malformed:
        return CallbackStatus.MALFORMED, str(malformed)


def _answers(attempt: Attempt, result: Result) -> bool:
    """Whether the result names the id by which Daraja acknowledged the question."""
    if attempt.conversation_id is not None:
        return attempt.conversation_id == result.conversation_id
    acknowledged = attempt.originator_conversation_id
    return acknowledged is not None and acknowledged == result.originator_conversation_id


async def _balance(
    session: OrganizationSession, inquiry: Inquiry, result: Result, meaning: Meaning, now: datetime
) -> Applied:
    accounts = BalanceOutcome.of(result).accounts if result.succeeded else ()
    if result.succeeded and not 0 < len(accounts) <= _MOST_ACCOUNTS:
        raise Malformed("a balance without accounts, or with too many")
    closed = await _close(session, inquiry, result, meaning, now, answer=None)
    if closed:
        for account in accounts:
            columns = {
                "account": _account_name(account.name),
                "currency": account.currency,
                "current_cents": account.current.cents,
                "available_cents": account.available.cents,
                "reserved_cents": account.reserved.cents,
                "uncleared_cents": account.uncleared.cents,
            }
            add_balance(session, inquiry, now, columns)
    return CallbackStatus.APPLIED, None if closed else "came again"


async def _status(
    core: Core,
    session: OrganizationSession,
    inquiry: Inquiry,
    payment: Payment | None,
    attempt: Attempt,
    result: Result,
    meaning: Meaning,
) -> Applied:
    now = core.clock.now()
    outcome = StatusOutcome.of(result)
    if differing := await _disagreements(session, inquiry, payment, outcome):
        disagreement = f"disagrees in: {', '.join(differing)}"
        if payment is not None:
            await record_no_change(
                session, payment.id, now, event="status_mismatch", source="question", note=disagreement
            )
        return CallbackStatus.MISMATCHED, disagreement
    answer = _answer(outcome) if result.succeeded else None
    closed = await _close(session, inquiry, result, meaning, now, answer=answer)
    if payment is not None and attempt.reply == Reply.ACCEPTED:
        await _conclude(core, session, inquiry, payment, result, outcome)
    return CallbackStatus.APPLIED, None if closed else "came again"


async def _conclude(
    core: Core,
    session: OrganizationSession,
    inquiry: Inquiry,
    payment: Payment,
    result: Result,
    outcome: StatusOutcome,
) -> None:
    """What an answer to an acknowledged question does to the payment that was asked about."""
    hints = [hint for hint in await hints_of(session, payment.id) if _is_of_question(hint, inquiry, payment)]
    decides = outcome.verdict in {Verdict.SUCCEEDED, Verdict.FAILED} and _is_about(payment, inquiry, outcome)
    if decides and not await _of_one_send_of_two(session, payment, inquiry):
        await _adopt(session, payment, inquiry, hints)
        await apply_evidence(core, session, payment.id, await _evidence(session, payment, outcome, hints))
        return
    answered = [hint for hint in hints if hint.received_at <= inquiry.created_at]
    await mark_answered(session, answered, core.clock.now())
    if result.result_code == _MAY_NOT_ASK:
        await nobody_may_ask(core, session, inquiry, result.result_code)
    elif not payment.sends_share_an_id and await _another_is_waiting(session, payment):
        await ask_now(core, session, payment)


async def _of_one_send_of_two(session: OrganizationSession, payment: Payment, inquiry: Inquiry) -> bool:
    """Whether the question was about one send of a reversal, and another may still move money. A payout has one id."""
    named = inquiry.original_conversation_id
    if payment.sends_share_an_id or named is None:
        return False
    return await another_may_move(session, payment.id, named=named)


async def _adopt(session: OrganizationSession, payment: Payment, inquiry: Inquiry, hints: Sequence[Hint]) -> None:
    """The id by which Safaricom answered about a reversal is from here on that of the send a callback named it for."""
    if payment.sends_share_an_id or not hints:
        return
    await session.change(
        update(Attempt)
        .where(col(Attempt.id) == hints[0].attempt_id, col(Attempt.conversation_id).is_(None))
        .values(conversation_id=inquiry.original_conversation_id)
    )


def _is_of_question(hint: Hint, inquiry: Inquiry, payment: Payment) -> bool:
    """Whether the question was about what the hint claims: a payout's is about all, a reversal's about one id."""
    return payment.sends_share_an_id or hint.conversation_id == inquiry.original_conversation_id


async def _another_is_waiting(session: OrganizationSession, payment: Payment) -> bool:
    """Whether a callback named another id of this reversal, the next question is about it, and nobody was asked yet."""
    named = await conversation_to_ask_by(session, payment)
    waiting = [hint.conversation_id for hint in await hints_of(session, payment.id) if hint.answered_at is None]
    return named is not None and named in waiting


async def _close(
    session: OrganizationSession,
    inquiry: Inquiry,
    result: Result,
    meaning: Meaning,
    now: datetime,
    *,
    answer: dict[str, Any] | None,
) -> bool:
    return await answer_inquiry(
        session,
        inquiry.id,
        now,
        status=InquiryStatus.ANSWERED if result.succeeded else InquiryStatus.FAILED,
        code=result.result_code,
        reason=meaning.reason,
        answer=answer,
    )


async def _disagreements(
    session: OrganizationSession, inquiry: Inquiry, payment: Payment | None, outcome: StatusOutcome
) -> list[str]:
    """What speaks of another movement than the one asked about: its receipt, or any field of our payment."""
    if payment is not None:
        return status_disagreements(_asked(payment, await _conversation_id(session, inquiry, payment)), outcome)
    return ["receipt"] if None not in {inquiry.receipt, outcome.receipt} and inquiry.receipt != outcome.receipt else []


async def _conversation_id(session: OrganizationSession, inquiry: Inquiry, payment: Payment) -> str | None:
    """The id Daraja gave the payment; of a reversal without a reply, the id a callback named and we asked by.

    None of a payout that was sent again: its sends share our id, and Daraja may have carried out another than it named.
    """
    attempts = await session.all(select(Attempt).where(Attempt.payment_id == payment.id).order_by(col(Attempt.id)))
    given = next((each.conversation_id for each in attempts if each.conversation_id is not None), None)
    if payment.sends_share_an_id:
        return given if len(attempts) == 1 else None
    return given or inquiry.original_conversation_id


def _asked(payment: Payment, conversation_id: str | None) -> Asked:
    """What is known of the payment a question was about; the answer's own ids are not those of the question."""
    return Asked(
        kind=PaymentKind(payment.kind),
        amount=Kes(payment.amount_cents),
        phone=payment.phone,
        receipt=payment.receipt,
        reverses_receipt=payment.reverses_receipt,
        originator_conversation_id=payment.originator_conversation_id,
        merchant_request_id=None,
        checkout_request_id=None,
        conversation_id=conversation_id,
    )


def _is_about(payment: Payment, inquiry: Inquiry, outcome: StatusOutcome) -> bool:
    """Whether the answer says enough to be about this payment: the amount, and an id of the movement."""
    ids = {payment.receipt or inquiry.receipt, payment.originator_conversation_id, inquiry.original_conversation_id}
    said = {outcome.receipt, outcome.originator_conversation_id, outcome.conversation_id}
    return outcome.amount is not None and bool((ids & said) - {None})


async def _evidence(
    session: OrganizationSession, payment: Payment, outcome: StatusOutcome, hints: Sequence[Hint]
) -> Evidence:
    """The answer; and what a callback said of the same success, where the answer confirms it: the code, the receipt."""
    if outcome.verdict is not Verdict.SUCCEEDED:
        reason = "Safaricom says it was not carried out."
        return Evidence(verdict=outcome.verdict, source="question", code=outcome.transaction_status, reason=reason)
    confirmed = [hint for hint in hints if hint.result_code == SUCCESS]
    receipt = outcome.receipt
    # The answer confirms the movement. A receipt is believed of who named it by Daraja's own id: a path is not enough.
    attempts = await session.all(select(Attempt).where(Attempt.payment_id == payment.id))
    ours = {attempt.conversation_id for attempt in attempts} - {None}
    told = {hint.receipt for hint in confirmed if hint.receipt and hint.conversation_id in ours}
    if receipt is None and len(told) == 1:
        [named] = told
        receipt = None if await receipt_is_taken(session, named, payment.id) else named
    return Evidence(
        verdict=outcome.verdict,
        source="question",
        code=SUCCESS if confirmed else outcome.transaction_status,
        reason="Safaricom says it was completed.",
        receipt=receipt,
    )


def _account_name(name: str) -> str:
    return _ACCOUNTS.get(" ".join(name.lower().split()), "Other Account")


def _answer(outcome: StatusOutcome) -> dict[str, Any]:
    """The answer in our own names; party names are what people typed, so they are kept apart."""
    return {
        "transaction_status": outcome.transaction_status,
        "receipt": outcome.receipt,
        "amount_cents": outcome.amount.cents if outcome.amount is not None else None,
        "initiated_at": outcome.initiated_at.isoformat() if outcome.initiated_at else None,
        "finalised_at": outcome.finalised_at.isoformat() if outcome.finalised_at else None,
        "debit_number": outcome.debit_party.number if outcome.debit_party else None,
        "credit_number": outcome.credit_party.number if outcome.credit_party else None,
        "names": _names(outcome.debit_party, outcome.credit_party),
    }


def _names(*parties: Party | None) -> str | None:
    return clean_foreign_text("; ".join(party.name for party in parties if party is not None and party.name))
