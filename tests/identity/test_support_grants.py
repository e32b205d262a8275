"""Support grants: the organization's own, short, taken back at once, and each use in its audit."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import col, select

from mpesa_mcp.audit import AuditEntry
from mpesa_mcp.errors import InputError, NotFoundError
from mpesa_mcp.identity.models import PLATFORM
from mpesa_mcp.identity.principal import Actor, NotAllowed
from mpesa_mcp.identity.support_grants import (
    GrantRecord,
    NoSupportGrant,
    give_grant,
    list_grants,
    require_support_grant,
    revoke_grant,
)
from mpesa_mcp.store.engine import Store
from mpesa_mcp.values import FrozenClock, Role

from .factories import OPERATOR, an_organization

pytestmark = pytest.mark.anyio
ROOT = Actor("user:usr_root", Role.SUPER_ADMIN, "usr_root")
ADMIN = Actor("user:usr_admin", Role.ORG_ADMIN, "usr_admin")


async def give(store: Store, clock: FrozenClock, organization_id: str, **other: Any) -> GrantRecord:
    given: dict[str, Any] = {"hours": 24, "reason": "A payout is missing", "actor": ADMIN, **other}
    return await give_grant(store, clock, organization_id=organization_id, **given)


async def read(store: Store, clock: FrozenClock, organization_id: str) -> GrantRecord:
    return await require_support_grant(store, clock, organization_id=organization_id, actor=ROOT, reads="payments")


async def told(store: Store, organization_id: str) -> Sequence[AuditEntry]:
    wanted = select(AuditEntry).where(col(AuditEntry.action).startswith("support."))
    async with store.reading(organization_id) as session:
        return await session.all(wanted.order_by(col(AuditEntry.id)))


async def test_a_grant_lets_the_platform_read_until_its_time_is_over_and_each_use_is_told(
    store: Store, clock: FrozenClock
) -> None:
    acme = await an_organization(store, clock)
    with pytest.raises(NoSupportGrant):
        await read(store, clock, acme)
    grant = await give(store, clock, acme)
    clock.advance(timedelta(hours=24) - timedelta(seconds=1))
    assert await read(store, clock, acme) == grant
    clock.advance(timedelta(seconds=1))
    with pytest.raises(NoSupportGrant):
        await read(store, clock, acme)
    uses = [(e.actor, e.action, e.subject, e.decision, e.detail or e.after) for e in await told(store, acme)]
    reads = {"reads": "payments"}
    assert uses == [
        (ROOT.name, "support.read", acme, "refused", reads),
        (ADMIN.name, "support.granted", grant.grant_id, "done", {"hours": 24, "reason": "A payout is missing"}),
        (ROOT.name, "support.read", grant.grant_id, "allowed", reads),
        (ROOT.name, "support.read", acme, "refused", reads),
    ]


async def test_a_grant_that_is_taken_back_stands_no_more(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    first, second = await give(store, clock, acme), await give(store, clock, acme, hours=1)
    await revoke_grant(store, clock, organization_id=acme, grant_id=first.grant_id, actor=ADMIN)
    assert (await read(store, clock, acme)).grant_id == second.grant_id
    for _ in range(2):
        revoked = await revoke_grant(store, clock, organization_id=acme, grant_id=second.grant_id, actor=ADMIN)
        assert (revoked.revoked_at, revoked.revoked_by) == (clock.now(), ADMIN.name)
    with pytest.raises(NoSupportGrant):
        await read(store, clock, acme)
    assert [entry.action for entry in await told(store, acme)].count("support.revoked") == 2
    assert [grant.revoked_at for grant in await list_grants(store, acme)] == [clock.now()] * 2


@pytest.mark.parametrize(
    "actor",
    [OPERATOR, ROOT, Actor("user:usr_m", Role.MANAGER, "usr_m"), Actor("key:key_1", Role.ORG_ADMIN)],
    ids=["operator", "super_admin", "manager", "key"],
)
async def test_only_an_org_admin_in_person_gives_one(store: Store, clock: FrozenClock, actor: Actor) -> None:
    acme = await an_organization(store, clock)
    with pytest.raises(NotAllowed):
        await give(store, clock, acme, actor=actor)
    assert await list_grants(store, acme) == []


@pytest.mark.parametrize(
    "wrong", [{"hours": 0}, {"hours": 25}, {"reason": "  "}, {"reason": "two\nlines"}, {"reason": "x" * 201}]
)
async def test_a_grant_is_for_a_day_at_most_and_has_a_reason(
    store: Store, clock: FrozenClock, wrong: dict[str, Any]
) -> None:
    acme = await an_organization(store, clock)
    with pytest.raises(InputError):
        await give(store, clock, acme, **wrong)


async def test_a_grant_opens_one_organization(store: Store, clock: FrozenClock) -> None:
    acme, globex = await an_organization(store, clock), await an_organization(store, clock, "globex")
    grant = await give(store, clock, acme)
    with pytest.raises(NoSupportGrant):
        await read(store, clock, globex)
    for grant_id in (grant.grant_id, "sup_none"):
        with pytest.raises(NotFoundError):
            await revoke_grant(store, clock, organization_id=globex, grant_id=grant_id, actor=ADMIN)
    for nobody in ("org_none", PLATFORM):
        with pytest.raises(NotFoundError):
            await read(store, clock, nobody)
        with pytest.raises(NotFoundError):
            await give(store, clock, nobody)
