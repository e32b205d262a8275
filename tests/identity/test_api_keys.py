"""API keys: what they look like, what is kept of them, and when they stop opening the door."""

from datetime import timedelta
from typing import NoReturn

import anyio
import pytest
from sqlalchemy import update
from sqlmodel import col, select

from mpesa_mcp.audit import AuditEntry
from mpesa_mcp.errors import InputError, NotFoundError
from mpesa_mcp.identity.api_keys import NewKey, create_key, list_keys, revoke_key
from mpesa_mcp.identity.authentication import Authentication
from mpesa_mcp.identity.models import ApiKey, Organization
from mpesa_mcp.identity.organizations import create_organization
from mpesa_mcp.identity.principal import Principal, Unauthenticated
from mpesa_mcp.identity.users import access_topic
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store, StoreUnavailable
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.values import Environment, FrozenClock, Role

from .factories import OPERATOR, counted

pytestmark = pytest.mark.anyio


@pytest.fixture
async def acme(store: Store, clock: FrozenClock) -> str:
    return (await create_organization(store, clock, name="Acme", slug="acme", actor=OPERATOR.name)).organization_id


async def make_key(
    store: Store,
    keyring: Keyring,
    clock: FrozenClock,
    organization_id: str,
    *,
    environment: Environment = Environment.SIMULATOR,
    role: Role = Role.MANAGER,
    tools: list[str] | None = None,
    lives: timedelta | None = None,
    name: str = "assistant",
) -> NewKey:
    return await create_key(
        store,
        keyring,
        clock,
        organization_id=organization_id,
        name=name,
        role=role,
        environment=environment,
        expires_at=None if lives is None else clock.now() + lives,
        tools=tools,
        actor=OPERATOR,
    )


async def whom(store: Store, keyring: Keyring, clock: FrozenClock, text: str) -> Principal:
    """Whom a key stands for, to somebody who has not seen it before."""
    return await Authentication(store, keyring, Settings(), clock).principal(text)


@pytest.mark.parametrize(
    ("environment", "prefix"),
    [
        (Environment.SIMULATOR, "mpk_sim_"),
        (Environment.SANDBOX, "mpk_test_"),
        (Environment.PRODUCTION, "mpk_live_"),
    ],
)
async def test_a_key_says_its_environment_and_authenticates_as_what_it_was_made_for(
    store: Store, keyring: Keyring, clock: FrozenClock, acme: str, environment: Environment, prefix: str
) -> None:
    made = await make_key(store, keyring, clock, acme, environment=environment, tools=["stk_push", "get_payment"])
    text = made.key.reveal()
    assert text.startswith(prefix)
    assert len(text) == len(prefix) + 38
    assert made.record.prefix == text[: len(prefix) + 8]
    assert await whom(store, keyring, clock, text) == Principal(
        organization_id=acme,
        actor=f"key:{made.record.key_id}",
        role=Role.MANAGER,
        environment=environment,
        tools=frozenset({"stk_push", "get_payment"}),
        name="assistant",
    )


async def test_the_database_never_holds_the_key(store: Store, keyring: Keyring, clock: FrozenClock, acme: str) -> None:
    made = await make_key(store, keyring, clock, acme)
    body = made.key.reveal().removeprefix("mpk_sim_")
    async with store.reading(acme) as session:
        rows = [*await session.all(select(ApiKey)), *await session.all(select(AuditEntry))]
    stored = " ".join(str(row.model_dump()) for row in rows)
    assert body[:8] in stored  # the shown prefix
    assert body[8:] not in stored
    assert body[8:] not in repr(made)


async def test_a_malformed_key_is_refused_without_asking_the_database(
    store: Store, keyring: Keyring, clock: FrozenClock, acme: str
) -> None:
    good = (await make_key(store, keyring, clock, acme)).key.reveal()
    swapped = good[:-1] + ("a" if good[-1] != "a" else "b")
    relabelled = good.replace("mpk_sim_", "mpk_live_")
    await store.close()
    # The engine would open the file again; a keyring that cannot hash proves that it was never asked.
    for wrong in [
        "",
        "mpk_sim_",
        swapped,
        relabelled,
        good + "0",
        good[:-1],
        f" {good}",
        good.upper(),
        "mpk_sim_" + "é" * 38,
    ]:
        with pytest.raises(Unauthenticated):
            await whom(store, _NeverAsked(), clock, wrong)


