"""Hints: what an unsigned callback claims about a payment and nothing of ours has confirmed yet.

A hint settles nothing. It names an id to ask Daraja about, and a receipt to believe once our own question confirmed
the id. A few are kept for each attempt, so that many cannot wear us out. Nor can they hide the true one: a hint that
our question did not confirm in its time makes room, and until then the next callback waits to be read.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import delete, update
from sqlmodel import col, select

from mpesa_mcp.daraja.results import SUCCESS
from mpesa_mcp.payments.models import Attempt, Hint
from mpesa_mcp.store.tenancy import OrganizationSession

MAX_HINTS = 3
# How long a hint keeps its place: longer than a customer decides, and than Daraja needs to know a prompt (quirk 12).
HINT_TENURE = timedelta(minutes=3)
_PHONE_DIGITS = 9


class Kept(StrEnum):
    """What became of a hint. There is room soon when another is due to be asked about for the last time."""

    NEW = "new"
    KNOWN = "known"
    NO_ROOM = "no room"
    ROOM_SOON = "room soon"


async def keep_hint(session: OrganizationSession, hint: Hint, *, speed: float) -> Kept:
    """Keeps the hint, unless the same one is there, or too many others that may still prove true."""
    others = await session.all(
        select(Hint).where(Hint.attempt_id == hint.attempt_id).order_by(col(Hint.answered_at), col(Hint.id))
    )
    if any(_claims(other) == _claims(hint) for other in others):
        return Kept.KNOWN
    if len(others) >= MAX_HINTS:
        done = next((other for other in others if _had_its_time(other, speed)), None)
        if done is None and hint.result_code == SUCCESS:
            # Failures only name ids to ask by: none of them keeps a success from being known.
            done = next((other for other in others if other.result_code != SUCCESS), None)
        if done is None:
            answered = [other for other in others if other.answered_at is not None]
            due = any(deserves_an_answer(other, hint.received_at, speed) for other in answered)
            return Kept.ROOM_SOON if due else Kept.NO_ROOM
        await session.change(delete(Hint).where(col(Hint.id) == done.id))
    session.add(hint)
    return Kept.NEW


def deserves_an_answer(hint: Hint, now: datetime, speed: float) -> bool:
    """Whether the hint was not asked about yet, or only so early that Daraja may not have known the prompt."""
    if hint.answered_at is None:
        return True
    return not _had_its_time(hint, speed) and now >= hint.received_at + HINT_TENURE / speed


async def mark_answered(session: OrganizationSession, hints: Sequence[Hint], now: datetime) -> None:
    """Notes that Safaricom answered our question about these and confirmed none."""
    await session.change(update(Hint).where(col(Hint.id).in_([hint.id for hint in hints])).values(answered_at=now))


def _had_its_time(hint: Hint, speed: float) -> bool:
    return hint.answered_at is not None and hint.answered_at >= hint.received_at + HINT_TENURE / speed


def _claims(hint: Hint) -> tuple[str | None, ...]:
    ids = hint.merchant_request_id, hint.checkout_request_id, hint.conversation_id
    return hint.result_code, *ids, hint.receipt


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
