"""People and organizations for these tests, and what they cost the database."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event

from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.identity.organizations import create_organization
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.identity.users import UserRecord, create_user
from mpesa_mcp.store.engine import Store
from mpesa_mcp.values import Clock, Role, Secret

PASSWORD = Secret("correct horse battery")
OPERATOR = Actor("operator:tester", None)


async def an_organization(store: Store, clock: Clock, slug: str = "acme") -> str:
    made = await create_organization(store, clock, name=slug.title(), slug=slug, actor=OPERATOR.name)
    return made.organization_id


async def a_user(
    store: Store, clock: Clock, organization_id: str, email: str, role: Role = Role.ORG_ADMIN
) -> UserRecord:
    return await create_user(
        store,
        clock,
        organization_id=organization_id,
        email=email,
        role=role,
        password=PASSWORD,
        actor=OPERATOR,
        seats=seats_of,
    )


def acting_as(user: UserRecord) -> Actor:
    return Actor(f"user:{user.user_id}", user.role, user.user_id, is_person=True)


@contextmanager
def counted(store: Store) -> Iterator[Counter[str]]:
    """How many statements read and write meanwhile, and how often is committed."""
    seen: Counter[str] = Counter()

    def executed(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        verb = statement.split(maxsplit=1)[0].upper()
        if verb in {"INSERT", "UPDATE", "DELETE"}:
            seen["written"] += 1
        elif "set_config" not in statement and "pg_notify" not in statement and verb == "SELECT":
            seen["read"] += 1

    def committed(_connection: object) -> None:
        seen["commit"] += 1

    engines = {store._writer.sync_engine, store._reader.sync_engine}
    for engine in engines:
        event.listen(engine, "before_cursor_execute", executed)
        event.listen(engine, "commit", committed)
    yield seen
    for engine in engines:
        event.remove(engine, "before_cursor_execute", executed)
        event.remove(engine, "commit", committed)
