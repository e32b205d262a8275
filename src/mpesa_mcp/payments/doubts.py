"""What speaks against an ending of a payment that left more than once.

A send that was taken for not sent (the gateway refused its access token, or called it too fast) may have been carried
out all the same, and then there are two.
"""

from collections.abc import Collection

from sqlalchemy import or_
from sqlmodel import col, select

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
    doubtful = {each.id for each in attempts if each.reply == Reply.NOT_SENT}
    known = {value for each in attempts for value in _ids(each)}
    told = [hint for hint in successes if hint.attempt_id in doubtful]
    named = {hint.checkout_request_id or hint.conversation_id for hint in told} - {None}
    return len(named) > 1 or any(_is_of_another(hint, payment.receipt, known) for hint in told)


async def another_may_move(session: OrganizationSession, payment_id: str, *, named: str) -> bool:
    """Whether an answer about the id `named` says nothing of another send, which Daraja accepted or may have."""
    naming = or_(col(Hint.checkout_request_id) == named, col(Hint.conversation_id) == named)
    is_another = select(Attempt.id).where(
        Attempt.payment_id == payment_id,
        or_(col(Attempt.reply).is_(None), col(Attempt.reply).in_((Reply.ACCEPTED, Reply.UNKNOWN))),
        col(Attempt.checkout_request_id).is_distinct_from(named),
        col(Attempt.conversation_id).is_distinct_from(named),
        col(Attempt.id).not_in(select(Hint.attempt_id).where(Hint.payment_id == payment_id, naming)),
    )
    return await session.first(is_another) is not None


def _ids(told: Attempt | Hint) -> Collection[str]:
    ids = (told.checkout_request_id, told.conversation_id, told.merchant_request_id)
    return [value for value in ids if value is not None]


def _is_of_another(hint: Hint, receipt: str | None, known: Collection[str]) -> bool:
    """By the receipt, where both are told; else by ids of which Daraja's replies, and our own questions, know none."""
    if hint.receipt is not None and receipt is not None:
        return hint.receipt != receipt
    named = _ids(hint)
    return bool(named) and bool(known) and not any(each in known for each in named)
