"""Invitations: good once, for three days, for one address, and by whoever may grant the role."""

from datetime import timedelta
from functools import partial

import anyio
import pytest

from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.errors import InputError, NotFoundError
from mpesa_mcp.identity import invitations
from mpesa_mcp.identity.invitations import (
    LIFE,
    AlreadyMember,
    HasAnAdmin,
    InvitationNotGood,
    list_invitations,
    revoke_invitation,
)
from mpesa_mcp.identity.models import PLATFORM
from mpesa_mcp.identity.principal import NotAllowed
from mpesa_mcp.identity.users import change_role, deactivate_user, list_users
from mpesa_mcp.store.engine import Store
from mpesa_mcp.values import FrozenClock, Role, Secret

from .factories import OPERATOR, PASSWORD, a_user, acting_as, an_organization

pytestmark = pytest.mark.anyio
EMAIL = "jane@example.com"
invite = partial(invitations.invite, seats=seats_of)
accept_invitation = partial(invitations.accept_invitation, seats=seats_of)


async def test_who_is_invited_chooses_a_password_and_is_a_user(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    invited = await invite(store, clock, organization_id=acme, email=EMAIL, role=Role.MANAGER, actor=OPERATOR)
    made = await accept_invitation(store, clock, invited.token.reveal(), PASSWORD)
    assert (made.organization_id, made.email, made.role) == (acme, EMAIL, Role.MANAGER)
    assert made.created_by == f"invitation:{invited.record.invitation_id}"
    [record] = await list_invitations(store, acme)
    assert record.accepted_at == clock.now()
    with pytest.raises(InvitationNotGood):
        await accept_invitation(store, clock, invited.token.reveal(), PASSWORD)


async def test_an_invitation_ends_with_its_time_and_with_the_next_one(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    first, second = [
        await invite(store, clock, organization_id=acme, email=EMAIL, role=Role.USER, actor=OPERATOR) for _ in range(2)
    ]
    clock.advance(LIFE - timedelta(seconds=1))
    for token in (first.token.reveal(), "nothing of ours"):
        with pytest.raises(InvitationNotGood):
            await accept_invitation(store, clock, token, PASSWORD)
    clock.advance(timedelta(seconds=1))
    with pytest.raises(InvitationNotGood):
        await accept_invitation(store, clock, second.token.reveal(), PASSWORD)
    assert await list_users(store, acme) == []


async def test_a_weak_password_does_not_use_the_invitation_up(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    invited = await invite(store, clock, organization_id=acme, email=EMAIL, role=Role.USER, actor=OPERATOR)
    with pytest.raises(InputError):
        await accept_invitation(store, clock, invited.token.reveal(), Secret("short"))
    await accept_invitation(store, clock, invited.token.reveal(), PASSWORD)


async def test_an_address_that_signs_in_elsewhere_is_found_out_by_nobody_who_invites(
    store: Store, clock: FrozenClock
) -> None:
    acme, globex = await an_organization(store, clock), await an_organization(store, clock, "globex")
    await a_user(store, clock, globex, EMAIL)
    invited = await invite(store, clock, organization_id=acme, email=EMAIL, role=Role.USER, actor=OPERATOR)
    with pytest.raises(InvitationNotGood):
        await accept_invitation(store, clock, invited.token.reveal(), PASSWORD)
    [record] = await list_invitations(store, acme)
    assert record.accepted_at is None


async def test_nobody_invites_to_more_than_they_have(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    manager = await a_user(store, clock, acme, "manager@example.com", Role.MANAGER)
    admin = acting_as(await a_user(store, clock, acme, "admin@example.com"))
    with pytest.raises(NotAllowed):
        await invite(store, clock, organization_id=acme, email=EMAIL, role=Role.ORG_ADMIN, actor=acting_as(manager))
    with pytest.raises(InputError):
        await invite(store, clock, organization_id=acme, email=EMAIL, role=Role.SUPER_ADMIN, actor=admin)
    await invite(store, clock, organization_id=acme, email=EMAIL, role=Role.ORG_ADMIN, actor=admin)


async def test_the_platform_invites_the_first_org_admin_and_nobody_else(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    root = acting_as(await a_user(store, clock, PLATFORM, "root@example.com", Role.SUPER_ADMIN))
    with pytest.raises(NotAllowed):
        await invite(store, clock, organization_id=acme, email=EMAIL, role=Role.MANAGER, actor=root)
    invited = await invite(store, clock, organization_id=acme, email=EMAIL, role=Role.ORG_ADMIN, actor=root)
    await accept_invitation(store, clock, invited.token.reveal(), PASSWORD)
    with pytest.raises(HasAnAdmin):
        await invite(store, clock, organization_id=acme, email="joe@example.com", role=Role.ORG_ADMIN, actor=root)
    with pytest.raises(NotFoundError):
        await invite(store, clock, organization_id="org_none", email=EMAIL, role=Role.ORG_ADMIN, actor=root)


async def test_the_platform_makes_one_org_admin_however_many_it_invites(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    root = acting_as(await a_user(store, clock, PLATFORM, "root@example.com", Role.SUPER_ADMIN))
    mistaken, first = [
        await invite(store, clock, organization_id=acme, email=email, role=Role.ORG_ADMIN, actor=root)
        for email in ("mistaken@example.com", EMAIL)
    ]
    with pytest.raises(InvitationNotGood):
        await accept_invitation(store, clock, mistaken.token.reveal(), PASSWORD)
    # An org_admin who came another way is the first.
    await a_user(store, clock, acme, "admin@example.com")
    with pytest.raises(InvitationNotGood):
        await accept_invitation(store, clock, first.token.reveal(), PASSWORD)


async def test_what_somebody_of_the_platform_made_ends_with_them(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    root = await a_user(store, clock, PLATFORM, "root@example.com", Role.SUPER_ADMIN)
    invited = await invite(store, clock, organization_id=acme, email=EMAIL, role=Role.ORG_ADMIN, actor=acting_as(root))
    await deactivate_user(store, clock, organization_id=PLATFORM, user_id=root.user_id, actor=OPERATOR)
    with pytest.raises(InvitationNotGood):
        await accept_invitation(store, clock, invited.token.reveal(), PASSWORD)
    assert await list_users(store, acme) == []


async def test_who_is_in_already_is_not_invited_and_takes_no_seat(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    joe = await a_user(store, clock, acme, "joe@example.com", Role.USER)
    for _ in range(2):
        with pytest.raises(AlreadyMember, match="already"):
            await invite(
                store, clock, organization_id=acme, email=" JOE@example.com", role=Role.MANAGER, actor=OPERATOR
            )
        await deactivate_user(store, clock, organization_id=acme, user_id=joe.user_id, actor=OPERATOR)
    assert await list_invitations(store, acme) == []


async def test_an_invitation_is_worth_no_more_than_who_invited(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    admin = acting_as(await a_user(store, clock, acme, "admin@example.com"))
    demoted = await a_user(store, clock, acme, "demoted@example.com")
    to_admin, to_user = [
        await invite(store, clock, organization_id=acme, email=email, role=role, actor=acting_as(demoted))
        for email, role in (("a@example.com", Role.ORG_ADMIN), ("b@example.com", Role.USER))
    ]
    await change_role(store, clock, organization_id=acme, user_id=demoted.user_id, role=Role.MANAGER, actor=admin)
    with pytest.raises(InvitationNotGood):
        await accept_invitation(store, clock, to_admin.token.reveal(), PASSWORD)
    await deactivate_user(store, clock, organization_id=acme, user_id=demoted.user_id, actor=admin)
    with pytest.raises(InvitationNotGood):
        await accept_invitation(store, clock, to_user.token.reveal(), PASSWORD)


async def test_an_invitation_that_is_taken_back_is_not_good(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    manager = acting_as(await a_user(store, clock, acme, "manager@example.com", Role.MANAGER))
    invited = await invite(store, clock, organization_id=acme, email=EMAIL, role=Role.ORG_ADMIN, actor=OPERATOR)
    invitation_id = invited.record.invitation_id
    with pytest.raises(NotAllowed):
        await revoke_invitation(store, clock, organization_id=acme, invitation_id=invitation_id, actor=manager)
    for _ in range(2):
        revoked = await revoke_invitation(
            store, clock, organization_id=acme, invitation_id=invitation_id, actor=OPERATOR
        )
        assert revoked.revoked_at == clock.now()
    with pytest.raises(InvitationNotGood):
        await accept_invitation(store, clock, invited.token.reveal(), PASSWORD)


async def test_of_ten_who_accept_at_once_one_becomes_the_user(store: Store, clock: FrozenClock) -> None:
    acme = await an_organization(store, clock)
    invited = await invite(store, clock, organization_id=acme, email=EMAIL, role=Role.USER, actor=OPERATOR)
    refused: list[InvitationNotGood] = []

    async def accept() -> None:
        try:
            await accept_invitation(store, clock, invited.token.reveal(), PASSWORD)
        except InvitationNotGood as used:
            refused.append(used)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(accept)
    assert len(refused) == 9
    assert len(await list_users(store, acme)) == 1
