"""What speaks against an ending of a payment that left more than once.

A send that was taken for not sent may have been carried out all the same, and an attempt whose access token was refused
stands for two requests (`Attempt.sent_twice`), of which Daraja's reply names the second.
"""

from collections.abc import Collection

from sqlalchemy import and_, or_
from sqlmodel import col, select

from mpesa_mcp.daraja.results import SUCCESS
from mpesa_mcp.payments.models import Attempt, Hint, Payment
from mpesa_mcp.payments.states import PaymentStatus, Reply
from mpesa_mcp.store.tenancy import OrganizationSession


async def is_contradicted(session: OrganizationSession, payment: Payment) -> bool:
    """Whether a success that was only a hint speaks against how it ended: nothing moved, or another request's did."""
    status = PaymentStatus(payment.status)
    if not status.nothing_moved and status is not PaymentStatus.SUCCEEDED:
        return False
    successes = await session.all(select(Hint).where(Hint.payment_id == payment.id, Hint.result_code == SUCCESS))
    if not successes or status.nothing_moved:
        return bool(successes)
    attempts = await session.all(select(Attempt).where(Attempt.payment_id == payment.id))
    doubtful = {each.id for each in attempts if each.sent_twice or each.reply == Reply.NOT_SENT}
    known = {value for each in attempts for value in _ids(each)}
    told = [hint for hint in successes if hint.attempt_id in doubtful]
    named = {hint.checkout_request_id or hint.conversation_id for hint in told} - {None}
    return len(named) > 1 or any(_is_of_another(hint, payment.receipt, known) for hint in told)


async def another_may_move(session: OrganizationSession, payment_id: str, *, about: str | None = None) -> bool:
    """Whether a failure (of the prompt `about`, if it is of one) says nothing of another request that may move money.

    Another is one that Daraja accepted under another id, or the second of two whose reply was not an acceptance.
    """
    is_second = and_(col(Attempt.sent_twice), col(Attempt.reply) != Reply.ACCEPTED)
    is_another = and_(col(Attempt.reply) == Reply.ACCEPTED, col(Attempt.checkout_request_id) != about)
    doubtful = is_second if about is None else or_(is_second, is_another)
    return await session.first(select(Attempt.id).where(Attempt.payment_id == payment_id, doubtful)) is not None


def _ids(told: Attempt | Hint) -> Collection[str]:
    ids = (told.checkout_request_id, told.conversation_id, told.merchant_request_id)
    return [value for value in ids if value is not None]


def _is_of_another(hint: Hint, receipt: str | None, known: Collection[str]) -> bool:
    """By the receipt, where both are told; else by ids of which Daraja's replies, and our own questions, know none."""
    if hint.receipt is not None and receipt is not None:
        return hint.receipt != receipt
    named = _ids(hint)
    return bool(named) and bool(known) and not any(each in known for each in named)
