"""Signing in and out, one's own password, and accepting an invitation."""

from typing import Annotated

from fastapi import APIRouter, status
from pydantic import Field
from starlette.requests import Request

from mpesa_mcp.api.errors import ErrorAnswer
from mpesa_mcp.api.examples import AT, JANE, JANES_ADDRESS, NEXT_DAY, ORGANIZATION, example
from mpesa_mcp.api.permissions import allow, allow_everybody
from mpesa_mcp.api.routes import Call, PermittedRoute, TheCore, bearer_of
from mpesa_mcp.api.shapes import Answer, Body, Email, GivenSecret, Moment
from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.errors import InputError
from mpesa_mcp.identity.invitations import accept_invitation, read_invitation
from mpesa_mcp.identity.sessions import Sessions, SignedIn
from mpesa_mcp.payments.core import Core
from mpesa_mcp.values import Role, Secret

router = APIRouter(prefix="/auth", tags=["sign-in"], route_class=PermittedRoute)

_PHRASE = "correct horse battery staple"


class Login(Body):
    model_config = example(email=JANES_ADDRESS, password=_PHRASE)
    email: Email
    password: GivenSecret


class Refresh(Body):
    model_config = example(refresh_token="6f1d…")
    refresh_token: GivenSecret


class Leaving(Body):
    model_config = example(refresh_token="6f1d…")
    refresh_token: GivenSecret | None = Field(default=None, description="Without it: the bearer's own session.")


# The body may be left out.
_NOT_NAMED = Leaving()


class PasswordChange(Body):
    model_config = example(current_password=_PHRASE, new_password="a longer one, 2027")
    current_password: GivenSecret
    new_password: GivenSecret


class Acceptance(Body):
    model_config = example(token="b71c…", password=_PHRASE)
    token: GivenSecret
    password: GivenSecret


class InvitationToken(Body):
    model_config = example(token="b71c…")
    token: GivenSecret


class Invited(Answer):
    """Whom a token invites, and where to. Times in UTC."""

    model_config = example(organization="Acme Traders", email=JANES_ADDRESS, role="org_admin", expires_at=NEXT_DAY)
    organization: Annotated[str, Field(description="Its name.")]
    email: str
    role: Role
    expires_at: Moment


class Tokens(Answer):
    """`access_token` is good for `expires_in` seconds; `refresh_token` is good once."""

    model_config = example(
        access_token="eyJhbGciOi…",
        refresh_token="6f1d…",
        expires_in=900,
        role="org_admin",
        organization_id=ORGANIZATION,
    )
    access_token: str
    refresh_token: str
    expires_in: Annotated[int, Field(description="Seconds.")]
    role: Role
    organization_id: str


class Person(Answer):
    model_config = example(
        user_id=JANE, organization_id=ORGANIZATION, email=JANES_ADDRESS, role="org_admin", created_at=AT
    )
    user_id: str
    organization_id: str
    email: str
    role: Role
    created_at: Moment


def _sessions(core: Core) -> Sessions:
    return Sessions(core.store, core.keyring, core.settings, core.clock)


def _tokens(signed_in: SignedIn) -> Tokens:
    return Tokens(
        access_token=signed_in.access_token.reveal(),
        refresh_token=signed_in.refresh_token.reveal(),
        expires_in=signed_in.expires_in,
        role=signed_in.role,
        organization_id=signed_in.organization_id,
    )


@router.post(
    "/login",
    responses={403: {"model": ErrorAnswer, "description": "The password is right; who it is may not sign in."}},
)
@allow_everybody()
async def login(core: TheCore, body: Login) -> Tokens:
    """Sign in. Failures slow down, from where they come most of all, whether the address has an account or not."""
    return _tokens(await _sessions(core).sign_in(body.email, Secret(body.password.get_secret_value())))


@router.post("/refresh")
@allow_everybody()
async def refresh(core: TheCore, body: Refresh) -> Tokens:
    """The next pair of tokens. A refresh token that is shown twice ends its session."""
    return _tokens(await _sessions(core).refresh(body.refresh_token.get_secret_value()))


@router.post("/logout", status_code=status.HTTP_204_NO_CONTENT)
@allow_everybody()
async def logout(core: TheCore, request: Request, body: Leaving = _NOT_NAMED) -> None:
    """End the session of a refresh token, or without one that of the access token that the request comes with.

    Its access token is refused from now on. Says nothing of whether a refresh token had a session.
    """
    if body.refresh_token is not None:
        await _sessions(core).sign_out(body.refresh_token.get_secret_value())
        return
    token = bearer_of(request)
    caller = await core.authentication.principal(token) if token is not None else None
    if caller is None or caller.session_id is None:
        raise InputError(
            "Send the session's refresh_token, which signing in gave beside the access token; or no body, and the "
            "access token as the bearer. An API key has no session: it is revoked. Nothing was changed.",
            field="refresh_token",
        )
    await _sessions(core).end(caller.organization_id, caller.session_id)


@router.post("/password", status_code=status.HTTP_204_NO_CONTENT)
@allow(Role.USER, platform=True, person=True)
async def change_password(call: Call, body: PasswordChange) -> None:
    """Change one's own password, which ends all of one's sessions. Five failures close this session's way to it."""
    user_id, session_id = call.principal.user_id, call.principal.session_id
    assert user_id is not None  # a person has one, and the other
    assert session_id is not None
    await _sessions(call.core).change_own_password(
        call.organization_id,
        user_id,
        session_id=session_id,
        current=Secret(body.current_password.get_secret_value()),
        new=Secret(body.new_password.get_secret_value()),
    )


@router.post("/invitations/read")
@allow_everybody()
async def read_one(core: TheCore, body: InvitationToken) -> Invited:
    """Read the invitation that a token is good for, before accepting it. Changes nothing."""
    found, organization = await read_invitation(core.store, core.clock, body.token.get_secret_value())
    return Invited(organization=organization, email=found.email, role=found.role, expires_at=found.expires_at)


@router.post("/invitations/accept", status_code=status.HTTP_201_CREATED)
@allow_everybody()
async def accept(core: TheCore, body: Acceptance) -> Person:
    """Choose a password and become the user an invitation is for. The token is good once, for three days."""
    password = Secret(body.password.get_secret_value())
    token = body.token.get_secret_value()
    made = await accept_invitation(core.store, core.clock, token, password, seats=seats_of)
    return Person.model_validate(made)
