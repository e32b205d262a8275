"""What a person decides about a payment: which need one, what became of it after all, and that it shall not be sent.

A decision is compared and set like any other change, stands in the history with the person's reason, and is audited
under the person's name. It never silences Safaricom: a contradiction that arrives afterwards makes it disputed again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, or_
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from mpesa_mcp.errors import ConflictError, InputError, NotFoundError
from mpesa_mcp.payments.attempts import has_unread_callback
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.inquiries import OPEN
from mpesa_mcp.payments.models import Attempt, Hint, Inquiry, Payment, PaymentHistory
from mpesa_mcp.payments.outcomes import Change, lock_payment, mark_reversed, move, receipt_is_taken
from mpesa_mcp.payments.reading import NOBODY_KNOWS, payment_record
from mpesa_mcp.payments.records import PaymentRecord
from mpesa_mcp.payments.requests import check_receipt
from mpesa_mcp.payments.states import PaymentEvent, PaymentStatus
from mpesa_mcp.store.tenancy import OrganizationSession

MOST_LISTED = 500
_REASON_CHARACTERS = (2, 200)
_SAID_BY_SAFARICOM = ("callback", "question", "reply", "timeout")
_TWO_ANSWERS = "Safaricom has said both that this succeeded and that it did not; find out which is true."
_LATE_SUCCESS = "A success was reported after this had expired; find out whether money moved."


class NotResolvable(ConflictError):
    """Only a payment whose outcome nobody knows can be decided by a person."""

    code = "not_resolvable"

    def __init__(self, status: PaymentStatus) -> None:
        super().__init__(
            f"Nothing was changed: this payment is {status}. Only one that is unknown or disputed can be resolved."
        )


class StillAsked(ConflictError):
    """Who calls it failed today may pay it again, and see the first succeed tomorrow."""

    code = "still_asked"

    def __init__(self) -> None:
        super().__init__(
            "Nothing was changed: Safaricom is still being asked about this payment and may yet say that it succeeded. "
            "Wait for the last question, a day after it was sent; then `mpesa-mcp payment review` lists it. Who is "
            "certain that nothing moved decides before that with `mpesa-mcp payment resolve ... --now`."
        )


class NotWithdrawable(ConflictError):
    """The payment is not waiting to be sent any more, or was sent before and has been called back about."""

    code = "not_withdrawable"

    def __init__(self, status: PaymentStatus, *, has_left: bool) -> None:
        why = "It has left already" if has_left else "It is not waiting to be sent"
        super().__init__(f"{why}: it is {status}. Nothing was changed.")


class ReceiptTaken(ConflictError):
    """One receipt is one movement, and another payment has this one."""

    code = "receipt_taken"

    def __init__(self) -> None:
        super().__init__("Another payment has this receipt, so it cannot be this one's too. Nothing was changed.")


class ReversedOtherwise(ConflictError):
    """Another reversal of the same receipt is under way or done."""

    code = "reversed_otherwise"

    def __init__(self) -> None:
        super().__init__(
            "Another reversal of the same receipt is under way or done, and a receipt is given back once. "
            "Nothing was changed."
        )


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """One payment that needs a person. `why` is our own sentence, `last_code` the last thing Safaricom said."""

    payment: PaymentRecord
    why: str
    since: datetime
    last_code: str | None


async def payments_to_review(core: Core, organization_id: str) -> Sequence[ReviewItem]:
    """What needs a person, longest waiting first: disputes, and the unknown that nobody asks about any more.

    MOST_LISTED at once, the oldest payments.
    """
    async with core.store.reading(organization_id) as session:
        rows = await session.all(select(Payment).where(needs_a_person()).order_by(col(Payment.id)).limit(MOST_LISTED))
        lines: dict[str, list[PaymentHistory]] = {row.id: [] for row in rows}
        told = select(PaymentHistory).where(col(PaymentHistory.payment_id).in_(list(lines)))
        for line in await session.all(told.order_by(col(PaymentHistory.id))):
            lines[line.payment_id].append(line)
    return sorted((_item(row, lines[row.id]) for row in rows), key=lambda item: item.since)


async def resolve_payment(
    core: Core,
    organization_id: str,
    payment_id: str,
    *,
    succeeded: bool,
    reason: str,
    receipt: str | None,
    actor: str,
    although_asked: bool = False,
) -> PaymentRecord:
    """Settles an unknown or disputed payment as a person found it, in Safaricom's portal or by asking the customer.

    Raises InputError, NotFoundError, NotResolvable, StillAsked (unless `although_asked`), ReceiptTaken and
    ReversedOtherwise; then nothing was changed.
    """
    _check_reason(reason)
    if receipt is not None:
        check_receipt(receipt)
        if not succeeded:
            raise InputError("A payment that failed has no receipt; leave it out.", field="receipt")
    event = PaymentEvent.RESOLVED_SUCCEEDED if succeeded else PaymentEvent.RESOLVED_FAILED
    taken: type[ConflictError] = ReceiptTaken
    try:
        async with core.store.session(organization_id) as session:
            payment = await _locked(session, payment_id)
            status = PaymentStatus(payment.status)
            if status not in {PaymentStatus.UNKNOWN, PaymentStatus.DISPUTED}:
                raise NotResolvable(status)
            if not (succeeded or although_asked) and await _is_still_asked(session, payment):
                raise StillAsked
            if payment.reverses_payment_id is not None:
                taken = ReversedOtherwise
            if receipt is not None and await receipt_is_taken(session, receipt, payment.id):
                raise ReceiptTaken
            # The person has seen them in the history, and has decided what they are worth.
            await session.change(delete(Hint).where(col(Hint.payment_id) == payment.id))
            await move(
                core,
                session,
                payment,
                Change(
                    event,
                    source="person",
                    code=payment.result_code,
                    reason=f"A person decided that this {'succeeded' if succeeded else 'failed'}.",
                    receipt=receipt,
                    actor=actor,
                    note=reason,
                ),
            )
            given_back = select(Payment).where(
                Payment.reverses_payment_id == payment.id, Payment.status == PaymentStatus.SUCCEEDED
            )
            if succeeded and (reversal := await session.first(given_back)):
                await mark_reversed(core, session, reversal)  # its dispute has not undone that
            if not succeeded:
                await _not_given_back(core, session, payment)
            return await _record(session, payment.id)
    except IntegrityError as exists:
        # The database's own word: one receipt for one payment, one reversal for one receipt.
        raise taken from exists


async def _not_given_back(core: Core, session: OrganizationSession, reversal: Payment) -> None:
    """A reversal that failed after all: what it had given back according to Safaricom is for a person, too."""
    received = select(Payment).where(
        Payment.id == reversal.reverses_payment_id, Payment.status == PaymentStatus.REVERSED
    )
    if payment := await session.first(received):
        reason = (
            f"A person decided that {reversal.id}, which had given it back, failed; a person must look at this, too."
        )
        await move(core, session, payment, Change(PaymentEvent.CONTRADICTION, source="person", reason=reason))


async def withdraw_payment(
    core: Core, organization_id: str, payment_id: str, *, reason: str, actor: str
) -> PaymentRecord:
    """Keeps a queued payment from being sent. Raises InputError, NotFoundError, NotWithdrawable.

    Dispatch may take it at the same moment; both compare and set, so it either never leaves or has left.
    """
    _check_reason(reason)
    async with core.store.session(organization_id) as session:
        payment = await _locked(session, payment_id)
        status = PaymentStatus(payment.status)
        if status is PaymentStatus.QUEUED and not await has_unread_callback(session, payment.id):
            status = await move(
                core,
                session,
                payment,
                Change(
                    PaymentEvent.WITHDRAWN,
                    source="person",
                    reason="A person withdrew it before it was sent.",
                    actor=actor,
                    note=reason,
                ),
            )
            if status is PaymentStatus.EXPIRED:
                return await _record(session, payment.id)
        sent = await session.first(select(Attempt.id).where(Attempt.payment_id == payment.id))
        raise NotWithdrawable(status, has_left=sent is not None)


async def _is_still_asked(session: OrganizationSession, payment: Payment) -> bool:
    listed = select(Payment.id).where(Payment.id == payment.id, needs_a_person())
    return await session.first(listed) is None or await has_unread_callback(session, payment.id)


def needs_a_person() -> ColumnElement[bool]:
    """Of a payment in a statement: whether its end is unknown or disputed and nothing of ours will settle it."""
    asked_about = select(Inquiry.payment_id).where(col(Inquiry.payment_id).is_not(None), col(Inquiry.status).in_(OPEN))
    return or_(
        col(Payment.status) == PaymentStatus.DISPUTED,
        and_(
            col(Payment.status) == PaymentStatus.UNKNOWN,
            col(Payment.next_action_at).is_(None),
            col(Payment.id).not_in(asked_about),
        ),
    )


def _item(row: Payment, lines: Sequence[PaymentHistory]) -> ReviewItem:
    status = PaymentStatus(row.status)
    codes = [line.code for line in lines if line.code and line.source in _SAID_BY_SAFARICOM]
    entered = next((line for line in reversed(lines) if line.to_status == status), None)
    since = entered.at if entered else row.updated_at
    if status is PaymentStatus.UNKNOWN:
        why = row.reason or NOBODY_KNOWS
    elif entered and entered.note and entered.event == PaymentEvent.CONTRADICTION:
        why = entered.note  # the history says what it was; other disputes are two answers of Safaricom
    else:
        why = _LATE_SUCCESS if entered and entered.from_status == PaymentStatus.EXPIRED else _TWO_ANSWERS
    return ReviewItem(payment_record(row), why, since, codes[-1] if codes else None)


async def _locked(session: OrganizationSession, payment_id: str) -> Payment:
    wanted = payment_id.strip().lower()
    if await session.get(Payment, wanted) is None:
        raise NotFoundError("payment")
    return await lock_payment(session, wanted)


async def _record(session: OrganizationSession, payment_id: str) -> PaymentRecord:
    row = await session.get(Payment, payment_id)
    assert row is not None
    return payment_record(row)


def _check_reason(reason: str) -> None:
    least, most = _REASON_CHARACTERS
    if len(reason.strip()) < least or len(reason) > most or not reason.isprintable():
        raise InputError(f"reason must be {least} to {most} printable characters on one line.", field="reason")
