"""Dispatch: the only code that sends money.

A send is: take the queued row under a lease, commit an attempt with its callback token and the status `sending`, call
Daraja with no transaction open, conclude. A crash between the commit and the conclusion leaves `sending` behind a
lease that runs out, and then the payment is unknown: asked about, never sent again.
"""

from collections.abc import Sequence
from typing import assert_never

import structlog
from sqlalchemy import update
from sqlmodel import col

from mpesa_mcp.credentials.shortcodes import open_shortcode
from mpesa_mcp.daraja.conclusions import Conclusion, Operation
from mpesa_mcp.daraja.operations import B2cPayment, Purpose, Reversal, StkPush
from mpesa_mcp.errors import MpesaMcpError
from mpesa_mcp.payments.attempts import NewAttempt, add_attempt, not_prepared, within_deadline
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.history import record_history
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.outcomes import conclude_send, move
from mpesa_mcp.payments.schedule import QUEUE_LIFE, SEND_LEASE
from mpesa_mcp.payments.states import PaymentEvent, PaymentKind, PaymentStatus, next_status
from mpesa_mcp.store.crossings import Claim, DueTable, claim_due
from mpesa_mcp.values import Environment, Kes, Msisdn

log = structlog.get_logger(__name__)

_OPERATIONS = {
    PaymentKind.STK_PUSH: Operation.STK_PUSH,
    PaymentKind.B2C: Operation.B2C,
    PaymentKind.REVERSAL: Operation.REVERSAL,
}


async def claim_queued(core: Core, limit: int) -> Sequence[Claim]:
    """Takes queued payments that are due, for `send_payment`."""
    return await claim_due(
        core.store,
        DueTable.PAYMENTS,
        statuses=[PaymentStatus.QUEUED],
        now=core.clock.now(),
        lease=SEND_LEASE,
        limit=limit,
    )


async def send_payment(core: Core, claim: Claim) -> None:
    """Sends one claimed payment, at most once."""
    async with core.store.reading(claim.organization_id) as session:
        payment = await session.get(Payment, claim.id)
    assert payment is not None  # rows of payments are never deleted
    attempt = await _commit_attempt(core, claim, payment)
    if attempt is None:
        return
    conclusion = await _call(core, payment, attempt)
    log.info("payment_sent", payment_id=payment.id, kind=payment.kind, conclusion=type(conclusion).__name__)
    await conclude_send(core, claim, attempt.attempt_id, conclusion)


async def _commit_attempt(core: Core, claim: Claim, payment: Payment) -> NewAttempt | None:
    """Commits the attempt and `sending`; None when the payment is stale or no longer ours to send."""
    now = core.clock.now()
    kind = PaymentKind(payment.kind)
    async with core.store.session(claim.organization_id) as session:
        if now - payment.created_at > QUEUE_LIFE[kind]:
            reason = "It waited too long to be sent and was given up; nothing was sent."
            await move(core, session, payment, PaymentEvent.TOO_OLD, source="dispatch", reason=reason)
            return None
        sending = next_status(PaymentStatus.QUEUED, PaymentEvent.ATTEMPT_COMMITTED)
        taken = await session.change(
            update(Payment)
            .where(
                col(Payment.id) == claim.id,
                col(Payment.status) == PaymentStatus.QUEUED,
                col(Payment.fence) == claim.fence,
            )
            # Due again when the lease ends: that is how a crash is noticed.
            .values(status=sending, updated_at=now, next_action_at=now + SEND_LEASE)
        )
        if not taken:
            return None
        record_history(
            session,
            claim.id,
            now,
            event=PaymentEvent.ATTEMPT_COMMITTED,
            before=PaymentStatus.QUEUED,
            after=sending,
            source="dispatch",
        )
        return await add_attempt(
            core,
            session,
            operation=_OPERATIONS[kind],
            environment=Environment(payment.environment),
            payment_id=claim.id,
        )


async def _call(core: Core, payment: Payment, attempt: NewAttempt) -> Conclusion:
    """The HTTP call. Whatever keeps it from being made is a send that did not happen."""
    try:
        shortcode = await open_shortcode(
            core.store, core.keyring, core.settings, payment.organization_id, payment.shortcode_id
        )
        amount = Kes(payment.amount_cents)
        match PaymentKind(payment.kind):
            case PaymentKind.STK_PUSH:
                push = StkPush(
                    shortcode=shortcode.shortcode,
                    party_b=shortcode.party_b,
                    shortcode_type=shortcode.type,
                    passkey=shortcode.require_passkey(),
                    phone=Msisdn(payment.phone),
                    amount=amount,
                    reference=payment.reference,
                    description=payment.description,
                    callback_url=attempt.result_url,
                )
                call = core.daraja.stk_push(shortcode.app, push)
            case PaymentKind.B2C:
                assert payment.originator_conversation_id is not None
                payout = B2cPayment(
                    shortcode=shortcode.shortcode,
                    initiator=shortcode.require_initiator(),
                    originator_conversation_id=payment.originator_conversation_id,
                    purpose=Purpose(payment.purpose),
                    phone=Msisdn(payment.phone),
                    amount=amount,
                    remarks=payment.remarks,
                    occasion=payment.occasion,
                    result_url=attempt.result_url,
                    timeout_url=attempt.timeout_url,
                )
                call = core.daraja.b2c(shortcode.app, payout)
            case PaymentKind.REVERSAL:
                assert payment.reverses_receipt is not None
                reversal = Reversal(
                    shortcode=shortcode.shortcode,
                    initiator=shortcode.require_initiator(),
                    receipt=payment.reverses_receipt,
                    amount=amount,
                    remarks=payment.remarks,
                    result_url=attempt.result_url,
                    timeout_url=attempt.timeout_url,
                )
                call = core.daraja.reversal(shortcode.app, reversal)
            case unreachable:
                assert_never(unreachable)
    except MpesaMcpError as problem:
        return not_prepared(problem)
    return await within_deadline(call)
