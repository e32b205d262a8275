"""Intake: a request becomes a stored payment, or the payment that is already there. Nothing is sent here.

Everything is one transaction: the caller's right, the idempotency key, the shortcode, what the rules say and what is
reserved under them, the audit entry and the row. Two callers with the same request at the same time get the same
payment: the unique key decides, and the loser reads.
"""

from datetime import datetime, timedelta
from typing import Any, assert_never

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.billing.terms import agreement_of
from mpesa_mcp.credentials.shortcodes import ShortcodeNeed, ShortcodeUse, choose_shortcode, require_shortcode
from mpesa_mcp.errors import Advice, ConflictError, InternalFault, NotFoundError
from mpesa_mcp.identity.principal import NotAllowed, Principal
from mpesa_mcp.payments.batches.models import Batch
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.held import hold_for_approval
from mpesa_mcp.payments.history import record_history
from mpesa_mcp.payments.models import Payment, StkClaim
from mpesa_mcp.payments.reading import payment_record
from mpesa_mcp.payments.records import OpenedPayment
from mpesa_mcp.payments.requests import B2cRequest, PaymentRequest, ReversalRequest, StkPushRequest
from mpesa_mcp.payments.spending import Judgement, begin, judge, take
from mpesa_mcp.payments.standing import require_may_open
from mpesa_mcp.payments.states import NOTHING_MOVED, PaymentKind, PaymentStatus
from mpesa_mcp.payments.usage import count_end
from mpesa_mcp.policy.rules import Outcome
from mpesa_mcp.store.crossings import DueTable
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment, new_id, random_hex, sha256_hex

# How long the same STK push without a key is taken for the same request: two minutes in any case, and while the
# first is not settled, a day at most.
_SAME_IN_ANY_CASE = timedelta(minutes=2)
_SAME_WHILE_OPEN = timedelta(hours=24)
_TRIES = 5


class IdempotencyConflict(ConflictError):
    """The key belongs to another request. `fields` names what differs, never the values."""

    code = "idempotency_conflict"

    def __init__(self, fields: list[str], *, message: str | None = None) -> None:
        super().__init__(
            message
            or f"This idempotency_key was used for another request; these fields differ: {', '.join(fields)}. "
            "Use the same values to read that payment, or a new key for a new payment."
        )
        self.fields = fields


class TooManyAtOnce(ConflictError):
    """Again and again somebody was faster: with this request, or with what the rules leave; or batches queue up."""

    code = "too_many_at_once"
    advice = Advice.WAIT

    def __init__(self) -> None:
        super().__init__(
            "Nothing was stored: others make this same request, spend under the same rules or submit batches just now. "
            "Try again, with the same idempotency_key if the request has one."
        )


class ReversalExists(ConflictError):
    """A reversal of this receipt is under way."""

    code = "reversal_exists"

    def __init__(self, payment_id: str) -> None:
        super().__init__(
            f"This receipt is being reversed already: read {payment_id} with get_payment. Nothing was sent again."
        )
        self.payment_id = payment_id


class NotReversible(NotFoundError):
    """No succeeded incoming payment of this organization and environment has the receipt. One text for every cause."""

    def __init__(self) -> None:
        super().__init__("payment")
        self.message = (
            "No payment that can be reversed has this receipt. Only a collection made here can be, once, and whole; "
            "read the receipt with get_payment to see what it is."
        )


class _Raced(Exception):
    """Another caller was faster; look again."""


async def open_payment(
    core: Core, principal: Principal, request: PaymentRequest, *, confirmed: bool = False
) -> OpenedPayment:
    """Stores the payment as the rules decide: to be sent by dispatch, to be approved by a person, or declined.

    Or finds it, for a request that was made before. `confirmed`: the user said yes to it in the chat.

    Raises NotAllowed, NotSubscribed, IdempotencyConflict, TooManyAtOnce, ReversalExists, NotFoundError,
    ShortcodeUnavailable, CallbacksUnreachable, and what `standing.require_may_open` raises.
    """
    if not principal.may_use(request.tool, request.least_role):
        raise NotAllowed
    clash: IntegrityError | None = None
    for _ in range(_TRIES):
        try:
            async with core.store.session(principal.organization_id) as session:
                return await _open(core, session, principal, request, confirmed=confirmed)
        except _Raced:
            clash = None
        except IntegrityError as same_key:
            clash = same_key
    if clash is not None:  # whoever has the same key is found by the next try: this is another rule of the database
        raise InternalFault("The payment could not be stored; nothing was sent. Try again later.") from clash
    raise TooManyAtOnce


