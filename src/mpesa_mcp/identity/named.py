"""The names people know callers by: of an audit's actor, its key's name or its person's address."""

from collections.abc import Iterable, Mapping

from sqlmodel import col, select

from mpesa_mcp.identity.models import ApiKey, User
from mpesa_mcp.store.engine import Store


async def names_of(store: Store, organization_id: str, actors: Iterable[str]) -> Mapping[str, str]:
    """For each of these actors (`key:<id>`, `user:<id>`, ...) what people call it; one without a row keeps its own."""
    named = {actor: actor for actor in actors}
    ids = [actor.partition(":")[2] for actor in named]
    async with store.reading(organization_id) as session:
        keys = await session.all(select(ApiKey).where(col(ApiKey.id).in_(ids)))
        users = await session.all(select(User).where(col(User.id).in_(ids)))
    named |= {f"key:{key.id}": f"key “{key.name}” ({key.prefix}…)" for key in keys if f"key:{key.id}" in named}
    return named | {f"user:{user.id}": user.email for user in users if f"user:{user.id}" in named}
