"""Closing an organization: not while a payment may still move, and then nothing opens it or anything in it."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from sqlmodel import select

from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.credentials.models import DataKey, ShortcodeSecret
from mpesa_mcp.errors import MpesaMcpError
from mpesa_mcp.identity import standing
from mpesa_mcp.identity.api_keys import create_key
from mpesa_mcp.identity.invitations import InvitationNotGood, accept_invitation, invite
from mpesa_mcp.identity.organizations import (
    OrganizationClosed,
    OrganizationRecord,
    change_organization,
    get_organization,
)
from mpesa_mcp.identity.principal import Actor, NotAllowed, Unauthenticated
from mpesa_mcp.identity.sessions import SessionEnded, Sessions, ShutOut
from mpesa_mcp.identity.support_grants import NoSupportGrant, give_grant, require_support_grant
from mpesa_mcp.identity.users import create_user
from mpesa_mcp.payments.closing import PaymentsUnsettled, close_organization
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.reading import find_payment
from mpesa_mcp.payments.standing import activate, unfreeze
from mpesa_mcp.payments.states import PaymentStatus
from mpesa_mcp.values import Environment, FrozenClock, Role, Secret

from .factories import Shop, a_payout, a_push, a_row, payout_result, send_due, store_rows

pytestmark = pytest.mark.anyio
OPERATOR = Actor("operator:tester", None)
EMAIL, PASSWORD = "admin@example.com", Secret("correct horse battery")


async def close(shop: Shop, actor: Actor = OPERATOR) -> OrganizationRecord:
    return await close_organization(shop.core, organization_id=shop.principal.organization_id, actor=actor)


@pytest.mark.parametrize("status", [status for status in PaymentStatus if not status.is_settled])
async def test_it_is_refused_while_a_payment_is_unsettled_and_then_nothing_changes(
    shop: Shop, clock: FrozenClock, status: PaymentStatus
) -> None:
    organization_id = shop.principal.organization_id
    await store_rows(shop, a_row(organization_id, clock.now(), status=status), a_row(organization_id, clock.now()))
    with pytest.raises(PaymentsUnsettled, match="1 payment is"):
        await close(shop)
    await open_payment(shop.core, shop.principal, a_push())


async def test_nothing_opens_a_closed_organization_and_its_records_are_kept(shop: Shop, clock: FrozenClock) -> None:
    core, organization_id = shop.core, shop.principal.organization_id
    paid = (await open_payment(core, shop.principal, a_payout())).payment
    await send_due(core)
    await shop.call_back(shop.daraja.of("b2c")[0].body["ResultURL"], payout_result())
    user = await create_user(
        core.store,
        core.clock,
        organization_id=organization_id,
        email=EMAIL,
        role=Role.ORG_ADMIN,
        password=PASSWORD,
        actor=OPERATOR,
        seats=seats_of,
    )
    admin = Actor(f"user:{user.user_id}", user.role, user.user_id)
    await give_grant(core.store, clock, organization_id=organization_id, hours=24, reason="Help us", actor=admin)
    invited = await invite(
        core.store,
        clock,
        organization_id=organization_id,
        email="joe@example.com",
        role=Role.USER,
        actor=admin,
        seats=seats_of,
    )
    sessions = Sessions(core.store, core.keyring, core.settings, clock)
    signed_in = await sessions.sign_in(EMAIL, PASSWORD)
    key = await a_key(shop)
    for token in (key, signed_in.access_token.reveal()):
        assert (await core.authentication.principal(token)).organization_id == organization_id

    closed = await close(shop)

    assert (closed.status, closed.closed_at) == ("closed", clock.now())
    for token in (key, signed_in.access_token.reveal()):
        with pytest.raises(Unauthenticated):
            await core.authentication.principal(token)
    with pytest.raises(ShutOut, match="is closed"):
        await sessions.sign_in(EMAIL, PASSWORD)
    with pytest.raises(SessionEnded):
        await sessions.refresh(signed_in.refresh_token.reveal())
    with pytest.raises(InvitationNotGood):
        await accept_invitation(core.store, clock, invited.token.reveal(), PASSWORD, seats=seats_of)
    root = Actor("user:usr_root", Role.SUPER_ADMIN, "usr_root")
    with pytest.raises(NoSupportGrant):
        await require_support_grant(core.store, clock, organization_id=organization_id, actor=root, reads="payments")
    async with core.store.reading(organization_id) as session:
        assert await session.all(select(ShortcodeSecret)) == []
        assert await session.all(select(DataKey)) == []
    assert (await find_payment(core, shop.principal, paid.payment_id)).status is PaymentStatus.SUCCEEDED


async def a_key(shop: Shop) -> str:
    made = await create_key(
        shop.core.store,
        shop.core.keyring,
        shop.core.clock,
        organization_id=shop.principal.organization_id,
        name="assistant",
        role=Role.MANAGER,
        environment=Environment.SIMULATOR,
        expires_at=None,
        tools=None,
        actor=OPERATOR,
    )
    return made.key.reveal()


async def test_nothing_can_be_done_in_it_any_more(shop: Shop) -> None:
    core, organization_id = shop.core, shop.principal.organization_id
    await close(shop)
    where: dict[str, Any] = {"organization_id": organization_id, "actor": OPERATOR}
    acts: list[Callable[[], Awaitable[object]]] = [
        lambda: close(shop),
        lambda: a_key(shop),
        lambda: activate(core, **where),
        lambda: unfreeze(core, **where),
        lambda: standing.freeze(core.store, core.clock, **where),
        lambda: standing.suspend(core.store, core.clock, **where),
        lambda: change_organization(core.store, core.clock, **where, name="Other"),
        lambda: invite(core.store, core.clock, **where, email=EMAIL, role=Role.USER, seats=seats_of),
        lambda: create_user(
            core.store, core.clock, **where, email=EMAIL, role=Role.USER, password=PASSWORD, seats=seats_of
        ),
        lambda: open_payment(core, shop.principal, a_push()),
    ]
    for act in acts:
        with pytest.raises(OrganizationClosed):
            await act()
    for actor in (Actor("user:x", Role.ORG_ADMIN, "x"), Actor("key:x", Role.MANAGER)):
        with pytest.raises(NotAllowed):
            await close(shop, actor)


async def test_of_payments_that_are_asked_for_while_it_is_closed_none_is_left_behind(shop: Shop) -> None:
    """Either one was stored before, and closing is refused, or closing came first, and all after it are."""
    refused: list[MpesaMcpError] = []

    async def attempt(act: Callable[[], Awaitable[object]]) -> None:
        try:
            await act()
        except (OrganizationClosed, PaymentsUnsettled) as no:
            refused.append(no)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for number in range(12):
                request = a_payout(key=f"payout-{number}")
                group.start_soon(attempt, lambda request=request: open_payment(shop.core, shop.principal, request))
                if number in {0, 3}:
                    group.start_soon(attempt, lambda: close(shop))
    async with shop.core.store.reading(shop.principal.organization_id) as session:
        stored = len(await session.all(select(Payment.id)))
        closed = (await get_organization(session)).status == "closed"
    assert closed == (stored == 0)
    assert len(refused) == (13 if closed else 2)
