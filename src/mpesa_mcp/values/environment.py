"""Where a payment happens and what a caller may do: the small closed lists the whole program shares."""

from enum import StrEnum


class Environment(StrEnum):
    """Which Daraja a shortcode lives at. Sandbox and production are Safaricom's hosts."""

    SIMULATOR = "simulator"
    SANDBOX = "sandbox"
    PRODUCTION = "production"


class ShortcodeType(StrEnum):
    PAYBILL = "paybill"
    TILL = "till"


class Role(StrEnum):
    """What a principal may do, from most to least."""

    SUPER_ADMIN = "super_admin"
    ORG_ADMIN = "org_admin"
    MANAGER = "manager"
    USER = "user"

    def at_least(self, needed: "Role") -> bool:
        """Whether this role includes `needed`. A super_admin runs the platform and moves no organization's money."""
        if self is Role.SUPER_ADMIN:
            return needed is Role.SUPER_ADMIN
        return _RANK[self] >= _RANK[needed]


_RANK = {Role.USER: 1, Role.MANAGER: 2, Role.ORG_ADMIN: 3, Role.SUPER_ADMIN: 4}
