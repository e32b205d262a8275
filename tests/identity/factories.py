"""People and organizations for these tests."""

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
