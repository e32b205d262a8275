"""The inbox: takes stored callbacks one by one and hands what they say to the payments as evidence.

The path's token selects the attempt; everything else in the body is checked against it. What cannot be read, or does
not agree, changes nothing and is noted. What agrees but cannot be relied on alone (an id we never got from Daraja, a
success without amount or receipt) becomes a hint, and our own question decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import update
from sqlmodel import col, select

from mpesa_mcp.callbacks.answers import answer_of
from mpesa_mcp.callbacks.matching import Asked, b2c_disagreements, reversal_disagreements, stk_disagreements
from mpesa_mcp.callbacks.models import Callback, CallbackStatus, Channel
from mpesa_mcp.daraja.codes import Meaning, Verdict, b2c_meaning, reversal_meaning, stk_meaning
from mpesa_mcp.daraja.results import (
    SUCCESS,
    B2cOutcome,
    Malformed,
    ReversalOutcome,
    read_result,
    read_stk_callback,
)
from mpesa_mcp.errors import Advice
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.history import record_history
from mpesa_mcp.payments.models import Attempt, Hint, Payment
from mpesa_mcp.payments.outcomes import Evidence, apply_evidence, move, receipt_is_taken
from mpesa_mcp.payments.reconciliation import ask_now
from mpesa_mcp.payments.states import PaymentEvent, PaymentKind, PaymentStatus
from mpesa_mcp.store.crossings import Claim, DueTable, claim_due
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Kes, clean_foreign_text, new_id

log = structlog.get_logger(__name__)

_LEASE = timedelta(seconds=30)
_REPLY_LOOK_EVERY = timedelta(milliseconds=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One payment callback, read: its meaning, its ids, and which fields disagree with what we asked for."""

    meaning: Meaning
    code: str
    disagreements: list[str]
    is_complete: bool
    receipt: str | None
    untrusted_text: str | None
    merchant_request_id: str | None = None
    checkout_request_id: str | None = None
    conversation_id: str | None = None


async def claim_stored(core: Core, limit: int) -> Sequence[Claim]:
    """Takes callbacks nobody has applied yet, oldest first, for `apply_callback`."""
    return await claim_due(
        core.store,
        DueTable.CALLBACKS,
        statuses=[CallbackStatus.STORED],
        now=core.clock.now(),
        lease=_LEASE,
        limit=limit,
    )


async def apply_callback(core: Core, claim: Claim) -> None:
    """Applies one callback; what it changes and that it was applied are one commit."""
    now = core.clock.now()
    async with core.store.session(claim.organization_id) as session:
        callback = await session.get(Callback, claim.id)
        assert callback is not None
        if callback.fence != claim.fence or callback.status != CallbackStatus.STORED:
            return
        attempt = await session.get(Attempt, callback.attempt_id)
        assert attempt is not None
        if attempt.replied_at is None and attempt.in_flight_until > now:
            # It overtook our own reply (quirk 3): first the reply, or the end of the lease, then the callback.
            await _set(session, callback, next_action_at=min(now + _REPLY_LOOK_EVERY, attempt.in_flight_until))
            return
        status, note = await _apply(core, session, callback, attempt)
        await _set(session, callback, status=status, note=note, applied_at=now, next_action_at=None)
    if status in {CallbackStatus.MALFORMED, CallbackStatus.MISMATCHED}:
        log.warning("callback_refused", callback_id=callback.id, attempt_id=attempt.id, status=status, note=note)


async def _apply(
    core: Core, session: OrganizationSession, callback: Callback, attempt: Attempt
) -> tuple[CallbackStatus, str | None]:
    if attempt.payment_id is None:
        return await answer_of(core, session, callback, attempt)
    payment = await session.get(Payment, attempt.payment_id)
    assert payment is not None
    if Channel(callback.channel) is Channel.TIMEOUT:
        # Whatever its shape (quirk 28), it says only that nobody knows.
        await _apply_timeout(core, session, payment)
        return CallbackStatus.APPLIED, "a queue timeout"
    try:
        said = _read(payment, attempt, callback.body.encode())
    except Malformed as malformed:
        record_history(
            session, payment.id, core.clock.now(), event="callback_malformed", source="callback", note=str(malformed)
        )
        return CallbackStatus.MALFORMED, str(malformed)
    disagreements = [*said.disagreements, *await _taken_elsewhere(session, payment, attempt, said)]
    if disagreements:
        note = f"disagrees in: {', '.join(disagreements)}"
        record_history(session, payment.id, core.clock.now(), event="callback_mismatch", source="callback", note=note)
        return CallbackStatus.MISMATCHED, note
    if not _may_count(payment, attempt, said):
        await _keep_hint(core, session, payment, attempt, said)
        return CallbackStatus.UNCONFIRMED, None
    await apply_evidence(core, session, payment.id, _evidence(said))
    return CallbackStatus.APPLIED, None


def _may_count(payment: Payment, attempt: Attempt, said: Said) -> bool:
    """Whether the callback alone is evidence: our own accepted reply named its ids, and a success says what moved."""
    verdict = said.meaning.verdict
    if verdict not in {Verdict.SUCCEEDED, Verdict.FAILED}:
        return True
    if verdict is Verdict.SUCCEEDED and PaymentStatus(payment.status) is PaymentStatus.FAILED:
        # It can only contradict, and then a person looks; for that it need not be believed.
        return True
    if attempt.reply != "accepted" and not _names_adopted_id(attempt, said):
        return False
    return verdict is Verdict.FAILED or said.is_complete


