"""Rotation of keys: a successor like the old one, an overlap, nobody above themselves; keys that others have read."""

from datetime import timedelta

import anyio
import pytest
from sqlmodel import col, select

from mpesa_mcp.audit import AuditEntry
from mpesa_mcp.errors import InputError, MpesaMcpError
from mpesa_mcp.identity.api_keys import KeyNotUsable, KeyReplaced, NewKey, create_key, list_keys, revoke_key, rotate_key
from mpesa_mcp.identity.authentication import Authentication
from mpesa_mcp.identity.exposed_keys import Place, flag_exposed_key
from mpesa_mcp.identity.key_text import keys_in, new_text
from mpesa_mcp.identity.principal import Actor, NotAllowed, Unauthenticated
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.values import Clock, Environment, FrozenClock, Role

from .factories import OPERATOR, an_organization

pytestmark = pytest.mark.anyio
DAY = timedelta(days=1)


@pytest.fixture
async def acme(store: Store, clock: FrozenClock) -> str:
    return await an_organization(store, clock)


async def a_key(
    store: Store,
    keyring: Keyring,
    clock: Clock,
    organization_id: str,
    *,
    role: Role = Role.MANAGER,
    days: int | None = 90,
    actor: Actor = OPERATOR,
) -> NewKey:
    return await create_key(
        store,
        keyring,
        clock,
        organization_id=organization_id,
        name="assistant",
        role=role,
        environment=Environment.SANDBOX,
        expires_at=None if days is None else clock.now() + days * DAY,
        tools=["stk_push", "b2c_payment"],
        actor=actor,
    )


async def rotated(
    store: Store,
    keyring: Keyring,
    clock: Clock,
    organization_id: str,
    key: NewKey,
    *,
    overlap: timedelta = DAY,
    actor: Actor = OPERATOR,
) -> NewKey:
    return await rotate_key(
        store,
        keyring,
        clock,
        organization_id=organization_id,
        key_id=key.record.key_id,
        overlap=overlap,
        actor=actor,
    )


async def test_a_rotated_key_has_a_successor_like_it_and_works_until_the_overlap_is_over(
    store: Store, keyring: Keyring, clock: FrozenClock, acme: str
) -> None:
    authentication = Authentication(store, keyring, Settings(), clock)
    old = await a_key(store, keyring, clock, acme)
    clock.advance(30 * DAY)
    new = await rotated(store, keyring, clock, acme, old)
    assert new.key.reveal() != old.key.reveal()
    for field in ("name", "role", "environment", "tools"):
        assert getattr(new.record, field) == getattr(old.record, field), field
    assert new.record.expires_at == clock.now() + 90 * DAY
    listed, _ = await list_keys(store, acme)
    assert (listed.replaced_by, listed.expires_at) == (new.record.key_id, clock.now() + DAY)
    for key in (old, new):
        await authentication.principal(key.key.reveal())
    clock.advance(DAY)
    await authentication.principal(new.key.reveal())
    with pytest.raises(Unauthenticated):
        await authentication.principal(old.key.reveal())
    async with store.reading(acme) as session:
        told = await session.all(select(AuditEntry).order_by(col(AuditEntry.id)))
    assert [(entry.action, entry.subject) for entry in told[-2:]] == [
        ("key.created", new.record.key_id),
        ("key.rotated", old.record.key_id),
    ]


async def test_an_overlap_never_makes_a_key_live_longer(
    store: Store, keyring: Keyring, clock: FrozenClock, acme: str
) -> None:
    old = await a_key(store, keyring, clock, acme, days=1)
    await rotated(store, keyring, clock, acme, old, overlap=7 * DAY)
    [listed, _] = await list_keys(store, acme)
    assert listed.expires_at == old.record.expires_at
    lasting = await a_key(store, keyring, clock, acme, days=None)
    new = await rotated(store, keyring, clock, acme, lasting, overlap=timedelta(0))
    assert new.record.expires_at is None
    with pytest.raises(Unauthenticated):
        await Authentication(store, keyring, Settings(), clock).principal(lasting.key.reveal())


