"""Signing in with address and password; keeping the session by refresh tokens that are good once.

A refresh token is 256 random bits of which the store has the hash. Each use gives the next one of its session; who
shows one that was used before has a stolen copy, or the thief has: the session ends, and the audit says so.
An ended session's access token is refused from the next request on.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import update
from sqlmodel import col

from mpesa_mcp import audit
from mpesa_mcp.errors import Advice, DeniedError
from mpesa_mcp.identity import access_tokens, console_cookies
from mpesa_mcp.identity.callers import calling_network
from mpesa_mcp.identity.models import PLATFORM, LoginSession, Organization, OrganizationStatus, RefreshToken, User
from mpesa_mcp.identity.passwords import hash_password, is_password, needs_new_hash, require_turn
from mpesa_mcp.identity.sign_in_failures import Tries
from mpesa_mcp.identity.users import access_topic, change_password
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.crossings import find_refresh_token, find_user
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock, Role, Secret, new_id, random_hex, sha256_hex

REFRESH_LIFE: Final = timedelta(days=30)
_TOKEN_BITS: Final = 256


class WrongSignIn(DeniedError):
    """The address or the password is wrong; one text for both."""

    code = "wrong_sign_in"
    http_status = 401

    def __init__(self) -> None:
        super().__init__("The address or the password is wrong.")


class WrongPassword(WrongSignIn):
    """Of one's own, when it is to be changed."""

    code = "wrong_password"
    advice = Advice.FIX_INPUT

    def __init__(self) -> None:
        DeniedError.__init__(self, "current_password is not your password. Nothing was changed.")


class ShutOut(DeniedError):
    """Somebody proved to know the password, and may not sign in. Nobody else is ever told so.

    The code is user_deactivated, organization_suspended or organization_closed.
    """


class SessionEnded(DeniedError):
    """The refresh token is not good, for whatever reason; one text for all."""

    code = "session_ended"
    http_status = 401

    def __init__(self) -> None:
        super().__init__("The session has ended. Sign in again.")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a client is given. `expires_in` is the access token's life in seconds."""

    access_token: Secret
    refresh_token: Secret
    expires_in: int
    role: Role
    organization_id: str


