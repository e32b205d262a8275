"""Checking credentials: Daraja is asked for a token and for nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from sqlmodel import col, select

from mpesa_mcp.audit import AuditEntry
from mpesa_mcp.credentials.check import CredentialCheck, KeysNotAccepted, KeysNotChecked, check_shortcode
from mpesa_mcp.credentials.opening import OpenShortcode, open_shortcode
from mpesa_mcp.daraja.client import DarajaClient, Fetch
from mpesa_mcp.daraja.credential import Certificates
from mpesa_mcp.daraja.operations import DarajaApp, Initiator
from mpesa_mcp.errors import MpesaMcpError
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.values import Environment, FrozenClock, Secret, ShortcodeType

from .factories import KEYS, PASSKEY, make_organization, make_shortcode

pytestmark = pytest.mark.anyio

TOKEN = {"access_token": "a-token-of-twenty-eight-bytes", "expires_in": "3599"}
PAYOUT_TOOLS = ("b2c_payment", "check_balance", "reverse", "transaction_status")


class NoTokens:
    """A check asks Daraja itself: a shared token would prove nothing about the keys."""

    async def current(self, app: DarajaApp, fetch: Fetch) -> Secret:
        raise AssertionError("a shared token was asked for")

    async def forget(self, app: DarajaApp, refused: Secret) -> None:
        raise AssertionError("no shared token was given")


def opened(
    *,
    environment: Environment = Environment.SANDBOX,
    passkey: Secret | None = None,
    initiator: Initiator | None = None,
) -> OpenShortcode:
    return OpenShortcode(
        shortcode_id="sc_a",
        environment=environment,
        shortcode="174379",
        type=ShortcodeType.PAYBILL,
        till=None,
        app=DarajaApp(environment, "https://daraja.example", "key", Secret("secret")),
        passkey=passkey,
        initiator=initiator,
    )


async def check(
    clock: FrozenClock, shortcode: OpenShortcode, answer: httpx2.Response, *, certificate_given: bool = True
) -> tuple[CredentialCheck, list[str]]:
    async with asking(clock, answer) as (client, asked):
        return await check_shortcode(client, shortcode, certificate_given=certificate_given), asked


@asynccontextmanager
async def asking(clock: FrozenClock, answer: httpx2.Response) -> AsyncIterator[tuple[DarajaClient, list[str]]]:
    """A client of a Daraja that gives this answer, and what it was asked."""
    asked: list[str] = []

    def daraja(request: httpx2.Request) -> httpx2.Response:
        asked.append(f"{request.method} {request.url.path}")
        return answer

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(daraja)) as http:
        yield DarajaClient(http, NoTokens(), Certificates(production=None, http=http), clock), asked


async def test_good_keys_are_told_and_only_a_token_is_asked_for(clock: FrozenClock) -> None:
    complete = opened(passkey=Secret("passkey"), initiator=Initiator("testapi", Secret("password")))
    told, asked = await check(clock, complete, httpx2.Response(200, json=TOKEN))
    assert (told.ok, told.reason, told.missing) == (True, None, {})
    assert asked == ["GET /oauth/v1/generate"]


async def test_refused_keys_are_told_in_our_words(clock: FrozenClock) -> None:
    told, _ = await check(clock, opened(), httpx2.Response(400))
    assert not told.ok
    assert told.reason is not None
    assert "consumer key and secret" in told.reason


async def test_an_answer_that_proves_nothing_is_not_called_a_refusal(clock: FrozenClock) -> None:
    told, _ = await check(clock, opened(), httpx2.Response(503, text="<html>busy</html>"))
    assert not told.ok
    assert told.reason is not None
    assert "refused" not in told.reason


async def test_what_is_missing_is_told_for_each_tool(clock: FrozenClock) -> None:
    told, _ = await check(clock, opened(), httpx2.Response(200, json=TOKEN))
    assert told.ok
    assert told.missing["stk_push"] == ("passkey",)
    assert {told.missing[tool] for tool in PAYOUT_TOOLS} == {("initiator name and password",)}


async def test_a_production_initiator_needs_the_certificate(clock: FrozenClock) -> None:
    payer = opened(
        environment=Environment.PRODUCTION,
        passkey=Secret("passkey"),
        initiator=Initiator("testapi", Secret("password")),
    )
    told, _ = await check(clock, payer, httpx2.Response(200, json=TOKEN), certificate_given=False)
    assert set(told.missing) == set(PAYOUT_TOOLS)
    assert "MPESA_MCP_DARAJA_CERTIFICATE" in told.missing["b2c_payment"][0]


async def test_keys_that_daraja_knows_are_set_and_the_audit_says_they_were_tried(
    store: Store, keyring: Keyring, clock: FrozenClock, settings: Settings
) -> None:
    acme = await make_organization(store, clock)
    async with asking(clock, httpx2.Response(200, json=TOKEN)) as (daraja, asked):
        await make_shortcode(store, keyring, clock, settings, acme, daraja=daraja)
    assert asked == ["GET /oauth/v1/generate"]
    await make_shortcode(store, keyring, clock, settings, acme)
    async with store.reading(acme) as session:
        told = await session.all(
            select(AuditEntry).where(AuditEntry.action == "credentials.set").order_by(col(AuditEntry.id))
        )
    assert [entry.detail["checked"] for entry in told if entry.detail] == [True, False]


@pytest.mark.parametrize(
    ("environment", "answer", "refusal", "words"),
    [
        (Environment.SANDBOX, httpx2.Response(400), KeysNotAccepted, "refused this consumer key and secret"),
        (Environment.SANDBOX, httpx2.Response(503), KeysNotChecked, "--no-check"),
        (Environment.SIMULATOR, httpx2.Response(503), KeysNotChecked, "Start it (mpesa-mcp simulator)"),
    ],
)
async def test_a_check_that_does_not_pass_changes_nothing_and_says_why(
    store: Store,
    keyring: Keyring,
    clock: FrozenClock,
    settings: Settings,
    environment: Environment,
    answer: httpx2.Response,
    refusal: type[MpesaMcpError],
    words: str,
) -> None:
    acme = await make_organization(store, clock)
    before = await make_shortcode(store, keyring, clock, settings, acme, environment=environment)
    async with asking(clock, answer) as (daraja, _):
        with pytest.raises(refusal) as refused:
            await make_shortcode(
                store,
                keyring,
                clock,
                settings,
                acme,
                environment=environment,
                secrets={**KEYS, **PASSKEY},
                daraja=daraja,
            )
    assert words in refused.value.message
    assert "Nothing was changed" in refused.value.message
    assert (await open_shortcode(store, keyring, settings, acme, before.shortcode_id)).initiator is not None
