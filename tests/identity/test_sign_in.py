"""Signing in: one answer for every mistake, slow for who guesses, and sessions that end when they should."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from unittest.mock import patch

import anyio
import pytest
from argon2 import PasswordHasher
from sqlmodel import select

from mpesa_mcp.audit import AuditEntry, Circumstances, under
from mpesa_mcp.identity import passwords
from mpesa_mcp.identity.access_tokens import verify
from mpesa_mcp.identity.callers import network_of
from mpesa_mcp.identity.models import Organization, RefreshToken, SignInFailures
from mpesa_mcp.identity.passwords import TooManyPasswords
from mpesa_mcp.identity.sessions import (
    REFRESH_LIFE,
    SessionEnded,
    Sessions,
    SignedIn,
    WrongPassword,
    WrongSignIn,
)
from mpesa_mcp.identity.sign_in_failures import TooManyFailures
from mpesa_mcp.identity.users import UserRecord, deactivate_user
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.values import FrozenClock, Role, Secret

from .factories import OPERATOR, PASSWORD, a_user, an_organization, counted

pytestmark = pytest.mark.anyio
EMAIL = "jane@example.com"
WRONG = Secret("not the password")


@pytest.fixture
def sessions(store: Store, keyring: Keyring, settings: Settings, clock: FrozenClock) -> Sessions:
    return Sessions(store, keyring, settings, clock)


@pytest.fixture
async def jane(store: Store, clock: FrozenClock) -> UserRecord:
    acme = await an_organization(store, clock)
    await a_user(store, clock, acme, "boss@example.com")
    return await a_user(store, clock, acme, EMAIL, Role.MANAGER)


async def actions(store: Store, user: UserRecord) -> list[str]:
    async with store.reading(user.organization_id) as session:
        wanted = select(AuditEntry.action).where(AuditEntry.subject == user.user_id).order_by(AuditEntry.id)
        return list(await session.all(wanted))


@contextmanager
def calling_from(address: str) -> Iterator[None]:
    with under(Circumstances(address=address)):
        yield


async def test_signing_in_gives_a_pair_of_tokens_that_names_the_person(
    sessions: Sessions, jane: UserRecord, store: Store
) -> None:
    signed_in = await sessions.sign_in(" Jane@Example.com ", PASSWORD)
    assert (signed_in.role, signed_in.organization_id) == (Role.MANAGER, jane.organization_id)
    assert signed_in.expires_in == 900
    token = await verify(sessions.keyring, sessions.settings, sessions.clock, signed_in.access_token.reveal())
    assert (token.organization_id, token.user_id, token.generation) == (jane.organization_id, jane.user_id, 1)
    assert (await actions(store, jane))[-1] == "user.signed_in"
    async with store.reading(jane.organization_id) as session:
        row = await session.first(select(RefreshToken))
    assert row is not None
    assert row.token_sha256 != signed_in.refresh_token.reveal()


async def test_every_mistake_is_answered_alike(sessions: Sessions, jane: UserRecord, store: Store) -> None:
    told = set()
    for email, password in ((EMAIL, WRONG), ("nobody@example.com", PASSWORD), ("no address", PASSWORD)):
        with pytest.raises(WrongSignIn) as wrong:
            await sessions.sign_in(email, password)
        told.add((wrong.value.message, wrong.value.code, wrong.value.http_status))
    assert len(told) == 1
    assert (await actions(store, jane))[-1] == "user.sign_in_failed"


@pytest.mark.parametrize("email", [EMAIL, "nobody@example.com"])
async def test_five_failures_slow_an_address_down_whether_it_has_an_account_or_not(
    sessions: Sessions, jane: UserRecord, clock: FrozenClock, email: str
) -> None:
    for _ in range(5):
        with pytest.raises(WrongSignIn):
            await sessions.sign_in(email, WRONG)
    with pytest.raises(TooManyFailures) as slowed:
        await sessions.sign_in(email, PASSWORD)
    assert slowed.value.retry_after_seconds == 30
    clock.advance(timedelta(seconds=31))
    with pytest.raises(WrongSignIn):
        await sessions.sign_in(email, WRONG)
    with pytest.raises(TooManyFailures) as longer:
        await sessions.sign_in(email, WRONG)
    assert longer.value.retry_after_seconds == 60


async def test_who_fails_on_purpose_does_not_keep_the_owner_out(sessions: Sessions, jane: UserRecord) -> None:
    for _ in range(5):
        with calling_from("198.51.100.1"), pytest.raises(WrongSignIn):
            await sessions.sign_in(EMAIL, WRONG)
    # A prefix of IPv6 is one caller, whatever the address.
    for last in range(5):
        with calling_from(f"2001:db8::{last}"), pytest.raises(WrongSignIn):
            await sessions.sign_in(EMAIL, WRONG)
    for address in ("198.51.100.1", "2001:db8::ffff"):
        with calling_from(address), pytest.raises(TooManyFailures):
            await sessions.sign_in(EMAIL, PASSWORD)
    with calling_from("203.0.113.7"):
        await sessions.sign_in(EMAIL, PASSWORD)


async def test_failures_from_many_places_slow_an_account_down_except_where_its_owner_signs_in(
    sessions: Sessions, jane: UserRecord, store: Store, clock: FrozenClock
) -> None:
    with calling_from("203.0.113.7"):
        await sessions.sign_in(EMAIL, PASSWORD)
    tries = sessions._tries  # counting alone: Argon2 thirty times takes seconds
    for place in range(30):
        await tries.count_sign_in(EMAIL, f"198.51.100.{place}")
    with calling_from("198.51.100.99"), pytest.raises(TooManyFailures) as slowed:
        await sessions.sign_in(EMAIL, PASSWORD)
    assert slowed.value.retry_after_seconds == 5
    with calling_from("203.0.113.7"):
        await sessions.sign_in(EMAIL, PASSWORD)


async def test_a_day_later_failures_are_forgotten_for_good(
    sessions: Sessions, jane: UserRecord, store: Store, clock: FrozenClock
) -> None:
    with calling_from("203.0.113.7"):
        await sessions.sign_in(EMAIL, PASSWORD)
    for number in range(3):
        await sessions._tries.count_sign_in(f"nobody{number}@example.com", None)
    clock.advance(timedelta(days=1, seconds=1))
    await sessions._tries.count_sign_in("another@example.com", None)
    async with store.platform_reading() as session:
        left = (await session.execute(select(SignInFailures.succeeded_at))).scalars().all()
    # From where Jane signs in is known a month; beside it there is what was counted just now.
    assert sorted(each is None for each in left) == [False, True, True]


async def test_a_failure_is_as_much_work_whether_the_address_has_an_account_or_not(
    sessions: Sessions, jane: UserRecord, store: Store
) -> None:
    work: dict[str, Counter[str]] = {}
    for email in ("warm@example.com", EMAIL, "nobody@example.com"):
        with counted(store) as work[email], pytest.raises(WrongSignIn):
            await sessions.sign_in(email, WRONG)
    assert work[EMAIL]["commit"] == work["nobody@example.com"]["commit"] > 0
    assert work[EMAIL]["written"] == work["nobody@example.com"]["written"] > 0
    assert work[EMAIL]["read"] == work["nobody@example.com"]["read"] > 0


async def test_ones_own_password_is_counted_by_session_and_apart_from_signing_in(
    sessions: Sessions, jane: UserRecord
) -> None:
    who = {"organization_id": jane.organization_id, "user_id": jane.user_id}
    for _ in range(5):
        await sessions._tries.count_password("ses_stolen")
    with pytest.raises(TooManyFailures):
        await sessions.change_own_password(**who, session_id="ses_stolen", current=PASSWORD, new=WRONG)
    with pytest.raises(WrongPassword):
        await sessions.change_own_password(**who, session_id="ses_own", current=WRONG, new=PASSWORD)
    await sessions.sign_in(EMAIL, PASSWORD)
    await sessions.change_own_password(**who, session_id="ses_own", current=PASSWORD, new=WRONG)
    await sessions.sign_in(EMAIL, WRONG)


@pytest.fixture
def earnest_passwords() -> Iterator[None]:
    """Argon2id as it is outside of tests: it takes long enough to be waited for."""
    with patch.object(passwords, "_HASHER", PasswordHasher()):
        passwords._nobodys.cache_clear()
        yield
    passwords._nobodys.cache_clear()


async def test_few_passwords_wait_to_be_looked_at_and_fewer_of_one_caller(
    sessions: Sessions, jane: UserRecord, earnest_passwords: None
) -> None:
    told: Counter[str] = Counter()
    busy = anyio.Event()

    async def guess(number: int) -> None:
        try:
            with calling_from("198.51.100.1"):
                await sessions.sign_in(f"nobody{number}@example.com", WRONG)
        except TooManyPasswords:
            told["busy"] += 1
            busy.set()
        except WrongSignIn:
            told["wrong"] += 1

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(guess, number)
            await busy.wait()
            with calling_from("203.0.113.7"):
                await sessions.sign_in(EMAIL, PASSWORD)
    assert told["busy"] + told["wrong"] == 20
    assert told["wrong"] < 20


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("198.51.100.1", "198.51.100.1"),
        ("::ffff:198.51.100.1", "198.51.100.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("not an address", "not an address"),
    ],
)
def test_a_caller_is_known_by_what_he_cannot_change_at_will(address: str, network: str) -> None:
    assert network_of(address) == network


async def test_a_success_forgets_the_failures(sessions: Sessions, jane: UserRecord) -> None:
    for _ in range(2):
        for _ in range(4):
            with pytest.raises(WrongSignIn):
                await sessions.sign_in(EMAIL, WRONG)
        await sessions.sign_in(EMAIL, PASSWORD)


async def test_twenty_guesses_at_once_look_at_five_passwords(sessions: Sessions, jane: UserRecord) -> None:
    looked_at: list[str] = []

    async def guess() -> None:
        try:
            await sessions.sign_in(EMAIL, WRONG)
        except WrongSignIn:
            looked_at.append("wrong")
        except TooManyFailures:
            pass

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(guess)
    assert len(looked_at) == 5


async def test_a_refresh_token_is_good_once_and_gives_the_next(sessions: Sessions, jane: UserRecord) -> None:
    first = await sessions.sign_in(EMAIL, PASSWORD)
    second = await sessions.refresh(first.refresh_token.reveal())
    third = await sessions.refresh(second.refresh_token.reveal())
    tokens = {each.refresh_token.reveal() for each in (first, second, third)}
    assert len(tokens) == 3


async def test_a_refresh_token_shown_twice_ends_the_whole_family_and_no_other(
    sessions: Sessions, jane: UserRecord, store: Store
) -> None:
    stolen = await sessions.sign_in(EMAIL, PASSWORD)
    elsewhere = await sessions.sign_in(EMAIL, PASSWORD)
    newest = await sessions.refresh(stolen.refresh_token.reveal())
    for token in (stolen, newest):
        with pytest.raises(SessionEnded):
            await sessions.refresh(token.refresh_token.reveal())
    await sessions.refresh(elsewhere.refresh_token.reveal())
    assert "session.reused" in await actions(store, jane)


async def test_of_ten_who_show_the_same_refresh_token_at_once_at_most_one_goes_on(
    sessions: Sessions, jane: UserRecord
) -> None:
    signed_in = await sessions.sign_in(EMAIL, PASSWORD)
    given: list[SignedIn] = []

    async def show() -> None:
        with suppress(SessionEnded):
            given.append(await sessions.refresh(signed_in.refresh_token.reveal()))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(show)
    assert len(given) == 1
    with pytest.raises(SessionEnded):
        await sessions.refresh(given[0].refresh_token.reveal())


async def test_a_refresh_token_ends_with_its_time_a_sign_out_a_deactivation_or_a_suspension(
    sessions: Sessions, jane: UserRecord, store: Store, clock: FrozenClock
) -> None:
    async def ended(signed_in: SignedIn) -> bool:
        try:
            await sessions.refresh(signed_in.refresh_token.reveal())
        except SessionEnded:
            return True
        return False

    signed_out, kept = [await sessions.sign_in(EMAIL, PASSWORD) for _ in range(2)]
    await sessions.sign_out(signed_out.refresh_token.reveal())
    await sessions.sign_out("nothing of ours")
    assert await ended(signed_out)
    late = await sessions.sign_in(EMAIL, PASSWORD)
    clock.advance(REFRESH_LIFE)
    assert await ended(late)
    assert await ended(kept)
    signed_in = await sessions.sign_in(EMAIL, PASSWORD)
    for status in ("suspended", "active"):
        async with store.session(jane.organization_id) as session:
            organization = await session.lock(Organization, jane.organization_id)
            assert organization is not None
            organization.status = status
        assert await ended(signed_in) == (status == "suspended")
    signed_in = await sessions.sign_in(EMAIL, PASSWORD)
    await deactivate_user(store, clock, organization_id=jane.organization_id, user_id=jane.user_id, actor=OPERATOR)
    assert await ended(signed_in)
