"""What is asked of a running program while its database is in trouble, and what must hold when the trouble is over."""

import itertools
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import anyio
import httpx2
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult
from sqlalchemy import func
from sqlmodel import col, select

from mpesa_mcp.app.local import LocalPlatform
from mpesa_mcp.callbacks.models import Callback
from mpesa_mcp.identity.key_text import new_text
from mpesa_mcp.payments.models import Attempt, Inquiry
from mpesa_mcp.payments.schedule import SEND_LEASE
from mpesa_mcp.values import Environment, new_id, sha256_hex
from mpesa_mcp.values.ids import random_hex
from tests.clients import TLS
from tests.clients import connected as client_of
from tests.warm import program

# How long anybody may be kept waiting for an answer: a caller, Safaricom, and whoever watches.
CALL_SECONDS, CALLBACK_SECONDS, HEALTH_SECONDS = 12, 7, 1
LONGER_THAN_A_LEASE_SECONDS = SEND_LEASE.total_seconds() + 25
# Larger than what is left on a page, so that a database without room has none for it.
BODY = {"unreadable": "no word " * 2_500}
_phones = itertools.count(100)


@asynccontextmanager
async def connected(platform: LocalPlatform) -> AsyncIterator[tuple[httpx2.AsyncClient, Client]]:
    """Plain HTTP and an MCP client, both with the platform's key."""
    headers = {"Authorization": f"Bearer {platform.key.reveal()}"}
    timeout = httpx2.Timeout(10, read=60)
    async with (
        httpx2.AsyncClient(verify=TLS, headers=headers, timeout=timeout, base_url=platform.url) as http,
        client_of(platform.url, platform.key.reveal()) as client,
    ):
        yield http, client


def new_phone() -> str:
    """A number of nobody yet, whose payments succeed."""
    return f"2547000{next(_phones):03d}01"


async def new_callback_path(platform: LocalPlatform) -> str:
    """The path of an attempt that is long over, for callbacks that mean nothing."""
    core, organization = platform.core, platform.organization
    token, now = random_hex(128), core.clock.now()
    inquiry = Inquiry(
        organization_id=organization.organization_id,
        id=new_id("inq"),
        kind="balance",
        status="expired",
        environment="simulator",
        shortcode_id="sc",
        shortcode="174379",
        created_by="key:tester",
        created_at=now,
        updated_at=now,
    )
    async with core.store.session(organization.organization_id) as session:
        session.add(inquiry)
        await session.flush()
        session.add(
            Attempt(
                organization_id=organization.organization_id,
                id=new_id("att"),
                inquiry_id=inquiry.id,
                operation="account_balance",
                callback_token_sha256=sha256_hex(token),
                sent_at=now,
                in_flight_until=now,
                replied_at=now,
                reply="accepted",
            )
        )
    return f"/cb/{organization.callback_id}/{token}"


async def stored(platform: LocalPlatform, *paths: str) -> int:
    """How many callbacks were stored that came by these paths."""
    tokens = [sha256_hex(path.rsplit("/", 1)[1]) for path in paths]
    attempts = select(Attempt.id).where(col(Attempt.callback_token_sha256).in_(tokens))
    wanted = select(func.count(col(Callback.id))).where(col(Callback.attempt_id).in_(attempts))
    async with platform.core.store.reading(platform.organization.organization_id) as session:
        return await session.first(wanted) or 0


async def push(client: Client, phone: str, key: str, *, wait_seconds: int = 0) -> CallToolResult | None:
    """One call; None when it was answered by HTTP 503, which the client knows only as a broken call."""
    arguments = {
        "phone": phone,
        "amount": 10,
        "reference": "INV-1",
        "idempotency_key": key,
        "wait_seconds": wait_seconds,
    }
    try:
        return await client.call_tool("stk_push", arguments)
    except MCPError:
        return None


def code_of(result: CallToolResult | None) -> str:
    """What a call came to: a status, the code of a refusal, or that it was answered by 503."""
    if result is None:
        return "503"
    assert result.structured_content is not None
    if not result.is_error:
        return str(result.structured_content["status"])
    error = result.structured_content["error"]
    assert error["message"].count(".") <= 2
    for word in ("sqlite", "postgres", "SELECT", "INSERT", "payments", "/", "lock"):
        assert word not in error["message"]
    return str(error["code"])


