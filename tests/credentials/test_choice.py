"""Choosing a shortcode and an environment: what fits alone is taken, everything else is said."""

from collections.abc import Sequence

import pytest
from sqlalchemy.exc import IntegrityError
from sqlmodel import select

from mpesa_mcp.credentials.models import ShortcodeDefault
from mpesa_mcp.credentials.shortcodes import (
    ShortcodeRecord,
    ShortcodeUnavailable,
    ShortcodeUse,
    choose_defaults,
    choose_shortcode,
    default_environment,
    list_shortcodes,
    remove_shortcode,
)
from mpesa_mcp.errors import Advice, InputError, NotFoundError
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.values import Environment, FrozenClock
from tests.shortcodes import OPERATOR

from .factories import INITIATOR, KEYS, PASSKEY, make_organization, make_shortcode

pytestmark = pytest.mark.anyio


@pytest.fixture
async def acme(store: Store, clock: FrozenClock) -> str:
    return await make_organization(store, clock)


async def chosen(store: Store, organization_id: str, use: ShortcodeUse) -> str:
    async with store.reading(organization_id) as session:
        return (await choose_shortcode(session, environment=Environment.SANDBOX, use=use)).shortcode


async def default_for(
    store: Store, clock: FrozenClock, organization_id: str, shortcode: str | None, *uses: ShortcodeUse
) -> Sequence[ShortcodeRecord]:
    return await choose_defaults(
        store,
        clock,
        organization_id=organization_id,
        environment=Environment.SANDBOX,
        uses=frozenset(uses),
        shortcode=shortcode,
        actor=OPERATOR,
    )