class _NeverAsked(Keyring):
    def __init__(self) -> None:
        pass

    async def platform_key(self, name: str) -> None:  # type: ignore[override] # it must not be called at all
        raise AssertionError(f"asked for {name}")


async def test_every_cause_of_refusal_reads_the_same(
    store: Store, keyring: Keyring, clock: FrozenClock, acme: str
) -> None:
    revoked = await make_key(store, keyring, clock, acme)
    await revoke_key(store, clock, organization_id=acme, key_id=revoked.record.key_id, actor=OPERATOR)
    short_lived = await make_key(store, keyring, clock, acme, lives=timedelta(minutes=5))
    relabelled = await make_key(store, keyring, clock, acme)
    async with store.session(acme) as session:
        await session.change(
            update(ApiKey).where(col(ApiKey.id) == relabelled.record.key_id).values(environment=Environment.PRODUCTION)
        )
    clock.advance(timedelta(minutes=5))
    good = (await make_key(store, keyring, clock, acme)).key.reveal()
    refusals = set()
    for text in [revoked.key.reveal(), short_lived.key.reveal(), relabelled.key.reveal(), "nonsense"]:
        with pytest.raises(Unauthenticated) as refused:
            await whom(store, keyring, clock, text)
        refusals.add((refused.value.message, refused.value.code, refused.value.http_status))
    assert len(refusals) == 1
    assert (await whom(store, keyring, clock, good)).organization_id == acme


@pytest.mark.parametrize("status", ["suspended", "closed"])
async def test_keys_of_an_organization_that_may_not_act_are_refused(
    store: Store, keyring: Keyring, clock: FrozenClock, acme: str, status: str
) -> None:
    made = await make_key(store, keyring, clock, acme)
    async with store.session(acme) as session:
        await session.change(update(Organization).values(status=status))
    with pytest.raises(Unauthenticated):
        await whom(store, keyring, clock, made.key.reveal())


async def test_a_key_made_under_another_hashing_key_is_unknown(
    store: Store, keyring: Keyring, clock: FrozenClock, acme: str
) -> None:
    made = await make_key(store, keyring, clock, acme)
    async with store.session(acme) as session:
        await session.change(update(ApiKey).values(key_hash="0" * 64))
    with pytest.raises(Unauthenticated):
        await whom(store, keyring, clock, made.key.reveal())


async def test_use_is_noted_once_a_minute(store: Store, keyring: Keyring, clock: FrozenClock, acme: str) -> None:
    made = await make_key(store, keyring, clock, acme)
    seen = []
    for _ in range(5):
        await whom(store, keyring, clock, made.key.reveal())
        seen.append((await list_keys(store, acme))[0].last_used_at)
        clock.advance(timedelta(seconds=25))
    start = clock.now() - timedelta(seconds=125)
    assert seen == [start] * 3 + [start + timedelta(seconds=75)] * 2


class FullStore(Store):
    """Reads as ever; every write finds the disk full."""

    def __init__(self, store: Store) -> None:
        self.__dict__.update(store.__dict__)

    def session(self, organization_id: str) -> NoReturn:
        raise StoreUnavailable


async def test_a_call_passes_when_its_use_cannot_be_noted(
    store: Store, keyring: Keyring, clock: FrozenClock, acme: str
) -> None:
    made = await make_key(store, keyring, clock, acme)
    principal = await whom(FullStore(store), keyring, clock, made.key.reveal())
    assert principal.organization_id == acme
    assert (await list_keys(store, acme))[0].last_used_at is None


async def test_a_key_of_one_organization_is_neither_listed_nor_revoked_by_another(
    store: Store, keyring: Keyring, clock: FrozenClock, acme: str
) -> None:
    other = (await create_organization(store, clock, name="Other", slug="other", actor=OPERATOR.name)).organization_id
    made = await make_key(store, keyring, clock, acme)
    assert await list_keys(store, other) == []
    with pytest.raises(NotFoundError) as foreign:
        await revoke_key(store, clock, organization_id=other, key_id=made.record.key_id, actor=OPERATOR)
    with pytest.raises(NotFoundError) as absent:
        await revoke_key(store, clock, organization_id=other, key_id="key_none", actor=OPERATOR)
    assert foreign.value.message == absent.value.message
    assert (await whom(store, keyring, clock, made.key.reveal())).organization_id == acme


