"""Organizations: names, slugs, and one answer for what is not there."""

from datetime import timedelta

import anyio
import pytest
from sqlmodel import select

from mpesa_mcp.audit import AuditEntry
from mpesa_mcp.errors import InputError, NotFoundError
from mpesa_mcp.identity.models import OrganizationStatus
from mpesa_mcp.identity.organizations import (
    SlugTaken,
    create_organization,
    get_organization,
    list_all,
    organization_by_slug,
)
from mpesa_mcp.store.engine import Store
from mpesa_mcp.values import FrozenClock

pytestmark = pytest.mark.anyio
OPERATOR = "operator:tester"


async def test_an_organization_is_found_by_its_slug_and_lists_keep_the_order_of_making(
    store: Store, clock: FrozenClock
) -> None:
    made = []
    for slug in ("zebra", "acme"):
        made.append(await create_organization(store, clock, name=slug.title(), slug=slug, actor=OPERATOR))
        clock.advance(timedelta(seconds=1))
    assert await organization_by_slug(store, "acme") == made[1]
    assert await list_all(store) == made
    assert made[0].status is OrganizationStatus.ACTIVE
    assert made[0].organization_id.startswith("org_")
    async with store.reading(made[0].organization_id) as session:
        assert await get_organization(session) == made[0]


async def test_the_callback_id_is_random_hex_and_tells_nothing_of_the_organization(
    store: Store, clock: FrozenClock
) -> None:
    one = await create_organization(store, clock, name="One", slug="one", actor=OPERATOR)
    two = await create_organization(store, clock, name="Two", slug="two", actor=OPERATOR)
    assert one.callback_id != two.callback_id
    assert len(one.callback_id) == 32
    assert set(one.callback_id) <= set("0123456789abcdef")


async def test_a_taken_slug_is_refused_even_when_two_ask_at_once(store: Store, clock: FrozenClock) -> None:
    outcomes: list[str] = []

    async def ask() -> None:
        try:
            await create_organization(store, clock, name="Acme", slug="acme", actor=OPERATOR)
            outcomes.append("made")
        except SlugTaken:
            outcomes.append("taken")

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(ask)
    assert sorted(outcomes) == ["made", "taken", "taken", "taken"]
    assert len(await list_all(store)) == 1


@pytest.mark.parametrize("slug", ["a", "1st", "-a", "Acme", "a b", "a_b", "a" * 41, "acme\n", "", "ácme"])
async def test_a_slug_outside_the_rule_is_refused(store: Store, clock: FrozenClock, slug: str) -> None:
    with pytest.raises(InputError) as refused:
        await create_organization(store, clock, name="Acme", slug=slug, actor=OPERATOR)
    assert refused.value.field == "slug"
    assert await list_all(store) == []


@pytest.mark.parametrize("name", ["", "   ", "a\tb", "a\u202eb", "\u200b", "x" * 81])
async def test_a_name_nobody_could_read_is_refused(store: Store, clock: FrozenClock, name: str) -> None:
    with pytest.raises(InputError) as refused:
        await create_organization(store, clock, name=name, slug="acme", actor=OPERATOR)
    assert refused.value.field == "name"


async def test_an_unknown_slug_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError):
        await organization_by_slug(store, "nobody")


async def test_making_an_organization_is_audited_inside_it(store: Store, clock: FrozenClock) -> None:
    made = await create_organization(store, clock, name=" Acme Ltd ", slug="acme", actor=OPERATOR)
    async with store.reading(made.organization_id) as session:
        [entry] = await session.all(select(AuditEntry))
    assert (entry.actor, entry.action, entry.subject) == (OPERATOR, "organization.created", made.organization_id)
    assert entry.detail == {"slug": "acme", "name": "Acme Ltd"}
