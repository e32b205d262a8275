"""Rate limits as a client of the server meets them, alone and with a real Redis that goes away and comes back."""

import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult
from sqlmodel import select

from mpesa_mcp.app.local import LocalPlatform, add_simulator_access, local_platform
from mpesa_mcp.audit.reading import EntryFilter, list_entries
from mpesa_mcp.billing.rates import LimiterUnavailable, RateLimited, RateLimiter
from mpesa_mcp.billing.refusals import GATHERING_SECONDS
from mpesa_mcp.billing.states import Act, SubscriptionStatus
from mpesa_mcp.billing.subscriptions import set_rate_limits
from mpesa_mcp.billing.terms import Agreement, Terms
from mpesa_mcp.billing.usage import CallsOfTool, month_of, usage_of
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.values import Role
from tests.clients import MODES, TLS, call, connected, refusal

from .factories import OPERATOR, a_plan, an_organization, subscribe
from .redis_server import RedisServer, redis_server

pytestmark = pytest.mark.anyio
MANY, LIMIT = 50, 10
PAYOUT = {"phone": "0700000002", "amount": 100, "remarks": "Tomatoes", "wait_seconds": 0}
READING = {
    "get_batch",
    "get_limits",
    "get_payment",
    "list_approvals",
    "list_payments",
    "transaction_report",
    "check_balance",
    "transaction_status",
}


@pytest.fixture(scope="module")
async def platform(module_database: dict[str, Any]) -> AsyncIterator[LocalPlatform]:
    async with local_platform(worker=False, **module_database) as started:
        yield started


@asynccontextmanager
async def newcomer(platform: LocalPlatform, slug: str, mode: Any = "auto") -> AsyncIterator[tuple[str, Client]]:
    """A new organization that can collect and pay: its id, and a client with a manager's key."""
    organization_id = await an_organization(platform.core.store, platform.core.clock, slug)
    key = await add_simulator_access(platform.core, organization_id, role=Role.MANAGER)
    async with connected(platform.url, key.reveal(), mode=mode) as client:
        yield organization_id, client


async def limit(platform: LocalPlatform, organization_id: str, **limits: int | None) -> None:
    both = {"calls_per_second": None, "key_calls_per_second": None} | limits
    core = platform.core
    await set_rate_limits(core.store, core.clock, organization_id=organization_id, actor=OPERATOR, **both)


async def at_once(calls: list[Callable[[], Any]]) -> tuple[list[CallToolResult], float]:
    """What came of all of them, and how many seconds they took together."""
    results: list[CallToolResult] = []

    async def one(call: Callable[[], Any]) -> None:
        while True:
            try:
                results.append(await call())
                return
            except MCPError:  # HTTP 503: the database was too busy to say whose key it is, and nothing was done
                await anyio.lowlevel.checkpoint()

    begun = time.monotonic()
    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(one, call)
    return results, time.monotonic() - begun


