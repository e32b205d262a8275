"""Callbacks that answer an inquiry: a balance, or what became of a movement.

A status answer about one of our own payments is also evidence for it, if it agrees with the payment and our question
was one that Daraja acknowledged.
"""

from datetime import datetime
from typing import Any

from mpesa_mcp.callbacks.matching import Asked, status_disagreements
from mpesa_mcp.callbacks.models import Callback, CallbackStatus, Channel
from mpesa_mcp.daraja.codes import Meaning, Verdict, balance_meaning, status_meaning
from mpesa_mcp.daraja.results import BalanceOutcome, Malformed, Party, Result, StatusOutcome, read_result
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.history import record_history
from mpesa_mcp.payments.inquiries import add_balance, answer_inquiry
from mpesa_mcp.payments.models import Attempt, Inquiry, Payment
from mpesa_mcp.payments.outcomes import Evidence, apply_evidence
from mpesa_mcp.payments.records import InquiryStatus
from mpesa_mcp.payments.requests import InquiryKind
from mpesa_mcp.payments.states import PaymentKind
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Kes, clean_foreign_text

Applied = tuple[CallbackStatus, str | None]


async def answer_of(core: Core, session: OrganizationSession, callback: Callback, attempt: Attempt) -> Applied:
    """Applies one callback of an inquiry; says what became of the callback."""
    assert attempt.inquiry_id is not None
    inquiry = await session.get(Inquiry, attempt.inquiry_id)
    assert inquiry is not None
    if Channel(callback.channel) is Channel.TIMEOUT:
        # The answer may still come; if not, the question expires.
        return CallbackStatus.APPLIED, "a queue timeout"
    try:
        result = read_result(callback.body.encode())
        if None not in {attempt.conversation_id, result.conversation_id} and (
            attempt.conversation_id != result.conversation_id
        ):
            return CallbackStatus.MISMATCHED, "disagrees in: conversation_id"
        if InquiryKind(inquiry.kind) is InquiryKind.BALANCE:
            return await _balance(session, inquiry, result, core.clock.now())
        return await _status(core, session, inquiry, attempt, result)
    except Malformed as malformed:
        return CallbackStatus.MALFORMED, str(malformed)


async def _balance(session: OrganizationSession, inquiry: Inquiry, result: Result, now: datetime) -> Applied:
    meaning = balance_meaning(result.result_code)
    accounts = BalanceOutcome.of(result).accounts if result.succeeded else ()
    if result.succeeded and not accounts:
        raise Malformed("a balance without accounts")
    closed = await _close(session, inquiry, result, meaning, now, answer=None)
    if closed:
        for account in accounts:
            columns = {
                "account": (clean_foreign_text(account.name) or "")[:80],
                "currency": account.currency,
                "current_cents": account.current.cents,
                "available_cents": account.available.cents,
                "reserved_cents": account.reserved.cents,
                "uncleared_cents": account.uncleared.cents,
            }
            add_balance(session, inquiry, now, columns)
    return CallbackStatus.APPLIED, None if closed else "came again"


async def _status(
    core: Core, session: OrganizationSession, inquiry: Inquiry, attempt: Attempt, result: Result
) -> Applied:
    now = core.clock.now()
    outcome = StatusOutcome.of(result)
    answer = _answer(outcome) if result.succeeded else None
    closed = await _close(session, inquiry, result, status_meaning(result.result_code), now, answer=answer)
    note = None if closed else "came again"
    if inquiry.payment_id is None or not result.succeeded or attempt.reply != "accepted":
        return CallbackStatus.APPLIED, note
    payment = await session.get(Payment, inquiry.payment_id)
    assert payment is not None
    if differing := status_disagreements(_asked(payment), outcome):
        note = f"disagrees in: {', '.join(differing)}"
        record_history(session, payment.id, now, event="status_mismatch", source="question", note=note)
        return CallbackStatus.MISMATCHED, note
    if outcome.verdict in {Verdict.SUCCEEDED, Verdict.FAILED}:
        await apply_evidence(core, session, payment.id, _evidence(payment, outcome))
    return CallbackStatus.APPLIED, note


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


def _asked(payment: Payment) -> Asked:
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
        conversation_id=None,
    )


def _evidence(payment: Payment, outcome: StatusOutcome) -> Evidence:
    moved = outcome.verdict is Verdict.SUCCEEDED
    return Evidence(
        verdict=outcome.verdict,
        source="question",
        code=outcome.transaction_status,
        reason="Safaricom says it was completed." if moved else "Safaricom says it was not carried out.",
        receipt=outcome.receipt if moved else None,
    )


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
