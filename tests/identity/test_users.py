"""People: nobody gets more than the giver has, nobody changes themselves, and somebody stays in charge."""

import anyio
import pytest
from sqlmodel import select

from mpesa_mcp.audit import AuditEntry
from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.errors import InputError, NotFoundError
from mpesa_mcp.identity.models import PLATFORM, User
from mpesa_mcp.identity.principal import NotAllowed
from mpesa_mcp.identity.users import (
    EmailTaken,
    LastAdmin,
    OwnRole,
    activate_user,
    change_password,
    change_role,
    create_user,
    deactivate_user,
    list_users,
)
from mpesa_mcp.store.engine import Store
from mpesa_mcp.values import FrozenClock, Role, Secret

from .factories import OPERATOR, PASSWORD, a_user, acting_as, an_organization

pytestmark = pytest.mark.anyio


async def test_a_user_is_listed_without_a_password_and_the_making_is_audited(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    made = await a_user(store, clock, acme, " Jane.Doe@Example.COM ", Role.MANAGER)
    [listed] = await list_users(store, acme)
    assert listed == made
    assert (made.email, made.role, made.created_by) == ("jane.doe@example.com", Role.MANAGER, "operator:tester")
    async with store.reading(acme) as session:
        row = await session.first(select(User))
        entry = await session.first(select(AuditEntry).where(AuditEntry.subject == made.user_id))
    assert row is not None
    assert row.password_hash.startswith("$argon2id$")
    assert entry is not None
    assert (entry.action, entry.detail) == ("user.created", {"role": "manager"})


async def test_an_address_signs_in_to_one_organization_only(store: Store, clock: FrozenClock) -> None:
    acme, globex = await an_organization(store, clock), await an_organization(store, clock, "globex")
    await a_user(store, clock, acme, "jane@example.com")
    for organization_id in (acme, globex):
        with pytest.raises(EmailTaken):
            await a_user(store, clock, organization_id, "JANE@example.com")
    assert await list_users(store, globex) == []


@pytest.mark.parametrize("email", ["", "jane", "jane@", "@example.com", "jane@example", "a b@example.com", "j@x..com"])
async def test_what_is_no_address_is_refused(store: Store, clock: FrozenClock, email: str) -> None:
    acme = await an_organization(store, clock)
    with pytest.raises(InputError, match="email"):
        await a_user(store, clock, acme, email)


@pytest.mark.parametrize("password", ["short", "x" * 129, "aaaaaaaaaaaa", "jane.the.user@example.com"])
async def test_a_weak_password_is_refused_before_anything_is_stored(
    store: Store, clock: FrozenClock, password: str
) -> None:
    acme = await an_organization(store, clock)
    email = "jane.the.user@example.com"
    with pytest.raises(InputError, match="password"):
        await create_user(
            store,
            clock,
            organization_id=acme,
            email=email,
            role=Role.USER,
            password=Secret(password),
            actor=OPERATOR,
            seats=seats_of,
        )
    assert await list_users(store, acme) == []


async def test_only_the_platform_has_super_admins_and_nobody_else(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    with pytest.raises(InputError):
        await a_user(store, clock, acme, "jane@example.com", Role.SUPER_ADMIN)
    with pytest.raises(InputError):
        await a_user(store, clock, PLATFORM, "jane@example.com", Role.ORG_ADMIN)
    made = await a_user(store, clock, PLATFORM, "root@example.com", Role.SUPER_ADMIN)
    assert made.organization_id == PLATFORM


async def test_nobody_grants_more_than_they_have(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    admin = await a_user(store, clock, acme, "admin@example.com")
    manager = await a_user(store, clock, acme, "manager@example.com", Role.MANAGER)
    user = await a_user(store, clock, acme, "user@example.com", Role.USER)
    root = await a_user(store, clock, PLATFORM, "root@example.com", Role.SUPER_ADMIN)
    for actor, whom, role in (
        (manager, user, Role.ORG_ADMIN),
        (manager, admin, Role.USER),
        (user, manager, Role.USER),
        (root, user, Role.USER),
    ):
        with pytest.raises(NotAllowed):
            await change_role(
                store, clock, organization_id=acme, user_id=whom.user_id, role=role, actor=acting_as(actor)
            )
    changed = await change_role(
        store, clock, organization_id=acme, user_id=user.user_id, role=Role.MANAGER, actor=acting_as(admin)
    )
    assert changed.role is Role.MANAGER


async def test_nobody_changes_or_removes_themselves(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    admin = await a_user(store, clock, acme, "admin@example.com")
    await a_user(store, clock, acme, "second@example.com")
    with pytest.raises(OwnRole):
        await change_role(
            store, clock, organization_id=acme, user_id=admin.user_id, role=Role.USER, actor=acting_as(admin)
        )
    with pytest.raises(OwnRole):
        await deactivate_user(store, clock, organization_id=acme, user_id=admin.user_id, actor=acting_as(admin))


async def test_the_last_org_admin_stays_even_for_the_operator(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    admin = await a_user(store, clock, acme, "admin@example.com")
    with pytest.raises(LastAdmin):
        await deactivate_user(store, clock, organization_id=acme, user_id=admin.user_id, actor=OPERATOR)
    with pytest.raises(LastAdmin):
        await change_role(store, clock, organization_id=acme, user_id=admin.user_id, role=Role.USER, actor=OPERATOR)


async def test_of_two_admins_who_remove_each_other_at_once_one_stays(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    first = await a_user(store, clock, acme, "first@example.com")
    second = await a_user(store, clock, acme, "second@example.com")
    refused: list[Exception] = []

    async def remove(whom: str, by: str) -> None:
        users = {user.user_id: user for user in (first, second)}
        try:
            await deactivate_user(store, clock, organization_id=acme, user_id=whom, actor=acting_as(users[by]))
        except LastAdmin as last:
            refused.append(last)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(remove, first.user_id, second.user_id)
            group.start_soon(remove, second.user_id, first.user_id)
    assert len(refused) == 1
    assert [user.deactivated_at is None for user in await list_users(store, acme)].count(True) == 1


async def test_whoever_was_removed_a_moment_ago_removes_nobody(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    first, second, third = [await a_user(store, clock, acme, f"{n}@example.com") for n in ("first", "second", "third")]
    await deactivate_user(store, clock, organization_id=acme, user_id=second.user_id, actor=acting_as(first))
    with pytest.raises(NotAllowed):
        await deactivate_user(store, clock, organization_id=acme, user_id=third.user_id, actor=acting_as(second))


async def test_a_deactivated_person_is_let_in_again_by_whoever_could_give_the_role(
    store: Store, clock: FrozenClock
) -> None:
    acme = await an_organization(store, clock)
    admin = await a_user(store, clock, acme, "admin@example.com")
    second = await a_user(store, clock, acme, "second@example.com")
    manager = await a_user(store, clock, acme, "manager@example.com", Role.MANAGER)
    await deactivate_user(store, clock, organization_id=acme, user_id=second.user_id, actor=acting_as(admin))
    for actor, refusal in ((manager, NotAllowed), (second, OwnRole)):
        with pytest.raises(refusal):
            await activate_user(
                store, clock, organization_id=acme, user_id=second.user_id, actor=acting_as(actor), seats=seats_of
            )
    for _ in range(2):
        activated = await activate_user(
            store, clock, organization_id=acme, user_id=second.user_id, actor=acting_as(admin), seats=seats_of
        )
        assert (activated.deactivated_at, activated.role) == (None, Role.ORG_ADMIN)
    async with store.reading(acme) as session:
        told = await session.all(select(AuditEntry.action).where(AuditEntry.subject == second.user_id))
    assert sorted(told) == ["user.activated", "user.created", "user.deactivated"]


async def test_another_organizations_user_is_as_unknown_as_nobody(store: Store, clock: FrozenClock) -> None:
    acme, globex = await an_organization(store, clock), await an_organization(store, clock, "globex")
    theirs = await a_user(store, clock, globex, "jane@example.com")
    told = set()
    for user_id in (theirs.user_id, "usr_nobody"):
        with pytest.raises(NotFoundError) as unknown:
            await deactivate_user(store, clock, organization_id=acme, user_id=user_id, actor=OPERATOR)
        told.add(unknown.value.message)
        with pytest.raises(NotFoundError):
            await change_password(
                store, clock, organization_id=acme, user_id=user_id, password=PASSWORD, actor="operator:tester"
            )
    assert len(told) == 1