@dataclass(frozen=True, slots=True)
class Sessions:
    """Signs people in and keeps them so."""

    store: Store
    keyring: Keyring
    settings: Settings
    clock: Clock

    async def sign_in(self, email: str, password: Secret) -> SignedIn:
        """Raises TooManyFailures, TooManyPasswords, WrongSignIn, ShutOut."""
        refresh = Secret(random_hex(_TOKEN_BITS))
        user, session_id = await self._begin(email, password, refresh)
        return await self._signed_in(user, session_id, refresh)

    async def sign_in_to_console(self, email: str, password: Secret) -> Secret:
        """The cookie of a new session. Raises TooManyFailures, TooManyPasswords, WrongSignIn, ShutOut."""
        user, session_id = await self._begin(email, password, None)
        return await console_cookies.make_cookie(
            self.keyring,
            self.clock,
            organization_id=user.organization_id,
            user_id=user.id,
            session_id=session_id,
            generation=user.generation,
        )

    async def _begin(self, email: str, password: Secret, refresh: Secret | None) -> tuple[User, str]:
        """A new session of whoever knows the password, and its id."""
        user = await self._proven(email, password)
        new_hash = await hash_password(password) if needs_new_hash(user.password_hash) else user.password_hash
        begun = LoginSession(
            organization_id=user.organization_id, id=new_id("ses"), user_id=user.id, created_at=self.clock.now()
        )
        async with self.store.session(user.organization_id) as session:
            current = await session.lock(User, user.id)
            if current is None or current.generation != user.generation:
                raise WrongSignIn  # changed while the password was looked at
            current.last_sign_in_at, current.password_hash = self.clock.now(), new_hash
            session.add(begun)
            await session.flush()
            if refresh is not None:
                self._add_token(session, begun.id, refresh)
            audit.record(session, self.clock, actor=f"user:{user.id}", action="user.signed_in", subject=user.id)
        return user, begun.id

    async def refresh(self, presented: str) -> SignedIn:
        """The next pair of tokens. Raises SessionEnded; a token that was used before ends its whole session."""
        found = await find_refresh_token(self.store, sha256_hex(presented))
        if found is None:
            raise SessionEnded
        organization_id, token_id = found
        refresh, now = Secret(random_hex(_TOKEN_BITS)), self.clock.now()
        async with self.store.reading(organization_id) as reading:
            is_open = (await _standing(reading)).may_act
        async with self.store.session(organization_id) as session:
            row = await session.lock(RefreshToken, token_id)
            login = await session.get(LoginSession, row.session_id) if row is not None else None
            if row is None or login is None or login.ended_at is not None:
                raise SessionEnded
            user = await session.get(User, login.user_id)
            is_used = row.used_at is not None
            if is_used:
                await self._end(session, login.id)
                detail = {"session": login.id}
                actor, subject = f"user:{login.user_id}", login.user_id
                audit.record(session, self.clock, actor=actor, action="session.reused", subject=subject, detail=detail)
            elif user is None or user.deactivated_at is not None or row.expires_at <= now or not is_open:
                raise SessionEnded
            else:
                row.used_at = now
                self._add_token(session, login.id, refresh)
        if is_used or user is None:
            raise SessionEnded
        return await self._signed_in(user, login.id, refresh)

    async def sign_out(self, presented: str) -> None:
        """Ends the session that a refresh token belongs to; says nothing of whether there was one."""
        found = await find_refresh_token(self.store, sha256_hex(presented))
        if found is None:
            return
        organization_id, token_id = found
        async with self.store.reading(organization_id) as session:
            row = await session.get(RefreshToken, token_id)
        if row is not None:
            await self.end(organization_id, row.session_id)

    async def end(self, organization_id: str, session_id: str) -> None:
        """Signs a session out: its tokens and its cookie are refused from the next request on."""
        async with self.store.session(organization_id) as session:
            login = await session.get(LoginSession, session_id)
            if login is not None and await self._end(session, login.id):
                actor = f"user:{login.user_id}"
                audit.record(session, self.clock, actor=actor, action="user.signed_out", subject=login.user_id)

    async def change_own_password(
        self, organization_id: str, user_id: str, *, session_id: str, current: Secret, new: Secret
    ) -> None:
        """Ends all sessions of the person. Failures close this session's way to it, and nothing else.

        Who has stolen a session can so keep its owner neither from signing in nor from changing the password.
        Raises TooManyFailures, TooManyPasswords, WrongPassword, InputError.
        """
        require_turn()
        await self._tries.count_password(session_id)
        async with self.store.reading(organization_id) as session:
            user = await session.get(User, user_id)
        if user is None or not await is_password(current, user.password_hash):
            await self._note(organization_id, user_id, "user.password_refused")
            raise WrongPassword
        await change_password(
            self.store,
            self.clock,
            organization_id=organization_id,
            user_id=user_id,
            password=new,
            actor=f"user:{user_id}",
        )

    async def _proven(self, email: str, password: Secret) -> User:
        """The user with this address, who knows the password and may sign in.

        Without the password, whether there is one changes neither the answer nor what is done for it: as much is read,
        computed and written. Raises TooManyFailures, TooManyPasswords, WrongSignIn, ShutOut.
        """
        email, network = email.strip().casefold()[:254], calling_network()
        require_turn()
        await self._tries.count_sign_in(email, network)
        found = await find_user(self.store, email)
        user, standing = await self._user(*(found or (PLATFORM, "")))
        is_right = await is_password(password, user.password_hash if user else None)
        if user is None:
            await self._tries.touch(email, network)
            raise WrongSignIn
        refused = _shut_out(user, standing) if is_right else WrongSignIn()
        if refused is not None:
            reasons = refused.code if is_right else None
            await self._note(user.organization_id, user.id, "user.sign_in_failed", reasons=reasons)
            raise refused
        await self._tries.forget(email, network)
        return user

    @property
    def _tries(self) -> Tries:
        return Tries(self.store, self.keyring, self.clock)

    async def _signed_in(self, user: User, session_id: str, refresh: Secret) -> SignedIn:
        access = await access_tokens.issue(
            self.keyring,
            self.settings,
            self.clock,
            organization_id=user.organization_id,
            user_id=user.id,
            session_id=session_id,
            role=user.role,
            generation=user.generation,
        )
        seconds = int(access_tokens.LIFE.total_seconds())
        return SignedIn(access, refresh, seconds, Role(user.role), user.organization_id)

    def _add_token(self, session: OrganizationSession, session_id: str, token: Secret) -> None:
        now = self.clock.now()
        session.add(
            RefreshToken(
                organization_id=session.organization_id,
                id=new_id("rft"),
                session_id=session_id,
                token_sha256=sha256_hex(token.reveal()),
                created_at=now,
                expires_at=now + REFRESH_LIFE,
            )
        )

    async def _end(self, session: OrganizationSession, session_id: str) -> int:
        unended = update(LoginSession).where(col(LoginSession.id) == session_id, col(LoginSession.ended_at).is_(None))
        session.wake(access_topic(session.organization_id))
        return await session.change(unended.values(ended_at=self.clock.now()))

    async def _note(self, organization_id: str, user_id: str, action: str, *, reasons: str | None = None) -> None:
        async with self.store.session(organization_id) as session:
            audit.record(
                session,
                self.clock,
                actor=f"user:{user_id}",
                action=action,
                subject=user_id,
                decision="refused",
                reasons=reasons,
            )

    async def _user(self, organization_id: str, user_id: str) -> tuple[User | None, OrganizationStatus]:
        """The person, and where their organization stands."""
        async with self.store.reading(organization_id) as session:
            return await session.get(User, user_id), await _standing(session)


async def _standing(session: OrganizationSession) -> OrganizationStatus:
    row = await session.get(Organization, session.organization_id)
    if session.organization_id == PLATFORM:
        return OrganizationStatus.ACTIVE  # nobody suspends or closes it
    return OrganizationStatus(row.status) if row is not None else OrganizationStatus.CLOSED


def _shut_out(user: User, standing: OrganizationStatus) -> ShutOut | None:
    """Why somebody who knows the password may not sign in, and whom to ask; None when they may."""
    operator = "Ask whoever runs this platform"
    if standing is OrganizationStatus.CLOSED:
        return ShutOut(f"Your organization is closed. {operator} for its records.", code="organization_closed")
    if not standing.may_act:
        return ShutOut(f"Your organization is suspended. {operator} to activate it.", code="organization_suspended")
    if user.deactivated_at is not None:
        whom = operator if user.organization_id == PLATFORM else "Ask an org_admin of your organization"
        return ShutOut(f"Your account is deactivated. {whom} to activate it.", code="user_deactivated")
    return None