async def test_the_only_shortcode_with_the_secrets_needed_is_chosen(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    await make_shortcode(store, keyring, clock, settings, acme, shortcode="174379", secrets={**KEYS, **PASSKEY})
    await make_shortcode(store, keyring, clock, settings, acme, shortcode="600000", secrets={**KEYS, **INITIATOR})
    assert await chosen(store, acme, ShortcodeUse.STK_PUSH) == "174379"
    assert await chosen(store, acme, ShortcodeUse.B2C) == "600000"


@pytest.mark.parametrize(
    ("use", "tool", "words"),
    [
        (ShortcodeUse.STK_PUSH, "stk_push", "passkey"),
        (ShortcodeUse.B2C, "b2c_payment", "initiator name and password"),
    ],
)
async def test_without_a_shortcode_the_answer_names_what_is_missing_and_the_command(
    store: Store, clock: FrozenClock, acme: str, use: ShortcodeUse, tool: str, words: str
) -> None:
    with pytest.raises(ShortcodeUnavailable) as refused:
        await chosen(store, acme, use)
    assert refused.value.code == "credentials_missing"
    assert refused.value.advice is Advice.ASK_A_PERSON
    for part in (tool, words, "mpesa-mcp credentials set --org acme --environment sandbox"):
        assert part in refused.value.message


async def test_a_shortcode_that_lacks_the_secret_is_named_in_the_command(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    await make_shortcode(store, keyring, clock, settings, acme, secrets={**KEYS, **PASSKEY})
    with pytest.raises(ShortcodeUnavailable) as refused:
        await chosen(store, acme, ShortcodeUse.B2C)
    assert "--shortcode 174379" in refused.value.message


async def test_several_that_fit_are_not_chosen_between(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    await make_shortcode(store, keyring, clock, settings, acme, shortcode="174379")
    await make_shortcode(store, keyring, clock, settings, acme, shortcode="600000")
    with pytest.raises(ShortcodeUnavailable) as refused:
        await chosen(store, acme, ShortcodeUse.STK_PUSH)
    assert "several sandbox shortcodes" in refused.value.message


async def test_each_use_takes_its_default_and_never_another_one(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    for number in ("174379", "600000"):
        await make_shortcode(store, keyring, clock, settings, acme, shortcode=number)
    await default_for(store, clock, acme, "174379", ShortcodeUse.STK_PUSH, ShortcodeUse.B2C)
    there = await default_for(store, clock, acme, "600000", ShortcodeUse.B2C)
    assert {each.shortcode: each.default_for for each in there} == {
        "174379": {ShortcodeUse.STK_PUSH},
        "600000": {ShortcodeUse.B2C},
    }
    assert await chosen(store, acme, ShortcodeUse.STK_PUSH) == "174379"
    assert await chosen(store, acme, ShortcodeUse.B2C) == "600000"
    with pytest.raises(ShortcodeUnavailable) as undecided:
        await chosen(store, acme, ShortcodeUse.INQUIRY)
    assert "credentials default --org acme --environment sandbox --shortcode N --for inquiry" in undecided.value.message

    await make_shortcode(store, keyring, clock, settings, acme, shortcode="600000", secrets={**KEYS, **PASSKEY})
    with pytest.raises(ShortcodeUnavailable) as lacking:
        await chosen(store, acme, ShortcodeUse.B2C)
    assert "600000, has no initiator name and password" in lacking.value.message
    await default_for(store, clock, acme, None, ShortcodeUse.B2C)
    assert await chosen(store, acme, ShortcodeUse.B2C) == "174379"


async def test_a_default_needs_the_secrets_of_its_use_and_goes_with_its_shortcode(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    await make_shortcode(store, keyring, clock, settings, acme, secrets={**KEYS, **PASSKEY})
    with pytest.raises(InputError):
        await default_for(store, clock, acme, "174379", ShortcodeUse.STK_PUSH, ShortcodeUse.B2C)
    with pytest.raises(NotFoundError):
        await default_for(store, clock, acme, "600000", ShortcodeUse.STK_PUSH)
    [record] = await list_shortcodes(store, acme)
    assert record.default_for == frozenset()
    await default_for(store, clock, acme, "174379", ShortcodeUse.STK_PUSH)
    await remove_shortcode(
        store, clock, organization_id=acme, environment=Environment.SANDBOX, shortcode="174379", actor=OPERATOR
    )
    async with store.reading(acme) as session:
        assert await session.all(select(ShortcodeDefault)) == []


async def test_the_database_allows_one_default_for_a_use_and_only_of_its_environment(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    ours = await make_shortcode(store, keyring, clock, settings, acme)
    await default_for(store, clock, acme, "174379", ShortcodeUse.B2C)
    for environment in (Environment.SANDBOX, Environment.PRODUCTION):
        row = ShortcodeDefault(
            organization_id=acme,
            environment=environment,
            use=ShortcodeUse.B2C,
            shortcode_id=ours.shortcode_id,
            set_at=clock.now(),
            set_by="nobody",
        )
        with pytest.raises(IntegrityError):
            async with store.session(acme) as session:
                session.add(row)


async def test_a_shortcode_of_another_environment_or_organization_is_never_chosen(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    other = await make_organization(store, clock, "other")
    await make_shortcode(store, keyring, clock, settings, acme, environment=Environment.SIMULATOR)
    await make_shortcode(store, keyring, clock, settings, other)
    with pytest.raises(ShortcodeUnavailable) as refused:
        await chosen(store, acme, ShortcodeUse.STK_PUSH)
    assert "no sandbox shortcode" in refused.value.message


async def test_the_default_environment_is_the_only_one_with_credentials(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    async with store.reading(acme) as session:
        assert await default_environment(session) is Environment.SIMULATOR
    await make_shortcode(store, keyring, clock, settings, acme, shortcode="174379")
    await make_shortcode(store, keyring, clock, settings, acme, shortcode="600000")
    async with store.reading(acme) as session:
        assert await default_environment(session) is Environment.SANDBOX
    await make_shortcode(store, keyring, clock, settings, acme, environment=Environment.PRODUCTION, secrets=KEYS)
    async with store.reading(acme) as session:
        with pytest.raises(InputError) as refused:
            await default_environment(session)
    assert "say which environment" in refused.value.message
