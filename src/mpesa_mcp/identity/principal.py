"""Who is asking: the Principal made from a credential, never from an argument.

Loaded before the MCP handshake, so nothing here imports a database library.
"""

from dataclasses import dataclass

from mpesa_mcp.errors import Advice, DeniedError
from mpesa_mcp.values import Environment, Role


class NotAllowed(DeniedError):
    """The caller is known, and may not do this."""

    code = "not_allowed"

    def __init__(
        self, message: str = "This key may not do that. Ask a person who administers the organization."
    ) -> None:
        super().__init__(message)


class Unauthenticated(DeniedError):
    """The credential is not good. One message for every cause, so that nobody learns which part was right."""

    code = "unauthenticated"
    http_status = 401
    advice = Advice.ASK_A_PERSON

    def __init__(self) -> None:
        super().__init__(
            "The API key or token is missing, wrong, expired or revoked, or its organization is suspended. An access "
            "token is good for 15 minutes: refresh it, or sign in again. For a new key ask a person."
        )


@dataclass(frozen=True, slots=True)
class Actor:
    """Who administers: `name` is what the audit says; `role` is None for the operator of the machine, who may all."""

    name: str
    role: Role | None
    user_id: str | None = None
    is_person: bool = False

    @property
    def is_operator(self) -> bool:
        return self.role is None

    def is_any_of(self, *roles: Role) -> bool:
        """Whether this actor has one of these roles, or is the operator."""
        return self.role is None or self.role in roles

    def may_grant(self, role: Role) -> bool:
        """Nobody gives more than they have; a super_admin gives nothing inside an organization."""
        return self.role is None or self.role.at_least(role)


@dataclass(frozen=True, slots=True)
class Principal:
    """One caller inside one organization and one environment.

    `actor` is what the audit says: "key:<id>", "user:<id>" or "operator:<os user>". `tools` is None when every tool of
    the role is open. `name` is the key's name or the person's address, for people. `session_id` is the login session
    of a token; `is_person` says that no assistant has had it, so that it may do what is for people alone: approve,
    administer, change rules.
    """

    organization_id: str
    actor: str
    role: Role
    environment: Environment
    tools: frozenset[str] | None
    name: str
    user_id: str | None = None
    session_id: str | None = None
    is_person: bool = False

    @property
    def as_actor(self) -> Actor:
        return Actor(self.actor, self.role, self.user_id, self.is_person)

    def may_use(self, tool: str, least: Role) -> bool:
        """Whether this caller may use `tool`, which asks for the role `least`."""
        return self.role.at_least(least) and (self.tools is None or tool in self.tools)
