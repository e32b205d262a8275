"""Two organizations, Ours and Theirs, each with a key; what belongs to Theirs says so."""

import asyncpg
from sqlalchemy import make_url
from sqlmodel import col, select

from mpesa_mcp.identity.models import ApiKey, Organization
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.values import Clock

OURS, THEIRS = "org_ours", "org_theirs"


def an_organization(clock: Clock, organization_id: str) -> Organization:
    name = organization_id.removeprefix("org_")
    return Organization(
        organization_id=organization_id,
        slug=name,
        name=name,
        status="active",
        callback_id=name,
        created_at=clock.now(),
    )


def a_key(clock: Clock, organization_id: str | None, key_id: str | None = None) -> ApiKey:
    name = (organization_id or OURS).removeprefix("org_")
    key = ApiKey(  # type: ignore[call-arg] # the session gives it its organization
        id=key_id or f"key_{name}",
        name=f"secret of {name}",
        prefix="mpk_sim_",
        key_hash=f"hash of {name} {key_id}",
        role="user",
        environment="simulator",
        created_at=clock.now(),
        created_by="operator:tester",
    )
    if organization_id is not None:
        key.organization_id = organization_id
    return key


async def make_ours_and_theirs(store: Store, clock: Clock) -> None:
    for organization_id in (OURS, THEIRS):
        async with store.session(organization_id) as session:
            session.add(an_organization(clock, organization_id))
            await session.flush()
            session.add(a_key(clock, organization_id))


async def names_of_keys(store: Store, organization_id: str) -> list[str]:
    async with store.reading(organization_id) as session:
        return list(await session.all(select(ApiKey.name).order_by(col(ApiKey.id))))


async def as_owner(settings: Settings, statement: str) -> list[asyncpg.Record]:
    """Runs a statement on PostgreSQL as the role that owns the tables."""
    address = make_url(settings.owner_database_url).set(drivername="postgresql").render_as_string()
    connection = await asyncpg.connect(address)
    try:
        found: list[asyncpg.Record] = await connection.fetch(statement)
        return found
    finally:
        await connection.close()