async def test_revoking_takes_the_id_or_the_shown_prefix_and_is_told_once(
    store: Store, keyring: Keyring, clock: FrozenClock, acme: str
) -> None:
    made = await make_key(store, keyring, clock, acme)
    revoked_at = clock.now()
    await revoke_key(store, clock, organization_id=acme, key_id=made.record.prefix, actor=OPERATOR)
    clock.advance(timedelta(hours=1))
    again = await revoke_key(store, clock, organization_id=acme, key_id=made.record.key_id, actor=OPERATOR)
    assert again.revoked_at == revoked_at
    async with store.reading(acme) as session:
        told = [entry.action for entry in await session.all(select(AuditEntry).order_by(col(AuditEntry.id)))]
    assert told == ["organization.created", "key.created", "key.revoked"]


async def test_what_a_key_may_not_be_is_refused_before_anything_is_stored(
    store: Store, keyring: Keyring, clock: FrozenClock, acme: str
) -> None:
    with pytest.raises(InputError):
        await make_key(store, keyring, clock, acme, role=Role.SUPER_ADMIN)
    with pytest.raises(InputError):
        await make_key(store, keyring, clock, acme, tools=["stk_push", "drop_tables"])
    with pytest.raises(InputError):
        await make_key(store, keyring, clock, acme, tools=[])
    with pytest.raises(InputError):
        await make_key(store, keyring, clock, acme, lives=timedelta(0))
    with pytest.raises(InputError):
        await make_key(store, keyring, clock, acme, name="two\nlines")
    with pytest.raises(NotFoundError):
        await make_key(store, keyring, clock, "org_nobody")
    assert await list_keys(store, acme) == []


async def test_two_processes_agree_on_keys(store: Store, keyring: Keyring, clock: FrozenClock, acme: str) -> None:
    made = await make_key(store, keyring, clock, acme)
    elsewhere = Keyring(store, keyring.keys.newest)
    assert (await whom(store, elsewhere, clock, made.key.reveal())).organization_id == acme


async def test_many_calls_at_once_look_their_key_up_once_and_none_outlives_its_revocation(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings, acme: str
) -> None:
    authentication = Authentication(store, keyring, settings, clock)
    made = await make_key(store, keyring, clock, acme)
    text = made.key.reveal()
    await authentication.principal(text)  # notes its use, and what is needed for all keys is there
    clock.advance(timedelta(seconds=6))
    with counted(store) as alone:
        await authentication.principal(text)
    clock.advance(timedelta(seconds=6))
    with counted(store) as together:
        async with anyio.create_task_group() as calls:
            for _ in range(60):
                calls.start_soon(authentication.principal, text)
    assert together == alone
    assert alone["read"] > 0
    await revoke_key(store, clock, organization_id=acme, key_id=made.record.key_id, actor=OPERATOR)
    refused: list[str] = []

    async def asked() -> None:
        with pytest.raises(Unauthenticated) as problem:
            await authentication.principal(text)
        refused.append(problem.value.code)

    async with anyio.create_task_group() as calls:
        for _ in range(5):
            calls.start_soon(asked)
    assert refused == ["unauthenticated"] * 5


async def test_who_makes_room_for_another_caller_leaves_nothing_behind_and_no_revocation_is_missed(
    store: Store, keyring: Keyring, clock: FrozenClock, acme: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpesa_mcp.identity.authentication._MOST", 2)
    other = (await create_organization(store, clock, name="Other", slug="other", actor=OPERATOR.name)).organization_id
    first, second, third = [await make_key(store, keyring, clock, where) for where in (acme, acme, other)]
    authentication = Authentication(store, keyring, settings, clock)
    for made in (first, second):
        await authentication.principal(made.key.reveal())
    watched = store.wakeups.token(access_topic(acme))
    await authentication.principal(third.key.reveal())
    assert watched.is_set()  # let go of, and whoever still watched it looks again
    await revoke_key(store, clock, organization_id=acme, key_id=second.record.key_id, actor=OPERATOR)
    with pytest.raises(Unauthenticated):
        await authentication.principal(second.key.reveal())
