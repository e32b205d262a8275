"""Shortcodes: sealed at rest, replaced as a whole, opened for one organization only."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, update
from sqlmodel import col, select

from mpesa_mcp.audit import AuditEntry
from mpesa_mcp.credentials.models import DataKey, Shortcode, ShortcodeSecret
from mpesa_mcp.credentials.shortcodes import (
    ShortcodeUnavailable,
    ShortcodeUse,
    choose_defaults,
    destroy_credentials,
    list_shortcodes,
    mark_secrets,
    open_shortcode,
    remove_shortcode,
)
from mpesa_mcp.credentials.vault import SecretField
from mpesa_mcp.errors import NotFoundError
from mpesa_mcp.identity.principal import Actor, NotAllowed
from mpesa_mcp.settings import Deployment, Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.values import Environment, FrozenClock, Role, ShortcodeType
from mpesa_mcp.values.sealing import SealBroken, SealingKey
from tests.shortcodes import OPERATOR

from .factories import INITIATOR, KEYS, PASSKEY, make_organization, make_shortcode

pytestmark = pytest.mark.anyio


@pytest.fixture
async def acme(store: Store, clock: FrozenClock) -> str:
    return await make_organization(store, clock)


@pytest.mark.parametrize(
    ("environment", "base_url"),
    [
        (Environment.SIMULATOR, "http://127.0.0.1:8766"),
        (Environment.SANDBOX, "https://sandbox.safaricom.co.ke"),
        (Environment.PRODUCTION, "https://api.safaricom.co.ke"),
    ],
)
async def test_an_opened_shortcode_is_what_was_set(
    store: Store,
    keyring: Keyring,
    clock: FrozenClock,
    settings: Settings,
    acme: str,
    environment: Environment,
    base_url: str,
) -> None:
    made = await make_shortcode(
        store, keyring, clock, settings, acme, environment=environment, secrets={**KEYS, **PASSKEY}
    )
    opened = await open_shortcode(store, keyring, settings, acme, made.shortcode_id)
    assert (opened.environment, opened.app.environment, opened.app.base_url) == (environment, environment, base_url)
    assert opened.app.consumer_key == KEYS[SecretField.CONSUMER_KEY]
    assert opened.app.consumer_secret.reveal() == KEYS[SecretField.CONSUMER_SECRET]
    assert opened.passkey is not None
    assert opened.passkey.reveal() == PASSKEY[SecretField.PASSKEY]
    assert opened.initiator is None
    assert opened.party_b == opened.shortcode == "174379"


async def test_a_till_is_paid_at_its_till_number_and_asked_about_at_its_store_number(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    made = await make_shortcode(
        store, keyring, clock, settings, acme, shortcode="600000", type=ShortcodeType.TILL, till="5500001"
    )
    opened = await open_shortcode(store, keyring, settings, acme, made.shortcode_id)
    assert (opened.shortcode, opened.party_b) == ("600000", "5500001")
    assert opened.initiator is not None
    assert opened.initiator.password.reveal() == INITIATOR[SecretField.INITIATOR_PASSWORD]


async def test_no_secret_is_readable_in_the_database_or_in_a_repr(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    made = await make_shortcode(store, keyring, clock, settings, acme)
    opened = await open_shortcode(store, keyring, settings, acme, made.shortcode_id)
    async with store.reading(acme) as session:
        tables = (Shortcode, ShortcodeSecret, DataKey, AuditEntry)
        rows = [row for table in tables for row in await session.all(select(table))]
    everything = " ".join([*(str(row.model_dump()) for row in rows), repr(made), repr(opened)])
    assert len(rows) > len(tables)
    for value in (*KEYS.values(), *PASSKEY.values(), *INITIATOR.values()):
        # An initiator's name is printed with the Initiator: it is on every statement of the organization.
        assert value not in everything.replace("Initiator(name='testapi'", "")


async def test_setting_a_shortcode_again_replaces_every_secret_and_keeps_its_id(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    first = await make_shortcode(store, keyring, clock, settings, acme)
    clock.advance(timedelta(days=1))
    again = await make_shortcode(
        store, keyring, clock, settings, acme, secrets={**KEYS, SecretField.CONSUMER_SECRET: "a-newer-one"}
    )
    assert again.shortcode_id == first.shortcode_id
    assert (again.created_at, again.updated_at) == (first.created_at, clock.now())
    assert await list_shortcodes(store, acme) == [again]
    opened = await open_shortcode(store, keyring, settings, acme, first.shortcode_id)
    assert opened.app.consumer_secret.reveal() == "a-newer-one"
    assert (opened.passkey, opened.initiator) == (None, None)


async def test_two_organizations_with_one_number_are_strangers(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    other = await make_organization(store, clock, "other")
    ours = await make_shortcode(store, keyring, clock, settings, acme)
    theirs = await make_shortcode(store, keyring, clock, settings, other, secrets=KEYS)
    assert ours.shortcode_id != theirs.shortcode_id
    for foreign in (ours.shortcode_id, "sc_none"):
        with pytest.raises(NotFoundError) as refused:
            await open_shortcode(store, keyring, settings, other, foreign)
        assert "shortcode" in refused.value.message
        with pytest.raises(NotFoundError):
            await mark_secrets(store, keyring, other, foreign)
    await remove_shortcode(
        store, clock, organization_id=other, environment=Environment.SANDBOX, shortcode="174379", actor=OPERATOR
    )
    assert await list_shortcodes(store, acme) == [ours]


async def test_a_sealed_row_moved_to_another_field_does_not_open(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    made = await make_shortcode(store, keyring, clock, settings, acme, secrets={**KEYS, **PASSKEY})
    async with store.session(acme) as session:
        passkey = await session.first(select(ShortcodeSecret).where(col(ShortcodeSecret.field) == "passkey"))
        assert passkey is not None
        await session.change(
            update(ShortcodeSecret).where(col(ShortcodeSecret.field) == "consumer_secret").values(sealed=passkey.sealed)
        )
    with pytest.raises(SealBroken):
        await open_shortcode(store, keyring, settings, acme, made.shortcode_id)


async def test_another_master_key_or_a_lost_data_key_opens_nothing(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    made = await make_shortcode(store, keyring, clock, settings, acme)
    with pytest.raises(SealBroken):
        await open_shortcode(store, Keyring(store, SealingKey.generate()), settings, acme, made.shortcode_id)
    async with store.session(acme) as session:
        await session.change(delete(DataKey))
    with pytest.raises(SealBroken):
        await open_shortcode(store, keyring, settings, acme, made.shortcode_id)


async def test_an_organization_has_one_data_key_of_its_own(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    other = await make_organization(store, clock, "other")
    for organization_id in (acme, other):
        await make_shortcode(store, keyring, clock, settings, organization_id)
        await make_shortcode(store, keyring, clock, settings, organization_id, shortcode="600000")
    wrapped = []
    for organization_id in (acme, other):
        async with store.reading(organization_id) as session:
            [row] = await session.all(select(DataKey))
            wrapped.append(row.wrapped)
    assert wrapped[0] != wrapped[1]


async def test_removing_a_shortcode_removes_its_secrets(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    made = await make_shortcode(store, keyring, clock, settings, acme)
    await make_shortcode(store, keyring, clock, settings, acme, shortcode="600000")
    removed = await remove_shortcode(
        store, clock, organization_id=acme, environment=Environment.SANDBOX, shortcode="174379", actor=OPERATOR
    )
    assert removed.shortcode_id == made.shortcode_id
    async with store.reading(acme) as session:
        left = await session.all(select(ShortcodeSecret))
    assert {row.shortcode_id for row in left} == {(await list_shortcodes(store, acme))[0].shortcode_id}
    with pytest.raises(NotFoundError):
        await remove_shortcode(
            store, clock, organization_id=acme, environment=Environment.SANDBOX, shortcode="174379", actor=OPERATOR
        )


async def test_marks_show_the_last_four_of_long_secrets_and_nothing_of_a_password(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    made = await make_shortcode(store, keyring, clock, settings, acme)
    marks = {mark.field: mark for mark in await mark_secrets(store, keyring, acme, made.shortcode_id)}
    assert {field: mark.last_four for field, mark in marks.items()} == {
        SecretField.CONSUMER_KEY: "-app",
        SecretField.CONSUMER_SECRET: "-app",
        SecretField.PASSKEY: "code",
        SecretField.INITIATOR_NAME: None,
        SecretField.INITIATOR_PASSWORD: None,
    }
    assert {(mark.set_at, mark.set_by) for mark in marks.values()} == {(clock.now(), OPERATOR.name)}


async def test_setting_and_removing_are_audited_without_secrets(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    made = await make_shortcode(store, keyring, clock, settings, acme, secrets=KEYS)
    await remove_shortcode(
        store, clock, organization_id=acme, environment=Environment.SANDBOX, shortcode="174379", actor=OPERATOR
    )
    async with store.reading(acme) as session:
        [_, set_, removed] = await session.all(select(AuditEntry).order_by(col(AuditEntry.id)))
    assert (set_.action, set_.subject, set_.actor) == ("credentials.set", made.shortcode_id, OPERATOR.name)
    assert set_.detail == {
        "environment": "sandbox",
        "shortcode": "174379",
        "secrets": ["consumer_key", "consumer_secret"],
        "checked": False,
    }
    assert (removed.action, removed.subject) == ("credentials.removed", made.shortcode_id)


async def test_a_simulator_shortcode_set_in_development_is_not_opened_in_production(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    made = await make_shortcode(store, keyring, clock, settings, acme, environment=Environment.SIMULATOR)
    production = settings.model_copy(update={"environment": Deployment.PRODUCTION})
    with pytest.raises(ShortcodeUnavailable):
        await open_shortcode(store, keyring, production, acme, made.shortcode_id)


async def test_an_unknown_organization_gets_no_shortcode(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings
) -> None:
    with pytest.raises(NotFoundError):
        await make_shortcode(store, keyring, clock, settings, "org_nobody")


async def test_closing_an_organization_destroys_every_secret_and_keeps_the_numbers(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    other = await make_organization(store, clock, "other")
    made = await make_shortcode(store, keyring, clock, settings, acme)
    theirs = await make_shortcode(store, keyring, clock, settings, other)
    async with store.session(acme) as session:
        await destroy_credentials(session, clock, actor=OPERATOR.name)
    async with store.reading(acme) as session:
        assert [await session.all(select(table)) for table in (ShortcodeSecret, DataKey)] == [[], []]
        told = await session.first(select(AuditEntry).where(AuditEntry.action == "credentials.destroyed"))
    assert told is not None
    assert told.detail == {"shortcodes": ["sandbox 174379"]}
    assert [record.secrets for record in await list_shortcodes(store, acme)] == [frozenset()]
    with pytest.raises(ShortcodeUnavailable):
        await open_shortcode(store, keyring, settings, acme, made.shortcode_id)
    assert (await open_shortcode(store, keyring, settings, other, theirs.shortcode_id)).passkey is not None


@pytest.mark.parametrize("role", [Role.SUPER_ADMIN, Role.MANAGER, Role.USER])
async def test_only_who_administers_the_organization_changes_its_credentials(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str, role: Role
) -> None:
    await make_shortcode(store, keyring, clock, settings, acme)
    somebody = Actor("user:somebody", role, "somebody")
    place: dict[str, Any] = {
        "organization_id": acme,
        "environment": Environment.SANDBOX,
        "shortcode": "174379",
        "actor": somebody,
    }
    with pytest.raises(NotAllowed):
        await make_shortcode(store, keyring, clock, settings, acme, actor=somebody)
    with pytest.raises(NotAllowed):
        await choose_defaults(store, clock, uses=frozenset({ShortcodeUse.B2C}), **place)
    with pytest.raises(NotAllowed):
        await remove_shortcode(store, clock, **place)