async def movements_to(platform: LocalPlatform, phone: str) -> int:
    async with httpx2.AsyncClient(verify=TLS, base_url=platform.simulator_url) as http:
        return sum(each["party"] == phone for each in (await http.get("/_sim/ledger")).json())


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Asks again and again, as an impatient client does, for longer than a sender's lease.

    A payment that was just taken for sending when the trouble began is looked at again when its lease has ended.
    """
    with anyio.fail_after(LONGER_THAN_A_LEASE_SECONDS):
        while not await is_so():  # noqa: ASYNC110 - it is the other side that changes
            await anyio.sleep(0.02)


async def command(platform: LocalPlatform, *words: str) -> tuple[int, str]:
    """Exit code and stderr of an `mpesa-mcp` process on the platform's database."""
    settings = platform.core.settings
    given = {"DATA_DIR": settings.data_dir, "DATABASE_URL": settings.database_url or ""}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MPESA_MCP_")}
    env = inherited | {f"MPESA_MCP_{name}": str(value) for name, value in given.items()}
    done = await anyio.run_process([*program(), *words], env=env, check=False)
    return done.returncode, done.stderr.decode()


@dataclass
class Seen:
    """What was answered while the trouble lasted."""

    callbacks: Counter[int]
    call: str = ""
    other_call: str = ""
    ready: int = 0
    stored_unsaid: int = 0
    command: tuple[int, str] = (0, "")


async def through(platform: LocalPlatform, trouble: AbstractAsyncContextManager[object], *words: str) -> Seen:
    """Asks everything of the program during the trouble, and holds it to its promises after it.

    During it: everybody is answered in time, one command (`words`) included. After it, without a restart: what was
    acknowledged is stored and nothing else, the same request pays, and pays once.
    """
    path, phone, key = await new_callback_path(platform), new_phone(), new_id("key")
    seen = Seen(Counter())
    async with connected(platform) as (http, client):

        async def post() -> None:
            with anyio.fail_after(CALLBACK_SECONDS):
                seen.callbacks[(await http.post(path, json=BODY)).status_code] += 1

        async def call() -> None:
            with anyio.fail_after(CALL_SECONDS):
                seen.call = code_of(await push(client, phone, key))

        async def call_of_a_stranger() -> None:
            # Whoever was let in a moment ago is remembered; whether this key is anybody's only the database knows.
            headers = {"Authorization": f"Bearer {new_text(Environment.SIMULATOR)}"}
            with anyio.fail_after(CALL_SECONDS):
                answer = await http.post("/mcp", json={}, headers=headers)
                status = answer.status_code
                seen.other_call = answer.json()["error"]["code"] if status == 503 else str(status)

        async def look() -> None:
            with anyio.fail_after(HEALTH_SECONDS):
                assert (await http.get("/healthz")).json() == {"ok": True}
            with anyio.fail_after(CALL_SECONDS):
                seen.ready = (await http.get("/readyz")).status_code

        async with trouble, anyio.create_task_group() as tasks:
            for ask in (post, post, post, call, call_of_a_stranger, look):
                tasks.start_soon(ask)
            if words:
                seen.command = await command(platform, *words)

        async def is_stored() -> bool:
            return (await http.post(path, json=BODY)).status_code == 200

        async def is_paid() -> bool:
            return code_of(await push(client, phone, key, wait_seconds=20)) == "succeeded"

        await until(is_stored)
        seen.callbacks[200] += 1
        await until(is_paid)
        assert (await http.get("/readyz")).status_code == 200
    assert set(seen.callbacks) <= {200, 503}
    # Whoever waited too long was told 503, and may have been stored all the same.
    seen.stored_unsaid = await stored(platform, path) - seen.callbacks.pop(200)
    assert 0 <= seen.stored_unsaid <= seen.callbacks[503]
    assert await movements_to(platform, phone) == 1
    return seen


async def under_load(platform: LocalPlatform, trouble: AbstractAsyncContextManager[object]) -> Counter[str]:
    """Six who post and six who pay without a pause, while the trouble comes and goes; the same promises at the end."""
    phones = {new_phone(): new_id("key") for _ in range(6)}
    paths = [await new_callback_path(platform) for _ in phones]
    told: Counter[str] = Counter()
    over = anyio.Event()
    async with connected(platform) as (http, client):

        async def post(path: str) -> None:
            posted = 0
            while posted < 15 and not over.is_set():
                answer = await http.post(path, json={})
                told[str(answer.status_code)] += 1
                posted += answer.status_code == 200

        async def pay(phone: str, key: str) -> None:
            while not over.is_set():
                told[code_of(await push(client, phone, key))] += 1

        async def many_were_refused() -> bool:
            return told["503"] >= 20

        async def is_paid(phone: str, key: str) -> bool:
            return code_of(await push(client, phone, key, wait_seconds=20)) == "succeeded"

        async with anyio.create_task_group() as tasks:
            for path, (phone, key) in zip(paths, phones.items(), strict=True):
                tasks.start_soon(post, path)
                tasks.start_soon(pay, phone, key)
            async with trouble:
                await until(many_were_refused)
            for phone, key in phones.items():
                await until(partial(is_paid, phone, key))
            over.set()
    # As above: whoever waited too long on a busy machine was told 503, and may have been stored all the same.
    assert 0 <= await stored(platform, *paths) - told["200"] <= told["503"], told
    assert [await movements_to(platform, phone) for phone in phones] == [1] * len(phones)
    return told