async def test_what_comes_above_a_keys_limit_is_told_to_wait_and_nothing_is_done(platform: LocalPlatform) -> None:
    core = platform.core
    async with (
        newcomer(platform, "flooding") as (flooding, client),
        connected(platform.url, platform.key.reveal()) as other,
    ):
        await limit(platform, flooding, key_calls_per_second=LIMIT)
        payouts = [
            lambda n=n: client.call_tool("b2c_payment", PAYOUT | {"idempotency_key": f"payout-{n}"})
            for n in range(MANY)
        ]
        elsewhere = [lambda: other.call_tool("list_payments", {})] * 5
        results, seconds = await at_once([*payouts, *elsewhere])
    refused = [result for result in results if result.is_error]
    allowed = MANY - len(refused)
    # None of the other organization's; and no more than fit into the seconds that it took.
    assert LIMIT <= allowed <= LIMIT * (1 + math.ceil(seconds))
    assert refusal(refused[0]) == {
        "code": "rate_limited",
        "advice": "wait",
        "message": "Too many calls at once: wait 1 second, then make this call again. Nothing was done.",
        "retry_after_seconds": 1,
    }
    async with core.store.reading(flooding) as session:
        assert len(await session.all(select(Payment.id))) == allowed
    await core.billing.refusals.write()
    used = await usage_of(core.store, flooding, month_of(core.clock.now()))
    [counted] = used.by_tool
    assert counted == CallsOfTool(counted.actor, "b2c_payment", allowed, len(refused))
    # A flood leaves few entries, and they say how many calls it was.
    page = await list_entries(core.store, flooding, EntryFilter(action="tool.called"), limit=200)
    told = [entry for entry in page.entries if entry.reasons == "rate_limited"]
    assert sum(entry.detail["calls"] for entry in told if entry.detail) == len(refused)
    assert len(told) <= 2 + seconds / GATHERING_SECONDS
    assert (told[0].decision, told[0].address) == ("refused", "127.0.0.1")


