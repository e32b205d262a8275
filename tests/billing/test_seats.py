"""Seats: no more people than the plan has, however many come at once."""

from datetime import timedelta

import anyio
import pytest

from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.identity.invitations import LIFE, accept_invitation, invite
from mpesa_mcp.identity.models import PLATFORM
from mpesa_mcp.identity.seats import NoSeatLeft
from mpesa_mcp.identity.users import create_user, deactivate_user, list_users
from mpesa_mcp.store.engine import Store
from mpesa_mcp.values import FrozenClock, Role, Secret

from .factories import OPERATOR, a_plan, an_organization, subscribe

pytestmark = pytest.mark.anyio
PASSWORD = Secret("correct horse battery")


async def add(store: Store, clock: FrozenClock, organization_id: str, name: str, role: Role = Role.USER) -> str:
    made = await create_user(
        store,
        clock,
        organization_id=organization_id,
        email=f"{name}@example.com",
        role=role,
        password=PASSWORD,
        actor=OPERATOR,
        seats=seats_of,
    )
    return made.user_id


async def ask_in(store: Store, clock: FrozenClock, organization_id: str, name: str) -> str:
    invited = await invite(
        store,
        clock,
        organization_id=organization_id,
        email=f"{name}@example.com",
        role=Role.USER,
        actor=OPERATOR,
        seats=seats_of,
    )
    return invited.token.reveal()


async def test_who_is_in_or_invited_has_a_seat_until_it_ends(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    await a_plan(store, clock, seats=3)
    await subscribe(store, clock, acme, plan="basic")
    jane = await add(store, clock, acme, "jane", Role.ORG_ADMIN)
    await add(store, clock, acme, "ann", Role.ORG_ADMIN)
    await ask_in(store, clock, acme, "joe")
    token = await ask_in(store, clock, acme, "joe")  # again: the same seat
    with pytest.raises(NoSeatLeft, match=r"has 3 seats, and none is free\. Deactivate somebody, or ask"):
        await ask_in(store, clock, acme, "sue")
    await accept_invitation(store, clock, token, PASSWORD, seats=seats_of)
    with pytest.raises(NoSeatLeft):
        await add(store, clock, acme, "sue")
    await deactivate_user(store, clock, organization_id=acme, user_id=jane, actor=OPERATOR)
    await ask_in(store, clock, acme, "sue")
    with pytest.raises(NoSeatLeft):
        await ask_in(store, clock, acme, "tom")
    clock.advance(LIFE + timedelta(seconds=1))
    await ask_in(store, clock, acme, "tom")
    # The platform's people, and an organization that agreed to no number, are not counted.
    await add(store, clock, PLATFORM, "root", Role.SUPER_ADMIN)
    await add(store, clock, await an_organization(store, clock, "other"), "other")


async def test_the_last_seat_is_taken_once_by_many_at_once(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    await a_plan(store, clock, seats=2)
    tokens = [await ask_in(store, clock, acme, f"guest-{n}") for n in range(3)]
    await subscribe(store, clock, acme, plan="basic")
    refused: list[NoSeatLeft] = []

    async def accept(token: str) -> None:
        try:
            await accept_invitation(store, clock, token, PASSWORD, seats=seats_of)
        except NoSeatLeft as none:
            refused.append(none)

    async with anyio.create_task_group() as tasks:
        for token in tokens:
            tasks.start_soon(accept, token)
    assert (len(await list_users(store, acme)), len(refused)) == (2, 1)
