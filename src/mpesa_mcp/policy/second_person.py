"""Whether what allows more needs a second org_admin.

Where there are two it does, and for a day after there were: whoever removed the other one would be free at once to
loosen alone what took two. That day is the other one's, and the operator's, to notice it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import and_, or_
from sqlmodel import col, select

from mpesa_mcp.identity.models import User
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import EAT, Role

STILL_COUNTED: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class SecondPerson:
    """`alone_from`: one org_admin is left, who can make the change alone from then on."""

    is_needed: bool
    alone_from: datetime | None = None

    @property
    def next_step(self) -> str:
        if not self.is_needed:
            return "No second org_admin is needed any more: make the change again, and it is done at once."
        if self.alone_from is None:
            return "Another org_admin confirms it."
        return (
            "Another org_admin was deactivated or given another role less than 24 hours ago, so it needs two people "
            "all the same. Another org_admin confirms it; where there is none, make the change again from "
            f"{self.alone_from.astimezone(EAT):%Y-%m-%d %H:%M:%S} (Nairobi) on, and it is done at once."
        )


async def second_person(session: OrganizationSession, now: datetime) -> SecondPerson:
    """What it takes now that a rule allows more."""
    is_admin = and_(col(User.role) == Role.ORG_ADMIN, col(User.deactivated_at).is_(None))
    was_admin = col(User.admin_until) > now - STILL_COUNTED
    found = await session.all(select(User).where(or_(is_admin, was_admin)))
    gone_at = [user.admin_until for user in found if user.admin_until is not None and not user.is_org_admin]
    if len(found) < 2:
        return SecondPerson(is_needed=False)
    in_charge = len(found) - len(gone_at)
    return SecondPerson(is_needed=True, alone_from=None if in_charge > 1 else max(gone_at) + STILL_COUNTED)