def _names_adopted_id(attempt: Attempt, said: Said) -> bool:
    """Whether it names the id that our own question confirmed after our reply was lost."""
    return attempt.checkout_request_id is not None and attempt.checkout_request_id == said.checkout_request_id


def _evidence(said: Said) -> Evidence:
    return Evidence(
        verdict=said.meaning.verdict,
        source="callback",
        code=said.code,
        reason=said.meaning.reason,
        receipt=said.receipt,
        untrusted_text=said.untrusted_text,
    )


async def _apply_timeout(core: Core, session: OrganizationSession, payment: Payment) -> None:
    reason = "Safaricom's queue timed out, so it is not known whether this was carried out; it is being asked about."
    evidence = Evidence(verdict=Verdict.UNKNOWN, source="timeout", code="queue_timeout", reason=reason)
    await apply_evidence(core, session, payment.id, evidence)


def _read(payment: Payment, attempt: Attempt, body: bytes) -> Said:
    """Reads the body as this attempt's operation answers. Raises Malformed."""
    asked = _asked(payment, attempt)
    match asked.kind:
        case PaymentKind.STK_PUSH:
            push = read_stk_callback(body)
            return Said(
                meaning=stk_meaning(push.result_code),
                code=push.result_code,
                disagreements=stk_disagreements(asked, push),
                is_complete=push.amount is not None and push.receipt is not None,
                receipt=push.receipt,
                untrusted_text=_prose(push.result_code, push.result_desc),
                merchant_request_id=push.merchant_request_id,
                checkout_request_id=push.checkout_request_id,
            )
        case PaymentKind.B2C:
            result = read_result(body)
            paid = B2cOutcome.of(result)
            return Said(
                meaning=b2c_meaning(result.result_code) if result.is_final else _ANNOUNCED,
                code=result.result_code,
                disagreements=b2c_disagreements(asked, result, paid),
                is_complete=paid.amount is not None and paid.receipt is not None,
                receipt=paid.receipt,
                untrusted_text=clean_foreign_text(paid.receiver.name)
                if paid.receiver
                else _prose(result.result_code, result.result_desc),
                conversation_id=result.conversation_id,
            )
        case PaymentKind.REVERSAL:
            result = read_result(body)
            given_back = ReversalOutcome.of(result)
            return Said(
                meaning=reversal_meaning(result.result_code) if result.is_final else _ANNOUNCED,
                code=result.result_code,
                disagreements=reversal_disagreements(asked, result, given_back),
                is_complete=given_back.amount is not None and given_back.receipt is not None,
                receipt=given_back.receipt,
                untrusted_text=_prose(result.result_code, result.result_desc),
                conversation_id=result.conversation_id,
            )


def _prose(code: str, text: str) -> str | None:
    """Their words about a failure; about a success they say nothing that our own do not."""
    return None if code == SUCCESS else clean_foreign_text(text)


# ResultType 1: more is to come (daraja/api.md §0).
_ANNOUNCED = Meaning(Verdict.PENDING, "Safaricom announced that more is to come.", Advice.WAIT)


def _asked(payment: Payment, attempt: Attempt) -> Asked:
    """What is known about the payment, with the ids of the attempt whose path was called."""
    return Asked(
        kind=PaymentKind(payment.kind),
        amount=Kes(payment.amount_cents),
        phone=payment.phone,
        receipt=payment.receipt,
        reverses_receipt=payment.reverses_receipt,
        originator_conversation_id=payment.originator_conversation_id,
        merchant_request_id=attempt.merchant_request_id,
        checkout_request_id=attempt.checkout_request_id,
        conversation_id=attempt.conversation_id,
    )


async def _taken_elsewhere(session: OrganizationSession, payment: Payment, attempt: Attempt, said: Said) -> list[str]:
    """Ids and receipts in the body that belong to another payment: a replay, or a forgery put together from parts."""
    taken = []
    if said.receipt and await receipt_is_taken(session, said.receipt, payment.id):
        taken.append("receipt")
    for name in ("checkout_request_id", "conversation_id", "merchant_request_id"):
        value = getattr(said, name)
        if value and await session.first(
            select(Attempt.id).where(col(getattr(Attempt, name)) == value, Attempt.id != attempt.id)
        ):
            taken.append(name)
    return taken


async def _keep_hint(core: Core, session: OrganizationSession, payment: Payment, attempt: Attempt, said: Said) -> None:
    """Keeps what cannot be relied on alone, and has the payment asked about at once."""
    now = core.clock.now()
    session.add(
        Hint(
            organization_id=session.organization_id,
            id=new_id("hnt"),
            payment_id=payment.id,
            attempt_id=attempt.id,
            result_code=said.code,
            merchant_request_id=said.merchant_request_id,
            checkout_request_id=said.checkout_request_id,
            conversation_id=said.conversation_id,
            receipt=said.receipt,
            untrusted_text=said.untrusted_text,
            received_at=now,
        )
    )
    note = "kept until our own question confirms it"
    record_history(session, payment.id, now, event="callback_unconfirmed", source="callback", code=said.code, note=note)
    if PaymentStatus(payment.status) is PaymentStatus.QUEUED:
        # An earlier send was taken for not sent, and now there is a result of it: it must not be sent again.
        await move(
            core,
            session,
            payment,
            PaymentEvent.UNCLEAR,
            source="callback",
            reason="Safaricom reported a result for a send that was taken for not sent; it is being asked about.",
            next_action_at=now,
        )
    else:
        await ask_now(core, session, payment)


async def _set(session: OrganizationSession, callback: Callback, **values: object) -> None:
    await session.change(
        update(Callback)
        .where(col(Callback.id) == callback.id, col(Callback.fence) == callback.fence)
        .values(lease_until=None, **values)
    )
