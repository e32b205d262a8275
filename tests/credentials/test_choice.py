"""Choosing a shortcode and an environment: what fits alone is taken, everything else is said."""

import pytest

from mpesa_mcp.credentials.shortcodes import (
    ShortcodeNeed,
    ShortcodeUnavailable,
    choose_shortcode,
    default_environment,
)
from mpesa_mcp.errors import Advice, InputError
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.values import Environment, FrozenClock

from .factories import INITIATOR, KEYS, PASSKEY, make_organization, make_shortcode

pytestmark = pytest.mark.anyio


@pytest.fixture
async def acme(store: Store, clock: FrozenClock) -> str:
    return await make_organization(store, clock)


async def chosen(store: Store, organization_id: str, need: ShortcodeNeed) -> str:
    async with store.reading(organization_id) as session:
        return (await choose_shortcode(session, environment=Environment.SANDBOX, need=need)).shortcode


async def test_the_only_shortcode_with_the_secrets_needed_is_chosen(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    await make_shortcode(store, keyring, clock, settings, acme, shortcode="174379", secrets={**KEYS, **PASSKEY})
    await make_shortcode(store, keyring, clock, settings, acme, shortcode="600000", secrets={**KEYS, **INITIATOR})
    assert await chosen(store, acme, ShortcodeNeed.PASSKEY) == "174379"
    assert await chosen(store, acme, ShortcodeNeed.INITIATOR) == "600000"


@pytest.mark.parametrize(
    ("need", "tool", "words"),
    [
        (ShortcodeNeed.PASSKEY, "stk_push", "passkey"),
        (ShortcodeNeed.INITIATOR, "b2c_payment", "initiator name and password"),
    ],
)
async def test_without_a_shortcode_the_answer_names_what_is_missing_and_the_command(
    store: Store, clock: FrozenClock, acme: str, need: ShortcodeNeed, tool: str, words: str
) -> None:
    with pytest.raises(ShortcodeUnavailable) as refused:
        await chosen(store, acme, need)
    assert refused.value.code == "credentials_missing"
    assert refused.value.advice is Advice.ASK_A_PERSON
    for part in (tool, words, "mpesa-mcp credentials set --org acme --environment sandbox"):
        assert part in refused.value.message


async def test_a_shortcode_that_lacks_the_secret_is_named_in_the_command(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    await make_shortcode(store, keyring, clock, settings, acme, secrets={**KEYS, **PASSKEY})
    with pytest.raises(ShortcodeUnavailable) as refused:
        await chosen(store, acme, ShortcodeNeed.INITIATOR)
    assert "--shortcode 174379" in refused.value.message


async def test_several_that_fit_are_not_chosen_between(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    await make_shortcode(store, keyring, clock, settings, acme, shortcode="174379")
    await make_shortcode(store, keyring, clock, settings, acme, shortcode="600000")
    with pytest.raises(ShortcodeUnavailable) as refused:
        await chosen(store, acme, ShortcodeNeed.PASSKEY)
    assert "several sandbox shortcodes" in refused.value.message


async def test_a_shortcode_of_another_environment_or_organization_is_never_chosen(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    other = await make_organization(store, clock, "other")
    await make_shortcode(store, keyring, clock, settings, acme, environment=Environment.SIMULATOR)
    await make_shortcode(store, keyring, clock, settings, other)
    with pytest.raises(ShortcodeUnavailable) as refused:
        await chosen(store, acme, ShortcodeNeed.PASSKEY)
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
    assert "--environment" in refused.value.message
