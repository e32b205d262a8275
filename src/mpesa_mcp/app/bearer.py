"""Bearer tokens on `/mcp`: the SDK asks whether one is good, and hands what we answer to the tools."""

from dataclasses import asdict

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken

from mpesa_mcp.identity.principal import Principal, Unauthenticated
from mpesa_mcp.payments.core import Core
from mpesa_mcp.settings import Settings
from mpesa_mcp.tools.caller import Caller, CallerSource
from mpesa_mcp.values import Environment, Role

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
            claims={
                "iss": "urn:mpesa-mcp:bearer",
                **asdict(principal),
                "tools": sorted(principal.tools) if principal.tools is not None else None,
            },
        )


def callers_by_token(core: Core) -> CallerSource:
    """Who calls, by the token of the request the call came with."""

    async def caller() -> Caller:
        token = get_access_token()
        if token is None or token.claims is None:
            raise Unauthenticated
        told = {name: value for name, value in token.claims.items() if name != "iss"}
        tools = told.pop("tools")
        role, environment = Role(told.pop("role")), Environment(told.pop("environment"))
        allowed = frozenset(tools) if tools is not None else None
        return Caller(core, Principal(**told, role=role, environment=environment, tools=allowed))

    return caller


def mcp_url(settings: Settings) -> str:
    return f"{settings.reached_at}/mcp"
