"""What people call who did something: a key by its name, a person by the address."""

from collections.abc import Iterable, Mapping

from sqlmodel import col, select

from mpesa_mcp.identity.models import ApiKey, User
from mpesa_mcp.store.tenancy import OrganizationSession


async def names_of(session: OrganizationSession, actors: Iterable[str]) -> Mapping[str, str]:
    """For each of these actors of an audit (`key:<id>`, `user:<id>`, ...); one that has no row stays as it is."""
    names = {actor: actor for actor in actors}
    keys = select(ApiKey).where(col(ApiKey.id).in_([actor.removeprefix("key:") for actor in names]))
    people = select(User).where(col(User.id).in_([actor.removeprefix("user:") for actor in names]))
    names |= {f"key:{key.id}": key.name for key in await session.all(keys)}
    names |= {f"user:{user.id}": user.email for user in await session.all(people)}
    return names
