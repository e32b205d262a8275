"""What Daraja can be asked by: the ids it gave us, and those that callbacks named and nobody confirmed yet."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlmodel import col, select

from mpesa_mcp.payments.hints import hints_of, is_of_phone
from mpesa_mcp.payments.models import Attempt, Hint, Inquiry, Payment
from mpesa_mcp.payments.states import Reply
from mpesa_mcp.store.tenancy import OrganizationSession


@dataclass(frozen=True, slots=True)
class Question:
    """An id Daraja may know the payment under; `is_ours` when its own reply gave it to us.

    `hints` are the unconfirmed callbacks that named it.
    """

    checkout_request_id: str
    attempt_id: str
    is_ours: bool
    hints: Sequence[Hint]


async def questions_about(session: OrganizationSession, payment: Payment) -> Sequence[Question]:
    """The ids to ask about, the attempts' own first; a callback's only if it is of the payment's phone."""
    attempts = await session.all(
        select(Attempt).where(Attempt.payment_id == payment.id).order_by(col(Attempt.id).desc())
    )
    hints = [hint for hint in await hints_of(session, payment.id) if hint.checkout_request_id]

    def naming(checkout_request_id: str) -> list[Hint]:
        return [hint for hint in hints if hint.checkout_request_id == checkout_request_id]

    questions = [
        Question(known, attempt.id, attempt.reply == Reply.ACCEPTED, naming(known))
        for attempt in attempts
        if (known := attempt.checkout_request_id)
    ]
    asked = {question.checkout_request_id for question in questions}
    for hint in hints:
        named = hint.checkout_request_id
        if named and named not in asked and is_of_phone(named, payment.phone):
            asked.add(named)
            questions.append(Question(named, hint.attempt_id, False, naming(named)))
    return questions


async def conversation_to_ask_by(session: OrganizationSession, payment: Payment) -> str | None:
    """A payout's own id, or that of a reversal's acknowledgement, or of what callbacks named the least asked one."""
    if payment.originator_conversation_id is not None:
        return payment.originator_conversation_id
    attempts = await session.all(select(Attempt).where(Attempt.payment_id == payment.id).order_by(col(Attempt.id)))
    if acknowledged := [attempt.conversation_id for attempt in attempts if attempt.conversation_id]:
        return acknowledged[0]
    hinted = [hint.conversation_id for hint in await hints_of(session, payment.id) if hint.conversation_id]
    inquiries = await session.all(select(Inquiry).where(Inquiry.payment_id == payment.id))
    asked = [inquiry.original_conversation_id for inquiry in inquiries]
    return min(hinted, key=asked.count, default=None)


def only_one(values: Iterable[str | None]) -> str | None:
    """The one value that was told; None when there is none, or more than one."""
    told = set(values) - {None}
    return told.pop() if len(told) == 1 else None
