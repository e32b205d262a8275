"""Opened shortcodes in memory: for a second at most, and never after a change."""

from collections.abc import AsyncIterator

import anyio
import pytest

from mpesa_mcp.credentials.opening import OpenedShortcodes
from mpesa_mcp.credentials.shortcodes import ShortcodeUnavailable, destroy_credentials
from mpesa_mcp.credentials.vault import SecretField
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store, open_store
from mpesa_mcp.store.keyring import Keyring, load_master_key
from mpesa_mcp.values import FrozenClock
from tests.shortcodes import OPERATOR

from .factories import KEYS, make_organization, make_shortcode

pytestmark = pytest.mark.anyio


@pytest.fixture
def opened(store: Store, keyring: Keyring, settings: Settings) -> OpenedShortcodes:
    return OpenedShortcodes(store, keyring, settings)


@pytest.fixture
async def elsewhere(settings: Settings) -> AsyncIterator[Store]:
    """The same database, in what might be another process."""
    other = open_store(settings.effective_database_url)
    yield other
    await other.close()


async def test_what_is_opened_twice_is_read_once_and_never_older_than_the_last_change_made_here(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, opened: OpenedShortcodes
) -> None:
    acme = await make_organization(store, clock)
    made = await make_shortcode(store, keyring, clock, settings, acme)
    with anyio.fail_after(2):  # whoever begins to listen on PostgreSQL hears once that something may have changed
        while await opened.open(acme, made.shortcode_id) is not await opened.open(acme, made.shortcode_id):
            pass
    done = anyio.Event()

    async def keep_opening() -> None:
        while not done.is_set():
            await opened.open(acme, made.shortcode_id)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_opening)
        for number in range(20):
            secrets = {**KEYS, SecretField.CONSUMER_SECRET: f"secret number {number}"}
            await make_shortcode(store, keyring, clock, settings, acme, secrets=secrets)
            app = (await opened.open(acme, made.shortcode_id)).app
            assert app.consumer_secret.reveal() == f"secret number {number}"
        done.set()
    async with store.session(acme) as session:
        await destroy_credentials(session, clock, actor=OPERATOR.name)
    with pytest.raises(ShortcodeUnavailable):
        await opened.open(acme, made.shortcode_id)


async def test_what_another_process_changes_is_used_here_within_a_second(
    store: Store,
    keyring: Keyring,
    clock: FrozenClock,
    settings: Settings,
    opened: OpenedShortcodes,
    elsewhere: Store,
) -> None:
    acme = await make_organization(store, clock)
    made = await make_shortcode(store, keyring, clock, settings, acme)
    await opened.open(acme, made.shortcode_id)
    theirs = Keyring(elsewhere, load_master_key(settings))
    secrets = {**KEYS, SecretField.CONSUMER_SECRET: "a newer one"}
    await make_shortcode(elsewhere, theirs, clock, settings, acme, secrets=secrets)
    with anyio.fail_after(3):
        while (await opened.open(acme, made.shortcode_id)).app.consumer_secret.reveal() != "a newer one":  # noqa: ASYNC110
            await anyio.sleep(0.02)
