"""Where an account comes from: who let a person in, and when. Shown beside what that person decided.

Two accounts may be one human being's: nothing here can tell, so it says what helps others to notice.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import col, select

from mpesa_mcp.identity.models import Invitation, User
from mpesa_mcp.identity.named import names_of
from mpesa_mcp.store.tenancy import OrganizationSession

_BY_INVITATION = "invitation:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """When an account was made and by whom: `made_by` is who invited, where somebody was. Times in UTC.

    `maker` is what people call that one; `in_role_since` when the role became what it is.
    """

    made_at: datetime
    made_by: str
    maker: str
    in_role_since: datetime

    @property
    def for_audit(self) -> dict[str, str]:
        """What an audit entry tells of it, as it was when it was written."""
        return {
            "account_made_at": self.made_at.isoformat(timespec="seconds"),
            "account_made_by": self.made_by,
            "in_role_since": self.in_role_since.isoformat(timespec="seconds"),
        }


async def origins_of(session: OrganizationSession, user_ids: Collection[str]) -> Mapping[str, Origin]:
    """Of these people, by their ids."""
    if not user_ids:
        return {}
    users = await session.all(select(User).where(col(User.id).in_(user_ids)))
    invited = [user.created_by.removeprefix(_BY_INVITATION) for user in users]
    rows = await session.all(select(Invitation).where(col(Invitation.id).in_(invited)))
    inviters = {f"{_BY_INVITATION}{row.id}": row.created_by for row in rows}
    made_by = {user.id: inviters.get(user.created_by, user.created_by) for user in users}
    names = await names_of(session, made_by.values())
    return {
        user.id: Origin(
            made_at=user.created_at,
            made_by=made_by[user.id],
            maker=names[made_by[user.id]],
            in_role_since=user.role_changed_at or user.created_at,
        )
        for user in users
    }
