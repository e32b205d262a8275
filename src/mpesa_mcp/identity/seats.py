"""Seats: how many people an organization may have. How many those are is its plan's matter, in a room above.

Whoever makes or invites people is given a SeatLimit, which is asked in the same transaction that counts: the
organization is held meanwhile, so of two who would take the last seat the second finds none.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime

from sqlalchemy import func
from sqlmodel import col, select

from mpesa_mcp.errors import Advice, ConflictError
from mpesa_mcp.identity.models import PLATFORM, Invitation, User
from mpesa_mcp.identity.organizations import changeable
from mpesa_mcp.store.tenancy import OrganizationSession

# The seats of the session's organization; None is no limit.
SeatLimit = Callable[[OrganizationSession], Awaitable[int | None]]


class NoSeatLeft(ConflictError):
    """The plan has no room for another person. Whoever has a seat keeps it."""

    code = "no_seat_left"
    advice = Advice.ASK_A_PERSON

    def __init__(self, seats: int) -> None:
        super().__init__(
            f"The organization's plan has {seats} seat{'s' if seats != 1 else ''}, and none is free. Deactivate "
            "somebody, or ask the operator of this platform for a plan with more."
        )
        self.seats = seats


async def require_seat(session: OrganizationSession, seats: SeatLimit) -> None:
    """Holds the organization, and a seat for a new user. Raises NoSeatLeft, NotFoundError, OrganizationClosed."""
    await _require(session, seats, also_taken=0)


async def require_seat_to_invite(session: OrganizationSession, seats: SeatLimit, *, email: str, now: datetime) -> None:
    """As `require_seat`, and raises the same; whom others have invited has a seat already."""
    invited = await session.first(
        select(func.count(func.distinct(col(Invitation.email)))).where(
            col(Invitation.email) != email,
            col(Invitation.accepted_at).is_(None),
            col(Invitation.revoked_at).is_(None),
            col(Invitation.expires_at) > now,
        )
    )
    await _require(session, seats, also_taken=invited or 0)


async def _require(session: OrganizationSession, seats: SeatLimit, *, also_taken: int) -> None:
    if session.organization_id == PLATFORM:
        return
    await changeable(session)
    most = await seats(session)
    if most is None:
        return
    people = await session.first(select(func.count(col(User.id))).where(col(User.deactivated_at).is_(None)))
    if (people or 0) + also_taken >= most:
        raise NoSeatLeft(most)