async def test_all_keys_of_an_organization_share_its_limit(platform: LocalPlatform) -> None:
    async with newcomer(platform, "sharing") as (sharing, first):
        key = await add_simulator_access(platform.core, sharing, role=Role.USER)
        async with connected(platform.url, key.reveal()) as second:
            await limit(platform, sharing, calls_per_second=LIMIT, key_calls_per_second=1_000)
            both = [lambda: first.call_tool("list_payments", {}), lambda: second.call_tool("list_payments", {})]
            results, seconds = await at_once(both * (MANY // 2))
            allowed = [result for result in results if not result.is_error]
            assert LIMIT <= len(allowed) <= LIMIT * (1 + math.ceil(seconds))
            await limit(platform, sharing, calls_per_second=1_000)
            assert not (await first.call_tool("list_payments", {})).is_error


@pytest.mark.parametrize("mode", MODES)
async def test_what_a_subscription_does_not_allow_is_not_listed_and_says_why(
    platform: LocalPlatform, mode: str
) -> None:
    core = platform.core
    async with newcomer(platform, f"suspended-{mode}", mode) as (organization_id, client):
        everything = {tool.name for tool in (await client.list_tools()).tools}
        paid = await call(client, "b2c_payment", **PAYOUT, idempotency_key="payout-0")
        await subscribe(core.store, core.clock, organization_id, SubscriptionStatus.PAST_DUE)
        assert {tool.name for tool in (await client.list_tools()).tools} == READING | {"stk_push"}
        await subscribe(core.store, core.clock, organization_id, SubscriptionStatus.SUSPENDED)
        assert {tool.name for tool in (await client.list_tools()).tools} == READING
        # Who repeats a request is told what became of it, and not that nothing was sent.
        again = await call(client, "b2c_payment", **PAYOUT, idempotency_key="payout-0")
        assert (again["payment_id"], again["replayed"]) == (paid["payment_id"], True)
        refused = await client.call_tool("b2c_payment", PAYOUT | {"idempotency_key": "payout-1"})
        assert refusal(refused) == {
            "code": "subscription_suspended",
            "advice": "ask_a_person",
            "message": "The organization's subscription is suspended: it can be read, and nothing collected or paid. "
            "Nothing was sent. Ask a person to put it right with the operator of this platform.",
        }
        assert not (await client.call_tool("list_payments", {})).is_error
        await subscribe(core.store, core.clock, organization_id, SubscriptionStatus.ACTIVE)
        await a_plan(core.store, core.clock, f"little-{mode}", tools=frozenset({"list_payments", "b2c_payment"}))
        await subscribe(core.store, core.clock, organization_id, plan=f"little-{mode}")
        assert {tool.name for tool in (await client.list_tools()).tools} == {"list_payments", "b2c_payment"}
        assert refusal(await client.call_tool("get_payment", {"id": "x"}))["code"] == "not_in_plan"
        assert everything == READING | {"stk_push", "b2c_payment", "bulk_payment", "reverse"}


@pytest.fixture
def redis() -> Any:
    with redis_server() as server:
        yield server


def some_terms(key_calls_per_second: int) -> Terms:
    return Terms(agreement=Agreement(), calls_per_second=None, key_calls_per_second=key_calls_per_second)


async def admitted(limiter: RateLimiter, act: Act, *, calls_per_second: int = 1_000_000) -> bool:
    terms = some_terms(calls_per_second)
    try:
        await limiter.admit(organization_id="org_1", actor="key:1", terms=terms, act=act)
    except (RateLimited, LimiterUnavailable):
        return False
    return True


async def test_processes_count_together_in_redis_and_alone_while_it_is_away(redis: RedisServer) -> None:
    processes = [RateLimiter(redis.url), RateLimiter(redis.url)]
    try:
        await count_together(processes)
        redis.stop()
        # What moves no money goes on, as each process counts for itself.
        for process in processes:
            assert [await admitted(process, act) for act in Act] == [True, True, False]
            with pytest.raises(LimiterUnavailable, match=r"Nothing was sent: .* run mpesa-mcp doctor"):
                await process.admit(
                    organization_id="org_1", actor="key:1", terms=some_terms(1_000_000), act=Act.PAY_OUT
                )
            alone = [await admitted(process, Act.READ, calls_per_second=3) for _ in range(20)]
            assert 3 <= sum(alone) < 20
        redis.start()
        with anyio.fail_after(20):
            for process in processes:
                await comes_back(process)
        await count_together(processes)
    finally:
        for process in processes:
            await process.close()


async def comes_back(process: RateLimiter) -> None:
    while True:
        if await admitted(process, Act.PAY_OUT):
            return
        await anyio.sleep(0.05)


async def count_together(processes: list[RateLimiter]) -> None:
    answers: list[bool] = []

    async def one(process: RateLimiter) -> None:
        answers.append(await admitted(process, Act.PAY_OUT, calls_per_second=LIMIT))

    begun = time.monotonic()
    async with anyio.create_task_group() as tasks:
        for _ in range(MANY // 2):
            for process in processes:
                tasks.start_soon(one, process)
    assert LIMIT <= sum(answers) <= LIMIT * (1 + math.ceil(time.monotonic() - begun))


async def test_without_its_limiter_a_server_reads_and_collects_and_pays_nobody(redis: RedisServer) -> None:
    push = {"phone": "0700000001", "amount": 100, "reference": "INV-1", "wait_seconds": 0}
    async with (
        local_platform(worker=False, redis_url=redis.url) as platform,
        connected(platform.url, platform.key.reveal()) as client,
    ):
        assert not (await client.call_tool("b2c_payment", PAYOUT | {"idempotency_key": "payout-1"})).is_error
        redis.stop()
        for n, tool in enumerate(("b2c_payment", "reverse")):
            refused = refusal(await client.call_tool(tool, PAYOUT | {"idempotency_key": f"payout-{n}"}))
            assert (refused["code"], refused["advice"]) == ("limiter_unavailable", "wait")
        # The same over REST: what lets money out, and what stops it.
        bearer = {"Authorization": f"Bearer {platform.key.reveal()}"}
        async with httpx2.AsyncClient(verify=TLS, base_url=f"{platform.url}/api/v1", headers=bearer) as http:
            for path, status in (("/batches", 503), ("/batches/bat_1/resume", 503), ("/batches/bat_1/pause", 404)):
                assert (await http.post(path)).status_code == status, path
            assert (await http.get("/batches")).status_code == 200
        assert not (await client.call_tool("stk_push", push)).is_error
        listed = (await client.call_tool("list_payments", {})).structured_content
        assert listed is not None
        assert sorted(payment["kind"] for payment in listed["payments"]) == ["b2c", "stk_push"]
