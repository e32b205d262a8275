"""What the doctor says, and what one finding passes on to the next."""

from dataclasses import dataclass
from enum import StrEnum

from mpesa_mcp.values import Environment


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `fix` says what to do, unless all is well."""

    name: str
    status: Status
    message: str
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A shortcode of an organization that may use it."""

    organization_id: str
    slug: str
    environment: Environment
    shortcode: str
    shortcode_id: str

    @property
    def options(self) -> str:
        """As a command names it."""
        return f"--org {self.slug} --environment {self.environment} --shortcode {self.shortcode}"


@dataclass(frozen=True, slots=True)
class Shortcodes:
    """What the store holds, as far as the other findings need to know it."""

    places: tuple[Place, ...] = ()
    production_initiator: bool = False

    @property
    def environments(self) -> frozenset[Environment]:
        return frozenset(place.environment for place in self.places)
