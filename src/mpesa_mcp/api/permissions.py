"""What a route declares of itself, under its path: who may call it, and whether a call of it lets money out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from mpesa_mcp.billing.states import Act
from mpesa_mcp.identity.permissions import Permission
from mpesa_mcp.values import Role

_DECLARED: Final = "__declared__"
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Declared:
    """`act` is what a call comes to where callers are admitted: PAY_OUT is refused whenever money must not leave."""

    permission: Permission
    act: Act = Act.READ

    @property
    def words(self) -> str:
        """For the documentation."""
        if self.act is Act.PAY_OUT:
            return f"{self.permission.words} It lets money out: refused while the subscription allows no payouts."
        return self.permission.words


def allow(
    least: Role | None = None, *, platform: bool = False, person: bool = False, act: Act = Act.READ
) -> Callable[[Endpoint], Endpoint]:
    """Declares who may call the route below, and what that comes to."""
    return _declare(Declared(Permission(least=least, platform=platform, person=person), act))


def allow_everybody() -> Callable[[Endpoint], Endpoint]:
    """Declares a route that needs no token."""
    return _declare(Declared(Permission(public=True)))


def declared_by(endpoint: Callable[..., Any]) -> Declared:
    """What was declared. A route without it stops the start."""
    declared = getattr(endpoint, _DECLARED, None)
    if not isinstance(declared, Declared):
        raise TypeError(f"{endpoint.__name__} does not say who may call it: put @allow under its route")
    return declared


def _declare(declared: Declared) -> Callable[[Endpoint], Endpoint]:
    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _DECLARED, declared)
        return endpoint

    return mark
