"""The inbox: takes stored callbacks and hands what they say to the payments as evidence, each judged by itself.

The path's token selects the attempt; everything else in the body is checked against it. What cannot be read, or does
not agree, changes nothing and is noted. What agrees but cannot be relied on alone (an id we never got from Daraja, a
success without amount or receipt, before our own reply or of much money) becomes a hint, and our own question decides.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog
from sqlalchemy import func, update
from sqlmodel import col, select

from mpesa_mcp.callbacks.answers import answer_of
from mpesa_mcp.callbacks.matching import IDS
from mpesa_mcp.callbacks.models import UNAPPLIED, Callback, CallbackStatus, Channel
from mpesa_mcp.callbacks.statements import Statement, read_statement
from mpesa_mcp.callbacks.usual import apply_usual
from mpesa_mcp.callbacks.weight import is_evidence, must_be_confirmed
from mpesa_mcp.daraja.codes import Verdict
from mpesa_mcp.daraja.results import Malformed, read_timeout
from mpesa_mcp.identity.organizations import get_organization
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.doubts import is_second_movement
from mpesa_mcp.payments.hints import Kept, belongs_elsewhere, keep_hint
from mpesa_mcp.payments.history import record_no_change
from mpesa_mcp.payments.models import Attempt, Hint, Payment, PaymentHistory
from mpesa_mcp.payments.outcomes import (
    Change,
    Evidence,
    apply_evidence,
    dispute_if_contradicted,
    lock_payment,
    move,
    receipt_is_taken,
)
from mpesa_mcp.payments.reconciliation import ask_now
from mpesa_mcp.payments.states import PaymentEvent, PaymentStatus
from mpesa_mcp.store.crossings import Claim, DueTable, claim_due
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment, Kes, new_id

log = structlog.get_logger(__name__)

_LEASE = timedelta(seconds=30)
_REPLY_LOOK_AFTER = timedelta(milliseconds=200)
# A callback for whose hint there is no room yet is read again, so that no flood of others hides it for good.
_ROOM_LOOK_EVERY = timedelta(seconds=20)
_NO_ROOM_FOR = timedelta(hours=24)


async def claim_stored(core: Core, limit: int, passing_over: Collection[str] = ()) -> Sequence[Claim]:
    """Takes callbacks nobody has applied yet, oldest first, for `apply_callback`."""
    return await claim_due(
        core.store,
        DueTable.CALLBACKS,
        statuses=UNAPPLIED,
        now=core.clock.now(),
        lease=_LEASE,
        limit=limit,
        passing_over=passing_over,
    )


async def apply_callback(core: Core, claim: Claim) -> None:
    """Applies one callback, together with others of the organization that are being applied at this moment."""
    organization_id = claim.organization_id
    apply = partial(_apply_callbacks, core, organization_id)
    if refused := await core.store.together.ask(("callbacks", organization_id), apply, claim):
        log.warning("callback_refused", callback_id=claim.id, status=refused.status, note=refused.note)


@dataclass(frozen=True, slots=True)
class _Refused:
    """A callback that could not be read, or speaks of something else."""

    status: CallbackStatus
    note: str | None


async def _apply_callbacks(core: Core, organization_id: str, claims: Sequence[Claim]) -> Sequence[_Refused | None]:
    """What the callbacks change and that they were applied are one commit."""
    refused: list[_Refused | None] = []
    async with core.store.session(organization_id) as session:
        confirm_payouts_from = (await get_organization(session)).confirm_payouts_from
        usual = await apply_usual(core, session, claims, confirm_payouts_from)
        for claim in claims:
            usually = claim.id in usual
            refused.append(None if usually else await _apply_callback(core, session, claim, confirm_payouts_from))
    return refused


async def _apply_callback(
    core: Core, session: OrganizationSession, claim: Claim, confirm_payouts_from: Kes
) -> _Refused | None:
    now = core.clock.now()
    callback = await session.lock(Callback, claim.id)
    if callback is None:
        return None  # it waited for room, and made room for another
    if callback.fence != claim.fence or callback.status not in UNAPPLIED:
        return None
    attempt = await session.get(Attempt, callback.attempt_id)
    assert attempt is not None
    if attempt.replied_at is None and attempt.in_flight_until > now:
        # It overtook our own reply (quirk 3): first the reply, or the end of the lease, then the callback.
        # Most replies come within a second; after a death there is none, and each look is a write.
        wait = max(_REPLY_LOOK_AFTER, (now - callback.received_at) / 2)
        await _set(session, callback, next_action_at=min(now + wait, attempt.in_flight_until))
        return None
    status, note = await _apply(core, session, callback, attempt, confirm_payouts_from)
    if status in UNAPPLIED:
        await _set(session, callback, status=status, next_action_at=now + _ROOM_LOOK_EVERY)
        return None
    await _set(session, callback, status=status, note=note, applied_at=now, next_action_at=None)
    return _Refused(status, note) if status in {CallbackStatus.MALFORMED, CallbackStatus.MISMATCHED} else None


async def _apply(
    core: Core, session: OrganizationSession, callback: Callback, attempt: Attempt, confirm_payouts_from: Kes
) -> tuple[CallbackStatus, str | None]:
    if attempt.payment_id is None:
        return await answer_of(core, session, callback, attempt)
    payment = await lock_payment(session, attempt.payment_id)
    if PaymentStatus(payment.status) in {PaymentStatus.QUEUED, PaymentStatus.SENDING}:
        payment = await _hold(core, session, payment)
    if Channel(callback.channel) is Channel.TIMEOUT:
        # Whatever its shape (quirk 28), it says only that nobody knows.
        await _apply_timeout(core, session, payment)
        return CallbackStatus.APPLIED, f"a queue timeout: {read_timeout(callback.body.encode())}"
    now = core.clock.now()
    if PaymentStatus(payment.status).is_settled and await _was_there_when_decided(session, payment, callback):
        note = "came again, as it was when a person decided"
        await record_no_change(session, payment.id, now, event="callback_repeated", source="callback", note=note)
        return CallbackStatus.APPLIED, note
    try:
        said = read_statement(payment, attempt, callback.body.encode())
    except Malformed as malformed:
        refusal = str(malformed)
        await record_no_change(session, payment.id, now, event="callback_malformed", source="callback", note=refusal)
        return CallbackStatus.MALFORMED, refusal
    taken = await _taken_elsewhere(session, payment, attempt, said)
    if disagreements := [*said.disagreements, *taken]:
        note = f"disagrees in: {', '.join(disagreements)}"
        await record_no_change(session, payment.id, now, event="callback_mismatch", source="callback", note=note)
        if why := await _contradiction(session, payment, attempt, said, taken):
            await move(core, session, payment, Change(PaymentEvent.CONTRADICTION, source="callback", reason=why))
        return CallbackStatus.MISMATCHED, note
    if is_evidence(said) and not must_be_confirmed(payment, attempt, callback, said, confirm_payouts_from):
        await apply_evidence(core, session, payment.id, said.as_evidence)
        return CallbackStatus.APPLIED, None
    if why := await _contradiction(session, payment, attempt, said, taken):
        await move(core, session, payment, Change(PaymentEvent.CONTRADICTION, source="callback", reason=why))
        return CallbackStatus.UNCONFIRMED, "contradicts what was concluded"
    if not await _keep(core, session, payment, attempt, said) and now - callback.received_at < _NO_ROOM_FOR:
        # What waits makes room for newcomers; what repeats an id of Daraja's does not, and stays as it came.
        return CallbackStatus.STORED if said.names_our_id else CallbackStatus.WAITING, None
    return CallbackStatus.UNCONFIRMED, None


_BEING_CONFIRMED = "A success was reported; our own question to Safaricom must confirm it before it counts."
_CONTRADICTED = (
    "Safaricom reported a success after this had ended without one; which of the two is true a person must find out."
)


_SECOND_MOVEMENT = "Safaricom reported a second movement: a send that was taken for not sent was carried out after all."


async def _contradiction(
    session: OrganizationSession, payment: Payment, attempt: Attempt, said: Statement, taken: list[str]
) -> str | None:
    """Why a success that cannot be believed, or not alone, still contradicts how the payment ended; None if not.

    One that differs in ids or receipt is too little to settle by, and too much to call paying again safe.
    """
    if said.meaning.verdict is not Verdict.SUCCEEDED or "receipt" in taken:
        return None
    differs = {*said.disagreements, *taken}
    if PaymentStatus(payment.status).nothing_moved and differs <= {*IDS, "receipt"}:
        return _CONTRADICTED
    if differs == {"receipt"} and await is_second_movement(session, payment, attempt, names_our_id=said.names_our_id):
        return _SECOND_MOVEMENT
    return None


async def _hold(core: Core, session: OrganizationSession, payment: Payment) -> Payment:
    """Somebody knows the path of a send that was taken for not sent, or whose answer never came: no other may follow.

    Whatever the body says, even when it cannot be read: only who got the request knows where to post it.
    """
    reason = "Safaricom called back about a send that was not known to have reached it; it is being asked about."
    now = core.clock.now()
    await move(
        core, session, payment, Change(PaymentEvent.UNCLEAR, source="callback", reason=reason, next_action_at=now)
    )
    held = await session.get(Payment, payment.id)
    assert held is not None
    return held


async def _was_there_when_decided(session: OrganizationSession, payment: Payment, callback: Callback) -> bool:
    """Whether a person decided about a dispute when this very body was there: it brings nothing they did not see."""
    decided = select(func.max(PaymentHistory.at)).where(
        PaymentHistory.payment_id == payment.id,
        PaymentHistory.from_status == PaymentStatus.DISPUTED,
    )
    seen = select(Callback.id).where(
        Callback.attempt_id == callback.attempt_id,
        Callback.channel == callback.channel,
        Callback.body == callback.body,
        col(Callback.applied_at) <= decided.scalar_subquery(),
    )
    return await session.first(seen) is not None


async def _apply_timeout(core: Core, session: OrganizationSession, payment: Payment) -> None:
    reason = "Safaricom's queue timed out, so it is not known whether this was carried out; it is being asked about."
    evidence = Evidence(verdict=Verdict.UNKNOWN, source="timeout", code="queue_timeout", reason=reason)
    await apply_evidence(core, session, payment.id, evidence)


async def _taken_elsewhere(
    session: OrganizationSession, payment: Payment, attempt: Attempt, said: Statement
) -> list[str]:
    """Ids and receipts in the body that belong to another payment: a replay, or a forgery put together from parts."""
    taken = []
    if said.receipt and await receipt_is_taken(session, said.receipt, payment.id):
        taken.append("receipt")
    for name in IDS:
        value = getattr(said, name)
        if value is None or value == getattr(attempt, name):
            continue  # what Daraja's own reply gave us, nobody's hint outranks
        if await belongs_elsewhere(session, name, value, payment_id=payment.id):
            taken.append(name)
    return taken


async def _keep(core: Core, session: OrganizationSession, payment: Payment, attempt: Attempt, said: Statement) -> bool:
    """Keeps what cannot be relied on alone, and has the payment asked about at once.

    False when it must be read again later, because others have not made room yet.
    """
    now = core.clock.now()
    succeeded = said.meaning.verdict is Verdict.SUCCEEDED
    hint = Hint(
        organization_id=session.organization_id,
        id=new_id("hnt"),
        payment_id=payment.id,
        attempt_id=attempt.id,
        result_code=said.code,
        merchant_request_id=said.merchant_request_id,
        # A success that does not say what moved is no reason to ask about a prompt that is not known to be ours.
        checkout_request_id=said.checkout_request_id
        if not succeeded or said.is_complete or said.names_our_id
        else None,
        conversation_id=said.conversation_id,
        receipt=said.receipt,
        untrusted_text=said.untrusted_text,
        received_at=now,
    )
    kept = await keep_hint(session, hint, speed=core.reconcile_speed(Environment(payment.environment)))
    if kept is Kept.NEW:
        note = "kept until our own question confirms it"
        await record_no_change(
            session, payment.id, now, event="callback_unconfirmed", source="callback", code=said.code, note=note
        )
        await session.flush()
        await dispute_if_contradicted(core, session, payment.id)
    if kept in {Kept.NEW, Kept.ROOM_SOON}:
        await ask_now(core, session, payment, reason=_BEING_CONFIRMED if succeeded and said.is_complete else None)
    return kept in {Kept.NEW, Kept.KNOWN} or PaymentStatus(payment.status).is_settled


async def _set(session: OrganizationSession, callback: Callback, **values: object) -> None:
    await session.change(
        update(Callback)
        .where(col(Callback.id) == callback.id, col(Callback.fence) == callback.fence)
        .values(lease_until=None, **values)
    )
