"""Who may call a route of the API or see a page of the console: declared where each stands, checked here."""

from dataclasses import dataclass

from mpesa_mcp.identity.principal import NotAllowed, Principal
from mpesa_mcp.values import Role


class PersonNeeded(NotAllowed):
    """A program, or a session that an assistant has used, asks for what only a person may do."""

    code = "person_needed"

    def __init__(self) -> None:
        super().__init__(
            "Only a person may do this: sign in with POST /auth/login and use that access token here and nowhere else. "
            "API keys, and sessions that were used on /mcp, cannot."
        )


@dataclass(frozen=True, slots=True)
class Permission:
    """`least` is the least role inside an organization; None lets nobody in but the platform.

    `platform` lets a super_admin in, `person` asks for a login session that no assistant has used, `public` needs no
    token.
    """

    least: Role | None = None
    platform: bool = False
    person: bool = False
    public: bool = False

    def check(self, principal: Principal) -> None:
        """Raises NotAllowed, PersonNeeded."""
        if principal.role is Role.SUPER_ADMIN:
            may = self.platform
        else:
            may = self.least is not None and principal.role.at_least(self.least)
        if not may:
            to_do = " to sign in and do it: an API key of any role cannot." if self.person else "."
            raise NotAllowed(f"Your role may not do this. Ask a person who administers the organization{to_do}")
        if self.person and not principal.is_person:
            raise PersonNeeded
        if principal.tools is not None:
            raise NotAllowed("This key is limited to some tools, which are on /mcp: it opens nothing here.")

    @property
    def words(self) -> str:
        """For the documentation."""
        if self.public:
            return "Needs no token."
        who = [f"role {self.least} or above"] if self.least else []
        who += ["a super_admin"] if self.platform else []
        return f"For {' or '.join(who)}{', signed in as a person' if self.person else ''}."
