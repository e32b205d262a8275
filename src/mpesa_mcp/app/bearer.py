"""Bearer tokens on `/mcp`: the SDK asks whether one is good, and hands what we answer to the tools."""

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken

from mpesa_mcp.identity.principal import Principal, Unauthenticated
from mpesa_mcp.payments.core import Core
from mpesa_mcp.settings import Settings
from mpesa_mcp.tools.caller import Caller, CallerSource

SCOPE = "mcp"


class BearerVerifier:
    """Turns an API key or a person's token into the SDK's AccessToken; the principal travels in its claims."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def verify_token(self, token: str) -> AccessToken | None:
        try:
            principal = await self._core.authentication.principal_on_mcp(token)
        except Unauthenticated:
            return None
        return AccessToken(
            token="redacted",  # noqa: S106 - the SDK wants a text; the key itself goes no further
            client_id=principal.actor,
            scopes=[SCOPE],
            resource=mcp_url(self._core.settings),
            subject=f"org:{principal.organization_id}",
            claims={"iss": "urn:mpesa-mcp:bearer", "principal": principal},
        )


def principal_of(token: AccessToken | None) -> Principal:
    """Whom a token of `BearerVerifier` stands for. Raises Unauthenticated."""
    if token is None or token.claims is None:
        raise Unauthenticated
    principal: Principal = token.claims["principal"]
    return principal


def callers_by_token(core: Core) -> CallerSource:
    """Who calls, by the token of the request the call came with."""

    async def caller() -> Caller:
        return Caller(core, principal_of(get_access_token()))

    return caller


def mcp_url(settings: Settings) -> str:
    return f"{settings.reached_at}/mcp"
