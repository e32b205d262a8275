"""What ends when an organization is closed: every way in. Its records stay, its slug stays taken, nobody reopens it."""

from sqlalchemy import update
from sqlmodel import col

from mpesa_mcp.identity.models import ApiKey, Invitation, LoginSession, SupportGrant, User
from mpesa_mcp.identity.users import access_topic
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock


async def end_access(session: OrganizationSession, clock: Clock) -> dict[str, int]:
    """Revokes keys, sessions, invitations and support grants in the caller's transaction; says how many of each."""
    now = clock.now()
    keys = update(ApiKey).where(col(ApiKey.revoked_at).is_(None)).values(revoked_at=now)
    sessions = update(LoginSession).where(col(LoginSession.ended_at).is_(None)).values(ended_at=now)
    invited = update(Invitation).where(col(Invitation.accepted_at).is_(None), col(Invitation.revoked_at).is_(None))
    granted = update(SupportGrant).where(col(SupportGrant.revoked_at).is_(None), col(SupportGrant.expires_at) > now)
    # No access token of before is good, whatever else is forgotten.
    await session.change(update(User).values(generation=col(User.generation) + 1))
    session.wake(access_topic(session.organization_id))
    return {
        "keys": await session.change(keys),
        "sessions": await session.change(sessions),
        "invitations": await session.change(invited.values(revoked_at=now)),
        "support_grants": await session.change(granted.values(revoked_at=now)),
    }