async def _open(
    core: Core, session: OrganizationSession, principal: Principal, request: PaymentRequest, *, confirmed: bool
) -> OpenedPayment:
    now = core.clock.now()
    environment = principal.environment
    claim: StkClaim | None = None
    fingerprint = ""
    # What is to be reversed is held from here on: of two callers the second finds what the first has made of it, its
    # key too.
    received = await _hold_received(session, environment, request) if isinstance(request, ReversalRequest) else None
    if request.idempotency_key is not None:
        stored = await session.first(select(Payment).where(Payment.idempotency_key == request.idempotency_key))
        if stored is not None:
            _require_same(stored, environment, request)
            return OpenedPayment(payment_record(stored), replayed=True)
    else:
        assert isinstance(request, StkPushRequest)
        fingerprint = _fingerprint(environment, request)
        claim = await session.first(select(StkClaim).where(StkClaim.fingerprint == fingerprint))
        if claim is not None and (stored := await _same_push(session, claim, now)) is not None:
            return OpenedPayment(payment_record(stored), replayed=True)

    await require_may_open(session, request.kind)
    if request.idempotency_key is not None:
        await _require_not_of_a_batch(session, request.idempotency_key)
    (await agreement_of(session)).require(request.tool, now)
    payment = await _draft(core, session, principal, request, received, now)
    judgement = await judge(session, principal, request.tool, payment, confirmed=confirmed)
    begin(payment, judgement)
    session.add(payment)
    session.wake(DueTable.PAYMENTS)
    await session.flush()
    if fingerprint:
        await _point_at(session, claim, fingerprint, payment, now)
    if judgement.decision.outcome is Outcome.NEEDS_APPROVAL:
        hold_for_approval(session, core.clock, payment, judgement.decision)
    _tell(core, session, payment, judgement, confirmed=confirmed)
    if not await take(session, judgement, payment):
        raise _Raced
    return OpenedPayment(payment_record(payment), replayed=False)


def _tell(core: Core, session: OrganizationSession, payment: Payment, judgement: Judgement, *, confirmed: bool) -> None:
    """History, audit and usage of a new payment."""
    decision, status = judgement.decision, PaymentStatus(payment.status)
    record_history(
        session,
        payment.id,
        payment.created_at,
        event=judgement.event,
        after=status,
        source="intake",
        code=payment.result_code,
        note=decision.said,
    )
    audit.record(
        session,
        core.clock,
        actor=payment.created_by,
        action="payment.opened",
        subject=payment.id,
        decision="refused" if status is PaymentStatus.DECLINED else "done",
        reasons=", ".join(f"{reason.scope} {reason.code}" for reason in decision.reasons) or None,
        detail=_detail(status, confirmed=confirmed),
    )
    if status.is_settled:
        count_end(session, payment, status)


def _detail(status: PaymentStatus, *, confirmed: bool) -> dict[str, audit.Plain] | None:
    told: dict[str, audit.Plain] = {} if status is PaymentStatus.QUEUED else {"status": status}
    return (told | {"confirmed_in_chat": True} if confirmed else told) or None


