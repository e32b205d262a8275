"""Freezing, suspending and what lifts them: who may, who counts as one of two, and what the audit says."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import anyio
import pytest
from sqlmodel import col, select

from mpesa_mcp.audit import AuditEntry
from mpesa_mcp.errors import NotFoundError
from mpesa_mcp.identity.models import PLATFORM
from mpesa_mcp.identity.organizations import OrganizationRecord, change_organization, get_organization
from mpesa_mcp.identity.principal import Actor, NotAllowed
from mpesa_mcp.identity.standing import (
    AnotherMustLift,
    NewerThanFreeze,
    NotFrozen,
    activate,
    freeze,
    suspend,
    unfreeze,
)
from mpesa_mcp.identity.users import change_role, deactivate_user
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock, Environment, FrozenClock, Kes, Role

from .factories import OPERATOR, a_user, acting_as, an_organization

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Acme:
    """An organization with two org_admins and a manager, and who acts on it. Each act is a minute after the last."""

    store: Store
    clock: FrozenClock
    id: str
    first: Actor
    second: Actor
    manager: Actor

    async def freeze(self, actor: Actor) -> OrganizationRecord:
        self.clock.advance(timedelta(minutes=1))
        return await freeze(self.store, self.clock, organization_id=self.id, actor=actor)

    async def unfreeze(self, actor: Actor) -> OrganizationRecord:
        return await self._lift(unfreeze, actor)

    async def suspend(self, actor: Actor) -> OrganizationRecord:
        return await suspend(self.store, self.clock, organization_id=self.id, actor=actor)

    async def activate(self, actor: Actor) -> OrganizationRecord:
        return await self._lift(activate, actor)

    async def _lift(
        self, lift: Callable[[OrganizationSession, Clock, Actor], Awaitable[OrganizationRecord]], actor: Actor
    ) -> OrganizationRecord:
        self.clock.advance(timedelta(minutes=1))
        async with self.store.session(self.id) as session:
            return await lift(session, self.clock, actor)

    async def user(self, email: str, role: Role = Role.ORG_ADMIN) -> Actor:
        self.clock.advance(timedelta(minutes=1))
        return acting_as(await a_user(self.store, self.clock, self.id, email, role))

    async def status(self) -> str:
        async with self.store.reading(self.id) as session:
            return (await get_organization(session)).status

    async def told(self) -> list[AuditEntry]:
        wanted = select(AuditEntry).where(col(AuditEntry.action).startswith("organization."))
        async with self.store.reading(self.id) as session:
            return list(await session.all(wanted.order_by(col(AuditEntry.id))))[1:]


@pytest.fixture
async def acme(store: Store, clock: FrozenClock) -> Acme:
    organization_id = await an_organization(store, clock)
    first, second = [await a_user(store, clock, organization_id, f"{name}@example.com") for name in ("first", "second")]
    manager = await a_user(store, clock, organization_id, "manager@example.com", Role.MANAGER)
    return Acme(store, clock, organization_id, acting_as(first), acting_as(second), acting_as(manager))


@pytest.fixture
def root() -> Actor:
    return Actor("user:usr_root", Role.SUPER_ADMIN, "usr_root")


async def test_one_person_freezes_and_two_lift_it(acme: Acme) -> None:
    frozen = await acme.freeze(acme.first)
    assert (frozen.status, frozen.frozen_by, frozen.frozen_at) == ("frozen", acme.first.name, acme.clock.now())
    asked = await acme.unfreeze(acme.first)
    assert (asked.status, asked.unfreeze_asked_by) == ("frozen", acme.first.name)
    with pytest.raises(AnotherMustLift):
        await acme.unfreeze(acme.first)
    lifted = await acme.unfreeze(acme.second)
    assert (lifted.status, lifted.frozen_at, lifted.unfreeze_asked_by) == ("active", None, None)
    with pytest.raises(NotFrozen):
        await acme.unfreeze(acme.first)
    frozen_by = {"frozen_by": acme.first.name}
    assert [(entry.actor, entry.action, entry.before, entry.after) for entry in await acme.told()] == [
        (acme.first.name, "organization.frozen", {"status": "active"}, {"status": "frozen"}),
        (
            acme.first.name,
            "organization.unfreeze_asked",
            {"status": "frozen"} | frozen_by,
            {"status": "frozen", "unfreeze_asked_by": acme.first.name} | frozen_by,
        ),
        (
            acme.second.name,
            "organization.unfrozen",
            {"status": "frozen", "unfreeze_asked_by": acme.first.name} | frozen_by,
            {"status": "active", "unfreeze_asked_by": None, "frozen_by": None},
        ),
    ]


async def test_the_operator_only_proposes_and_a_single_org_admin_then_lifts(acme: Acme) -> None:
    await acme.freeze(OPERATOR)
    for operator in (OPERATOR, Actor("operator:another", None), OPERATOR):
        assert (await acme.unfreeze(operator)).status == "frozen"
    assert (await acme.unfreeze(acme.first)).status == "active"

    await acme.freeze(acme.first)
    await acme.unfreeze(acme.first)
    assert (await acme.unfreeze(OPERATOR)).status == "frozen", "whoever came first, a person who signed in is the last"
    assert (await acme.unfreeze(acme.first)).status == "active"


async def test_nobody_but_org_admins_in_person_has_a_part_in_lifting(acme: Acme, root: Actor) -> None:
    await acme.freeze(acme.first)
    await acme.unfreeze(acme.first)
    for actor in (acme.manager, root, Actor("key:key_1", Role.ORG_ADMIN), Actor("user:x", Role.ORG_ADMIN, "usr_x")):
        with pytest.raises(NotAllowed):
            await acme.unfreeze(actor)
    assert await acme.status() == "frozen"


async def test_an_account_made_for_the_purpose_lifts_nothing_unless_the_operator_vouches_for_it(acme: Acme) -> None:
    await acme.freeze(acme.first)
    made = await acme.user("made@example.com")
    promoted = acme.manager
    assert promoted.user_id is not None
    await change_role(
        acme.store,
        acme.clock,
        organization_id=acme.id,
        user_id=promoted.user_id,
        role=Role.ORG_ADMIN,
        actor=acme.second,
    )
    promoted = Actor(promoted.name, Role.ORG_ADMIN, promoted.user_id)
    await acme.unfreeze(acme.second)
    for newer in (made, promoted):
        with pytest.raises(NewerThanFreeze):
            await acme.unfreeze(newer)
    await acme.unfreeze(OPERATOR)
    assert (await acme.unfreeze(made)).status == "active"


async def test_what_a_removed_org_admin_asked_for_does_not_count(acme: Acme) -> None:
    await acme.freeze(acme.first)
    third = await acme.user("third@example.com")
    await acme.unfreeze(acme.second)
    assert acme.second.user_id is not None
    await deactivate_user(
        acme.store, acme.clock, organization_id=acme.id, user_id=acme.second.user_id, actor=acme.first
    )
    asked = await acme.unfreeze(acme.first)
    assert (asked.status, asked.unfreeze_asked_by) == ("frozen", acme.first.name)
    with pytest.raises(NotAllowed):
        await acme.unfreeze(acme.second)
    with pytest.raises(NewerThanFreeze):
        await acme.unfreeze(third)


async def test_freezing_again_takes_back_what_was_asked(acme: Acme) -> None:
    frozen = await acme.freeze(acme.first)
    await acme.unfreeze(acme.first)
    again = await acme.freeze(acme.second)
    assert (again.frozen_at, again.frozen_by, again.unfreeze_asked_by) == (frozen.frozen_at, acme.first.name, None)
    assert (await acme.unfreeze(acme.second)).status == "frozen"
    assert [entry.action for entry in await acme.told()] == [
        "organization.frozen",
        "organization.unfreeze_asked",
        "organization.frozen_again",
        "organization.unfreeze_asked",
    ]


async def test_of_many_who_ask_at_once_two_lift_it_and_it_is_told_once(acme: Acme) -> None:
    await acme.freeze(acme.first)
    refused: list[Exception] = []

    async def ask(actor: Actor) -> None:
        try:
            await acme.unfreeze(actor)
        except (AnotherMustLift, NotFrozen) as no:
            refused.append(no)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for actor in (acme.first, acme.second) * 4:
                group.start_soon(ask, actor)
    assert await acme.status() == "active"
    assert [entry.action for entry in await acme.told()].count("organization.unfrozen") == 1
    assert len(refused) == 6


async def test_frozen_and_suspended_are_lifted_each_on_its_own(acme: Acme, root: Actor) -> None:
    await acme.freeze(root)
    assert (await acme.suspend(root)).status == "suspended"
    assert (await acme.activate(root)).status == "frozen"
    await acme.suspend(OPERATOR)
    await acme.unfreeze(acme.first)
    assert (await acme.unfreeze(acme.second)).status == "suspended"
    assert (await acme.activate(OPERATOR)).status == "active"
    lines = [
        (entry.action, (entry.before or {})["status"], (entry.after or {})["status"]) for entry in await acme.told()
    ]
    assert lines == [
        ("organization.frozen", "active", "frozen"),
        ("organization.suspended", "frozen", "suspended"),
        ("organization.activated", "suspended", "frozen"),
        ("organization.suspended", "frozen", "suspended"),
        ("organization.unfreeze_asked", "suspended", "suspended"),
        ("organization.unfrozen", "suspended", "suspended"),
        ("organization.activated", "suspended", "active"),
    ]


async def test_who_may_not_change_the_standing_changes_nothing(acme: Acme) -> None:
    for act, actor in (
        (acme.freeze, acme.manager),
        (acme.suspend, acme.first),
        (acme.activate, acme.first),
    ):
        with pytest.raises(NotAllowed):
            await act(actor)
    await acme.suspend(OPERATOR)
    await acme.suspend(OPERATOR)
    assert [entry.action for entry in await acme.told()] == ["organization.suspended"]


async def test_the_platform_and_what_is_not_there_have_no_standing(store: Store, clock: FrozenClock) -> None:
    for organization_id in (PLATFORM, "org_none"):
        for act in (freeze, suspend):
            with pytest.raises(NotFoundError):
                await act(store, clock, organization_id=organization_id, actor=OPERATOR)


async def test_only_what_changes_is_changed_and_told(acme: Acme, root: Actor) -> None:
    async def change(actor: Actor, **what: object) -> OrganizationRecord:
        return await change_organization(acme.store, acme.clock, organization_id=acme.id, actor=actor, **what)  # type: ignore[arg-type] # each test names its own

    await change(acme.first, name=" Acme Traders ", confirm_payouts_from=Kes.from_shillings(500))
    same = await change(acme.first, name="Acme Traders")
    assert (same.name, same.confirm_payouts_from) == ("Acme Traders", Kes.from_shillings(500))
    changed = await change(OPERATOR, default_environment=Environment.SANDBOX)
    assert changed.default_environment is Environment.SANDBOX
    for actor in (acme.manager, root):
        with pytest.raises(NotAllowed):
            await change(actor, name="Mine")
    assert [(entry.before, entry.after) for entry in await acme.told()] == [
        (
            {"name": "Acme", "confirm_payouts_from": "10000.00"},
            {"name": "Acme Traders", "confirm_payouts_from": "500.00"},
        ),
        ({"default_environment": "simulator"}, {"default_environment": "sandbox"}),
    ]
