"""People of an organization whose ids somebody else tries."""

from datetime import timedelta

from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.identity.invitations import invite
from mpesa_mcp.identity.models import LoginSession, RefreshToken, SupportGrant
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.identity.users import add_user
from mpesa_mcp.payments.core import Core
from mpesa_mcp.values import Role, new_id, sha256_hex


async def store_people(core: Core, organization_id: str, actor: str) -> dict[str, str]:
    """A person with a session, an invitation and a support grant; what names them."""
    now, operator = core.clock.now(), Actor(actor, None)
    password_hash = "$argon2id$nobody signs in"
    async with core.store.session(organization_id) as session:
        user = await add_user(
            session,
            core.clock,
            email="jane@zebra.example",
            role=Role.ORG_ADMIN,
            password_hash=password_hash,
            actor=actor,
            seats=seats_of,
        )
        begun = LoginSession(organization_id=organization_id, id=new_id("ses"), user_id=user.user_id, created_at=now)
        session.add(begun)
        await session.flush()
        grant = SupportGrant(
            organization_id=organization_id,
            id=new_id("sup"),
            reason="zebra needs help",
            given_by=f"user:{user.user_id}",
            given_at=now,
            expires_at=now + timedelta(hours=1),
        )
        session.add(
            grant,
            RefreshToken(
                organization_id=organization_id,
                id=new_id("rft"),
                session_id=begun.id,
                token_sha256=sha256_hex("zebra session"),
                created_at=now,
                expires_at=now,
            ),
        )
    invited = await invite(
        core.store,
        core.clock,
        organization_id=organization_id,
        email="joe@zebra.example",
        role=Role.USER,
        actor=operator,
        seats=seats_of,
    )
    return {
        "a user": user.user_id,
        "an address": user.email,
        "an invitation": invited.record.invitation_id,
        "a support grant": grant.id,
        "an invited address": invited.record.email,
        "the token of an invitation": invited.token.reveal(),
    }