async def _draft(
    core: Core,
    session: OrganizationSession,
    principal: Principal,
    request: PaymentRequest,
    received: Payment | None,
    now: datetime,
) -> Payment:
    """The row of a new payment, neither judged nor added yet: which shortcode, whose phone, how much."""
    environment = principal.environment
    match request:
        case StkPushRequest():
            shortcode = await choose_shortcode(session, environment=environment, use=ShortcodeUse.STK_PUSH)
            added: dict[str, Any] = {}
        case B2cRequest():
            core.require_callbacks(environment)
            shortcode = await choose_shortcode(session, environment=environment, use=ShortcodeUse.B2C)
            # One id for the payment, reused by every attempt: Daraja itself refuses a second (quirk 26).
            added = {"originator_conversation_id": random_hex(128)}
        case ReversalRequest():
            core.require_callbacks(environment)
            received = await _require_reversible(session, received)
            shortcode = await require_shortcode(session, received.shortcode_id, need=ShortcodeNeed.INITIATOR)
            added = {
                "phone": received.phone,
                "amount_cents": received.amount_cents,
                "reference": received.reference,
                "reverses_payment_id": received.id,
            }
        case _:
            assert_never(request)
    return Payment(
        organization_id=principal.organization_id,
        id=new_id("pay"),
        kind=request.kind,
        environment=environment,
        shortcode_id=shortcode.shortcode_id,
        shortcode=shortcode.shortcode,
        idempotency_key=request.idempotency_key,
        created_by=principal.actor,
        created_at=now,
        updated_at=now,
        **request.columns(),
        **added,
    )


async def _hold_received(
    session: OrganizationSession, environment: Environment, request: ReversalRequest
) -> Payment | None:
    """The incoming payment with this receipt, locked."""
    named = await session.first(
        select(Payment.id).where(
            Payment.receipt == request.receipt, Payment.kind == PaymentKind.STK_PUSH, Payment.environment == environment
        )
    )
    return await session.lock(Payment, named) if named is not None else None


async def _require_reversible(session: OrganizationSession, received: Payment | None) -> Payment:
    """The succeeded incoming payment that nobody is reversing; any other is not found."""
    if received is None or PaymentStatus(received.status) is not PaymentStatus.SUCCEEDED:
        raise NotReversible
    under_way = await session.first(
        select(Payment.id).where(
            Payment.reverses_payment_id == received.id,
            col(Payment.status).not_in(NOTHING_MOVED),
        )
    )
    if under_way is not None:
        raise ReversalExists(under_way)
    return received


async def _same_push(session: OrganizationSession, claim: StkClaim, now: datetime) -> Payment | None:
    """The payment that a push without a key repeats, if it still counts as the same request."""
    payment = await session.get(Payment, claim.payment_id)
    assert payment is not None  # a foreign key says so
    age = now - claim.claimed_at
    settled = PaymentStatus(payment.status).is_settled
    return payment if age < _SAME_IN_ANY_CASE or (not settled and age < _SAME_WHILE_OPEN) else None


async def _point_at(
    session: OrganizationSession, claim: StkClaim | None, fingerprint: str, payment: Payment, now: datetime
) -> None:
    """Makes the new payment the one that repeats of this request find; raises _Raced if somebody else did."""
    if claim is None:
        won = await session.insert_if_absent(StkClaim, fingerprint=fingerprint, payment_id=payment.id, claimed_at=now)
    else:
        repointed = update(StkClaim).where(
            col(StkClaim.fingerprint) == fingerprint, col(StkClaim.payment_id) == claim.payment_id
        )
        won = await session.change(repointed.values(payment_id=payment.id, claimed_at=now)) == 1
    if not won:
        raise _Raced


def _fingerprint(environment: Environment, request: StkPushRequest) -> str:
    return sha256_hex("|".join((environment, request.phone.digits, str(request.amount.cents), request.reference)))


def _require_same(stored: Payment, environment: Environment, request: PaymentRequest) -> None:
    """Raises IdempotencyConflict unless the stored payment is what is asked for now, field by field."""
    if request.kind != stored.kind:
        raise IdempotencyConflict(["kind"])  # another kind has no field in common worth naming
    asked = request.columns() | {"environment": environment}
    differing = [column for column, value in asked.items() if getattr(stored, column) != value]
    if differing:
        raise IdempotencyConflict([_argument(request, column) for column in differing])


async def _require_not_of_a_batch(session: OrganizationSession, key: str) -> None:
    """Raises IdempotencyConflict. The caller holds the organization, which whoever stores a batch has alone."""
    if await session.first(select(Batch.id).where(Batch.idempotency_key == key)) is not None:
        raise IdempotencyConflict(["kind"])


def _argument(request: PaymentRequest, column: str) -> str:
    """What the caller calls the column."""
    if column == "remarks" and isinstance(request, ReversalRequest):
        return "reason"
    return {"amount_cents": "amount", "reverses_receipt": "receipt"}.get(column, column)