async def test_of_two_who_rotate_a_key_at_once_one_makes_its_successor(
    store: Store, keyring: Keyring, clock: FrozenClock, acme: str
) -> None:
    old = await a_key(store, keyring, clock, acme)
    refused: list[MpesaMcpError] = []

    async def rotate() -> None:
        try:
            await rotated(store, keyring, clock, acme, old)
        except KeyReplaced as replaced:
            refused.append(replaced)

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(rotate)
    assert len(refused) == 3
    assert len(await list_keys(store, acme)) == 2


async def test_a_key_that_opens_nothing_is_not_rotated(
    store: Store, keyring: Keyring, clock: FrozenClock, acme: str
) -> None:
    revoked, expired = await a_key(store, keyring, clock, acme), await a_key(store, keyring, clock, acme, days=1)
    await revoke_key(store, clock, organization_id=acme, key_id=revoked.record.key_id, actor=OPERATOR)
    clock.advance(DAY)
    for key in (revoked, expired):
        with pytest.raises(KeyNotUsable):
            await rotated(store, keyring, clock, acme, key)
    good = await a_key(store, keyring, clock, acme)
    for overlap in (timedelta(seconds=-1), timedelta(days=31)):
        with pytest.raises(InputError):
            await rotated(store, keyring, clock, acme, good, overlap=overlap)
    assert len(await list_keys(store, acme)) == 3


async def test_nobody_makes_rotates_or_revokes_a_key_above_themselves_and_a_super_admin_none(
    store: Store, keyring: Keyring, clock: FrozenClock, acme: str
) -> None:
    key = await a_key(store, keyring, clock, acme)
    for role in (Role.USER, Role.SUPER_ADMIN):
        somebody = Actor("user:somebody", role, "somebody")
        with pytest.raises(NotAllowed):
            await a_key(store, keyring, clock, acme, actor=somebody)
        with pytest.raises(NotAllowed):
            await rotated(store, keyring, clock, acme, key, actor=somebody)
        with pytest.raises(NotAllowed):
            await revoke_key(store, clock, organization_id=acme, key_id=key.record.key_id, actor=somebody)
    admin = Actor("user:jane", Role.ORG_ADMIN, "jane")
    assert (await a_key(store, keyring, clock, acme, role=Role.ORG_ADMIN, actor=admin)).record.created_by == "user:jane"
    assert len(await list_keys(store, acme)) == 2


async def test_an_exposed_key_is_told_of_once_an_hour_and_should_be_rotated_until_it_is(
    store: Store, keyring: Keyring, clock: FrozenClock, acme: str
) -> None:
    key = await a_key(store, keyring, clock, acme)
    for minutes in (0, 59, 2):
        clock.advance(timedelta(minutes=minutes))
        for seen in (key.key.reveal(), new_text(Environment.SANDBOX)):
            await flag_exposed_key(store, keyring, clock, seen, place=Place.LOG)
    async with store.reading(acme) as session:
        told = await session.all(select(AuditEntry).where(AuditEntry.action == "key.exposed"))
    assert [(entry.subject, entry.detail) for entry in told] == [(key.record.key_id, {"place": "log"})] * 2
    [listed] = await list_keys(store, acme)
    assert listed.exposed_at == clock.now()
    assert listed.should_be_rotated(clock.now())
    await Authentication(store, keyring, Settings(), clock).principal(key.key.reveal())
    await rotated(store, keyring, clock, acme, key)
    assert not any(each.should_be_rotated(clock.now()) for each in await list_keys(store, acme))


def test_keys_are_found_in_any_text_by_their_checksum() -> None:
    one, two = new_text(Environment.SIMULATOR), new_text(Environment.PRODUCTION)
    text = f'/mcp?key={one}&x=mpk_sim_{"a" * 38} or "{two}", mpk_live_short'
    assert keys_in(text) == [one, two]
    assert keys_in(f"{one}and-more") == [one]
    assert keys_in(one[:-1]) == []
