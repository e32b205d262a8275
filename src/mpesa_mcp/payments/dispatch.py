"""Dispatch: the only code that sends money.

A send is: take the queued row under a lease, commit an attempt with its callback token and the status `sending`, call
Daraja with no transaction open, conclude. A crash between the commit and the conclusion leaves `sending` behind a
lease that runs out, and then the payment is unknown: asked about, never sent again.

While calls of its Daraja app are paused, or its organization is frozen or suspended, a payment makes no attempt. It is
put back as it was, only due later.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import assert_never

import structlog
from sqlalchemy import tuple_, update
from sqlalchemy.sql.dml import ReturningUpdate
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.credentials.opening import OpenShortcode
from mpesa_mcp.credentials.shortcodes import ShortcodeUnavailable
from mpesa_mcp.daraja.circuits import Turn
from mpesa_mcp.daraja.conclusions import Conclusion, Held, Operation
from mpesa_mcp.daraja.operations import B2cPayment, Purpose, Reversal, StkPush
from mpesa_mcp.errors import MpesaMcpError
from mpesa_mcp.payments.attempts import (
    NewAttempt,
    add_attempt,
    has_unread_callback,
    is_called_back,
    not_prepared,
    within_deadline,
    written_down,
)
from mpesa_mcp.payments.batches.brakes import is_let_go, is_stopped, is_tried, room_in
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.held import sendable, void
from mpesa_mcp.payments.history import record_history
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.outcomes import Change, lock_payment, move
from mpesa_mcp.payments.replies import conclude_send
from mpesa_mcp.payments.schedule import LEAVES_WITHIN, SEND_LEASE
from mpesa_mcp.payments.standing import held_organization, lets_leave
from mpesa_mcp.payments.states import PaymentEvent, PaymentKind, PaymentStatus, next_status
from mpesa_mcp.payments.waiting import given_up_at, is_held, others_wait, put_back, wait, wait_in_time
from mpesa_mcp.store.crossings import Claim, DueTable, claim_due
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment, Kes, Msisdn

log = structlog.get_logger(__name__)

# The inbox reads within a moment; after a worker's death, when the callback's lease has ended.
_LOOK_AFTER_CALLBACK = timedelta(seconds=1)
_LOOK_FOR_ROOM = timedelta(milliseconds=500)
_LOOK_WHETHER_LIFTED = timedelta(hours=1)

_OPERATIONS = {
    PaymentKind.STK_PUSH: Operation.STK_PUSH,
    PaymentKind.B2C: Operation.B2C,
    PaymentKind.REVERSAL: Operation.REVERSAL,
}


async def claim_queued(core: Core, limit: int, passing_over: Collection[str] = ()) -> Sequence[Claim]:
    """Takes queued payments that are due, for `send_payment`."""
    return await claim_due(
        core.store,
        DueTable.PAYMENTS,
        statuses=[PaymentStatus.QUEUED],
        now=core.clock.now(),
        lease=SEND_LEASE,
        limit=limit,
        passing_over=passing_over,
    )


async def send_payment(core: Core, claim: Claim) -> None:
    """Sends one claimed payment, at most once; or expires it, or puts it back while its app is paused."""
    organization_id = claim.organization_id
    payment, as_approved = await core.store.together.ask(
        ("read", organization_id), partial(_read, core, organization_id), claim.id
    )
    if not as_approved or core.clock.now() > given_up_at(payment):
        await _give_up(core, claim, as_approved=as_approved)
        return
    try:
        app = (await _shortcode_of(core, payment)).app
    except MpesaMcpError as problem:
        if attempt := await _commit_attempt(core, claim, payment):
            await _conclude(core, claim, payment, attempt, not_prepared(problem))
        return
    async with core.daraja.turn(app, refused_before=payment.not_sent_count) as turn:
        if isinstance(turn, Held):
            await put_back(core, claim, payment, turn)
            return
        attempt = await _commit_attempt(core, claim, payment)
        if attempt is None:
            return
        conclusion = await _call(core, payment, attempt, turn)
    await _conclude(core, claim, payment, attempt, conclusion)


async def _read(core: Core, organization_id: str, payment_ids: Sequence[str]) -> Sequence[tuple[Payment, bool]]:
    """The payments, and whether each is as people have approved it, if they had to.

    Asked of the very values that are sent afterwards, whatever becomes of the row meanwhile.
    """
    async with core.store.reading(organization_id) as session:
        rows = await session.all(select(Payment).where(col(Payment.id).in_(payment_ids)))
        as_approved = await sendable(session, rows)
    found = {row.id: (row, row.id in as_approved) for row in rows}
    return [found[payment_id] for payment_id in payment_ids]  # rows of payments are never deleted


async def _commit_attempt(core: Core, claim: Claim, payment: Payment) -> NewAttempt | None:
    """As `_commit_attempts`, together with what others of the organization want to send at this moment."""
    organization_id = claim.organization_id
    commit = partial(_commit_attempts, core, organization_id)
    return await core.store.together.ask(("attempts", organization_id), commit, (claim, payment))


async def _give_up(core: Core, claim: Claim, *, as_approved: bool) -> None:
    async with core.store.session(claim.organization_id) as session:
        payment = await lock_payment(session, claim.id)
        if await has_unread_callback(session, claim.id):
            await wait(session, core.clock.now() + _LOOK_AFTER_CALLBACK, is_held(claim))
            return
        if not as_approved:
            await void(core, session, payment)
            return
        if payment.fence != claim.fence or await is_stopped(session, payment):
            # To resume its batch lets it go anew, which may have happened since it was found too old.
            await wait(session, None, is_held(claim))
            return
        reason = "It waited too long to be sent and was given up; nothing was sent."
        await move(core, session, payment, Change(PaymentEvent.TOO_OLD, source="dispatch", reason=reason))


async def _conclude(core: Core, claim: Claim, payment: Payment, attempt: NewAttempt, conclusion: Conclusion) -> None:
    log.info("send_concluded", payment_id=payment.id, kind=payment.kind, conclusion=type(conclusion).__name__)
    await written_down(lambda: conclude_send(core, claim, attempt.attempt_id, conclusion))


async def _commit_attempts(
    core: Core, organization_id: str, asked: Sequence[tuple[Claim, Payment]]
) -> Sequence[NewAttempt | None]:
    """Commits attempts and `sending`; None for a payment that is no longer ours, or not to be sent (yet).

    One UPDATE takes all: each that is still as it was claimed, and nobody calls back about, and its batch lets go.
    """
    now = core.clock.now()
    found: dict[Claim, NewAttempt] = {}
    async with core.store.session(organization_id) as session:
        organization = await held_organization(session)
        ready = []
        for claim, payment in asked:
            if lets_leave(organization.status, PaymentKind(payment.kind)):
                ready.append((claim, payment))
                continue
            # The organization is frozen or suspended. No attempt, and no try used up; whoever lifts it makes them due.
            await wait_in_time(session, claim, payment, now + _LOOK_WHETHER_LIFTED)
            await others_wait(core, session, payment, now + _LOOK_WHETHER_LIFTED)
        ready = await _with_room(core, session, ready, now)
        # By fence, too: one whose lease ran out may ask beside the one that took the payment over.
        taken = {(row.id, row.fence) for row in await session.changed(_take(ready, now))} if ready else set()
        for claim, payment in ready:
            if (claim.id, claim.fence) in taken:
                found[claim] = await _add_attempt(core, session, payment, organization.callback_id, now)
                continue
            # Still ours: then its batch was stopped, which makes it due again when it goes on; or a callback must be
            # read first. No attempt, and no try used up.
            stopped = await is_stopped(session, payment)
            await wait(session, None if stopped else now + _LOOK_AFTER_CALLBACK, is_held(claim))
    return [found.get(claim) for claim, _ in asked]


async def _with_room(
    core: Core, session: OrganizationSession, ready: list[tuple[Claim, Payment]], now: datetime
) -> list[tuple[Claim, Payment]]:
    """Those that may leave: of a batch that has paid nobody yet few at a time, and the others look again soon."""
    batches = sorted({payment.batch_id for _, payment in ready if payment.batch_id is not None})
    if not batches:
        return ready
    room = {batch_id: await room_in(session, batch_id) for batch_id in batches}  # in one order, for they are locked
    leaving, full, until = [], dict[str, Payment](), now + _LOOK_FOR_ROOM
    for claim, payment in ready:
        left = room.get(payment.batch_id or "")
        if left is None or payment.batch_id is None or is_tried(payment):
            leaving.append((claim, payment))
        elif left > 0:
            leaving.append((claim, payment))
            room[payment.batch_id] = left - 1
        else:
            full[payment.batch_id] = payment
            await wait_in_time(session, claim, payment, until)
    for batch_id, payment in full.items():
        await others_wait(core, session, payment, until, col(Payment.batch_id) == batch_id)
    return leaving


def _take(ready: Sequence[tuple[Claim, Payment]], now: datetime) -> ReturningUpdate[str, int]:
    sending = next_status(PaymentStatus.QUEUED, PaymentEvent.ATTEMPT_COMMITTED)
    return (
        update(Payment)
        .where(
            col(Payment.status) == PaymentStatus.QUEUED,
            tuple_(col(Payment.id), col(Payment.fence)).in_([(claim.id, claim.fence) for claim, _ in ready]),
            ~is_called_back(col(Payment.id)),
            is_let_go(),
        )
        # Due again when the lease ends: that is how a crash is noticed.
        .values(status=sending, updated_at=now, next_action_at=now + SEND_LEASE)
        .returning(col(Payment.id), col(Payment.fence))
    )


async def _add_attempt(
    core: Core, session: OrganizationSession, payment: Payment, callback_id: str, now: datetime
) -> NewAttempt:
    sending = next_status(PaymentStatus.QUEUED, PaymentEvent.ATTEMPT_COMMITTED)
    record_history(
        session,
        payment.id,
        now,
        event=PaymentEvent.ATTEMPT_COMMITTED,
        before=PaymentStatus.QUEUED,
        after=sending,
        source="dispatch",
    )
    audit.record(session, core.clock, actor="system", action=f"payment.{sending}", subject=payment.id)
    return await add_attempt(
        core,
        session,
        operation=_OPERATIONS[PaymentKind(payment.kind)],
        environment=Environment(payment.environment),
        callback_id=callback_id,
        payment_id=payment.id,
    )


async def _shortcode_of(core: Core, payment: Payment) -> OpenShortcode:
    """Opened, if it is the one that the payment names. Raises NotFoundError, ShortcodeUnavailable, SealBroken."""
    opened = await core.shortcodes.open(payment.organization_id, payment.shortcode_id)
    if (opened.shortcode, opened.environment) != (payment.shortcode, payment.environment):
        raise ShortcodeUnavailable("It would not go through the shortcode it was asked for, so nothing was sent.")
    return opened


async def _call(core: Core, payment: Payment, attempt: NewAttempt, turn: Turn) -> Conclusion:
    """The HTTP call. Whatever keeps it from being made is a send that did not happen.

    One whose process slept does not leave: others have taken it for unknown, or it is too old by now.
    """
    turn.leaves_by = min(attempt.made_at, given_up_at(payment)) + LEAVES_WITHIN
    try:
        # Opened again: its secrets may have been changed while the turn was waited for.
        shortcode = await _shortcode_of(core, payment)
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
                call = core.daraja.stk_push(shortcode.app, push, turn=turn)
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
                call = core.daraja.b2c(shortcode.app, payout, turn=turn)
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
                call = core.daraja.reversal(shortcode.app, reversal, turn=turn)
            case unreachable:
                assert_never(unreachable)
    except MpesaMcpError as problem:
        return not_prepared(problem)
    return await within_deadline(call, turn)
