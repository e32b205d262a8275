"""Where a payment happens and what a caller may do: the small closed lists the whole program shares."""

from enum import StrEnum
from typing import Final


class Environment(StrEnum):
    """Which Daraja a shortcode lives at. Sandbox and production are Safaricom's hosts."""

    SIMULATOR = "simulator"
    SANDBOX = "sandbox"
    PRODUCTION = "production"


class ShortcodeType(StrEnum):
    PAYBILL = "paybill"
    TILL = "till"


class Role(StrEnum):
    """What a principal may do, from most to least. A super_admin runs the platform, and moves nobody's money."""

    SUPER_ADMIN = "super_admin"
    ORG_ADMIN = "org_admin"
    MANAGER = "manager"
    USER = "user"

    def at_least(self, needed: "Role") -> bool:
        """Whether this role includes `needed`, as those inside an organization do; a super_admin is beside them."""
        return self in MEMBER_ROLES and needed in MEMBER_ROLES[MEMBER_ROLES.index(self) :]


# The roles inside an organization, from most to least.
MEMBER_ROLES: Final = tuple(role for role in Role if role is not Role.SUPER_ADMIN)
