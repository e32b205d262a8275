"""What speaks against the ending of a payment that left more than once.

A send that was taken for not sent (the gateway refused its access token, or called it too fast) may have been carried
out all the same, and then there are two. The table of `states` disputes a success after a failure, and the reverse;
here it is found out that a success was of another send. To add a reason for a dispute is to `move` the payment with
CONTRADICTION and a sentence, which `payment review` shows.
"""

from collections.abc import Collection

from sqlalchemy import func
from sqlmodel import select

from mpesa_mcp.daraja.results import SUCCESS
from mpesa_mcp.payments.models import Attempt, Hint, Payment
from mpesa_mcp.payments.states import PaymentStatus, Reply
from mpesa_mcp.store.tenancy import OrganizationSession


async def is_contradicted(session: OrganizationSession, payment: Payment) -> bool:
    """Whether a success that was only a hint speaks against how it ended: nothing moved, or another send's did."""
    status = PaymentStatus(payment.status)
    if not status.nothing_moved and not status.moved:
        return False
    successes = await session.all(select(Hint).where(Hint.payment_id == payment.id, Hint.result_code == SUCCESS))
    if not successes or status.nothing_moved:
        return bool(successes)
    attempts = await session.all(select(Attempt).where(Attempt.payment_id == payment.id))
    receipts = {payment.receipt, *(hint.receipt for hint in successes)} - {None}
    if len(attempts) == 1 or len(receipts) > 1:
        return len(attempts) > 1
    doubtful = {each.id for each in attempts if each.reply != Reply.ACCEPTED}
    known = {value for each in attempts for value in _ids(each)}
    told = [hint for hint in successes if hint.attempt_id in doubtful]
    named = {hint.checkout_request_id or hint.conversation_id for hint in told} - {None}
    return len(named) > 1 or any(_is_of_another(hint, payment, known) for hint in told)


async def is_second_movement(
    session: OrganizationSession, payment: Payment, attempt: Attempt, *, names_our_id: bool
) -> bool:
    """Whether a success with another receipt than the payment's is a second one: it moved, and was sent more than once.

    Told at the address of `attempt`: of one that Daraja accepted, under its id.
    """
    if not PaymentStatus(payment.status).moved or (attempt.reply == Reply.ACCEPTED and not names_our_id):
        return False
    sends = select(func.count()).select_from(Attempt).where(Attempt.payment_id == payment.id)
    return (await session.first(sends) or 0) > 1


async def another_may_move(session: OrganizationSession, payment_id: str, *, named: str) -> bool:
    """Whether an answer about the id `named` ends nothing, since another send may still move money.

    Another is one that Daraja accepted, or may have: the last. For answers to our own questions: a callback alone
    counts only of a send that was accepted. Not for a payment whose sends share an id.
    """
    attempts = await session.all(select(Attempt).where(Attempt.payment_id == payment_id))
    if len(attempts) == 1:
        return False
    hints = await session.all(select(Hint).where(Hint.payment_id == payment_id))
    of_named = {told.attempt_id for told in hints if named in _ids(told)}
    of_named |= {each.id for each in attempts if named in _ids(each)}
    open_ones = (each for each in attempts if each.reply not in {Reply.NOT_SENT, Reply.REFUSED})
    return any(each.id not in of_named for each in open_ones)


def _ids(told: Attempt | Hint) -> Collection[str]:
    ids = (told.checkout_request_id, told.conversation_id, told.merchant_request_id)
    return [value for value in ids if value is not None]


def _is_of_another(hint: Hint, payment: Payment, known: Collection[str]) -> bool:
    """Not where both tell one receipt; else by ids of which Daraja's replies, and our own questions, know none.

    Where none is known at all, a person has settled the payment, unless its sends share an id.
    """
    if hint.receipt is not None and payment.receipt is not None:
        return False
    if not known:
        return not payment.sends_share_an_id
    named = _ids(hint)
    return bool(named) and not any(each in known for each in named)
