"""Hints: what an unsigned callback claims about a payment and nothing of ours has confirmed yet.

A hint settles nothing. It names an id to ask Daraja about, and a receipt to believe once our own question confirmed
the id. A few are kept for each attempt, so that a forged one cannot hide the true one, nor many wear us out.
"""

import re
from collections.abc import Sequence

from sqlalchemy import func
from sqlmodel import col, select

from mpesa_mcp.payments.models import Attempt, Hint
from mpesa_mcp.store.tenancy import OrganizationSession

MAX_HINTS = 3
_PHONE_DIGITS = 9


async def keep_hint(session: OrganizationSession, hint: Hint) -> bool:
    """Keeps the hint unless the same one, or enough others, are there for its attempt; says whether it is new."""
    same = select(Hint.id).where(
        Hint.attempt_id == hint.attempt_id,
        Hint.result_code == hint.result_code,
        Hint.checkout_request_id == hint.checkout_request_id,
        Hint.conversation_id == hint.conversation_id,
        Hint.receipt == hint.receipt,
    )
    there = await session.first(select(func.count()).select_from(Hint).where(Hint.attempt_id == hint.attempt_id))
    if await session.first(same) is not None or (there or 0) >= MAX_HINTS:
        return False
    session.add(hint)
    return True


async def hints_of(session: OrganizationSession, payment_id: str) -> Sequence[Hint]:
    """The hints about a payment, oldest first."""
    return await session.all(select(Hint).where(Hint.payment_id == payment_id).order_by(col(Hint.id)))


async def belongs_elsewhere(session: OrganizationSession, name: str, value: str, *, payment_id: str) -> bool:
    """Whether this id (`name` is its column) is an attempt's, or a hint's, of another payment."""
    attempt = select(Attempt.id).where(
        col(getattr(Attempt, name)) == value,
        col(Attempt.payment_id).is_distinct_from(payment_id),
    )
    hint = select(Hint.id).where(col(getattr(Hint, name)) == value, Hint.payment_id != payment_id)
    return await session.first(attempt) is not None or await session.first(hint) is not None


def is_of_phone(checkout_request_id: str, phone: str) -> bool:
    """Whether a CheckoutRequestID ends with the digits of this phone, as Daraja makes them (quirk 23).

    Only such an id is believed on a callback's word: our question would be answered just as well about another
    customer's prompt.
    """
    return re.sub(r"\D", "", checkout_request_id).endswith(phone[-_PHONE_DIGITS:])
