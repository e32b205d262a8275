"""Somebody knows an attempt's path and none of its ids, and posts without end while the inbox reads."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from mpesa_mcp.app.http import listen, serving
from mpesa_mcp.callbacks.inbox import apply_callback, claim_stored
from mpesa_mcp.callbacks.sidecar import create_sidecar
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments import history
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.hints import MAX_HINTS
from mpesa_mcp.payments.reading import history_of
from mpesa_mcp.payments.replies import conclude_send
from mpesa_mcp.store.callback_log import MAX_CALLBACKS
from mpesa_mcp.values import FrozenClock

from .factories import (
    UNCLEAR,
    Sent,
    a_push,
    accepted,
    apply_due,
    callbacks_stored,
    payment_of,
    send,
    status_of,
    stk_body,
)

pytestmark = pytest.mark.anyio
NO_IDS: dict[str, Any] = {"MerchantRequestID": None, "CheckoutRequestID": None}
FORGED = MAX_CALLBACKS + 4


@pytest.fixture
async def http(core: Core) -> AsyncIterator[httpx2.AsyncClient]:
    listening = listen("127.0.0.1", 0)
    async with (
        serving(create_sidecar(core.store, core.settings, core.clock), listening) as port,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        yield client


@pytest.fixture
def few_alike(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many lines alike a history takes: a fifth of what it is in earnest, and no other."""
    monkeypatch.setattr(history, "MAX_ALIKE", 10)
    return 10


async def post_forged(core: Core, http: httpx2.AsyncClient, sent: Sent, count: int = FORGED, **ids: Any) -> set[int]:
    """Successes with a receipt each, every one read by the inbox before the next comes."""
    answers = set()
    for number in range(count):
        named = {"CheckoutRequestID": f"ws_CO_9{number}_700000001", "MerchantRequestID": f"forged-{number}"} | ids
        body = stk_body(MpesaReceiptNumber=f"SKF00000{number:02d}", **named)
        answers.add((await http.post(sent.path, json=body)).status_code)
        await apply_due(core)
    return answers


async def test_what_waits_for_room_keeps_no_true_result_out(
    core: Core, merchant: Principal, http: httpx2.AsyncClient
) -> None:
    """The reply was lost, so nothing tells the true one from the others: it takes its place among them."""
    sent = await send(core, merchant, a_push(), UNCLEAR)
    assert await post_forged(core, http, sent) == {200}
    counts = Counter(callback.status for callback in await callbacks_stored(core, merchant))
    assert counts == {"unconfirmed": MAX_HINTS, "waiting": MAX_CALLBACKS - MAX_HINTS}
    assert (await http.post(sent.path, json=stk_body())).status_code == 200
    newest = (await callbacks_stored(core, merchant))[-1]
    assert ("ws_CO_1_700000001" in newest.body, newest.status) == (True, "stored")
    assert len(await callbacks_stored(core, merchant)) == MAX_CALLBACKS


async def test_a_result_that_waits_for_room_is_there_still_after_a_flood(
    core: Core, merchant: Principal, http: httpx2.AsyncClient
) -> None:
    sent = await send(core, merchant, a_push(), UNCLEAR)
    await post_forged(core, http, sent, MAX_HINTS)
    assert (await http.post(sent.path, json=stk_body())).status_code == 200
    await post_forged(core, http, sent)
    [true] = [row for row in await callbacks_stored(core, merchant) if "ws_CO_1_700000001" in row.body]
    assert true.status == "waiting"


async def test_a_flood_without_ids_keeps_no_result_of_an_accepted_request_out(
    core: Core, merchant: Principal, http: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    sent = await send(core, merchant, a_push(), accepted())
    clock.advance(timedelta(seconds=1))
    assert await post_forged(core, http, sent, **NO_IDS) == {200}
    assert (await http.post(sent.path, json=stk_body())).status_code == 200
    await apply_due(core)
    payment = await payment_of(core, merchant, sent)
    assert (payment.status, payment.receipt) == ("succeeded", "SKE0000AA1")


async def test_a_result_that_names_our_id_is_thrown_away_for_nobody(
    core: Core, merchant: Principal, http: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    """It came before the reply, so it must be confirmed; forged ones have the places of hints already."""
    sent = await send(core, merchant, a_push())
    await post_forged(core, http, sent, MAX_HINTS, **NO_IDS)
    clock.advance(timedelta(milliseconds=100))
    assert (await http.post(sent.path, json=stk_body())).status_code == 200
    await apply_due(core)
    clock.advance(timedelta(seconds=1))
    await conclude_send(core, sent.claim, sent.attempt_id, accepted())
    while claims := await claim_stored(core, 1):  # one by one: the forged are due first
        await apply_callback(core, claims[0])
    assert await post_forged(core, http, sent, **NO_IDS) == {200}
    [true] = [row for row in await callbacks_stored(core, merchant) if "ws_CO_1_700000001" in row.body]
    assert (true.status, await status_of(core, merchant, sent)) == ("stored", "pending")


async def test_what_waits_makes_room_after_what_was_refused_and_before_what_became_a_hint(
    core: Core, merchant: Principal, http: httpx2.AsyncClient
) -> None:
    sent = await send(core, merchant, a_push(), UNCLEAR)
    await post_forged(core, http, sent, MAX_CALLBACKS - 1)
    await http.post(sent.path, content=b"{}")
    await apply_due(core)
    waiting = MAX_CALLBACKS - 1 - MAX_HINTS
    for gone in (0, 1, 2):
        # Nobody reads these: each costs first the refused one, then one that waits.
        assert (await http.post(sent.path, json=stk_body())).status_code == 200
        counts = Counter(callback.status for callback in await callbacks_stored(core, merchant))
        assert counts == {"unconfirmed": MAX_HINTS, "waiting": waiting - gone, "stored": gone + 1}


@pytest.mark.parametrize("body", [b"{}", stk_body(PhoneNumber=254700000009)], ids=["malformed", "mismatched"])
async def test_the_history_of_a_payment_does_not_grow_with_what_is_posted_about_it(
    core: Core, merchant: Principal, http: httpx2.AsyncClient, clock: FrozenClock, few_alike: int, body: object
) -> None:
    sent = await send(core, merchant, a_push(), accepted())
    clock.advance(timedelta(seconds=1))
    for _ in range(few_alike + 5):
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        assert (await http.post(sent.path, **content)).status_code == 200
        await apply_due(core)
    lines = [
        line for line in await history_of(core, merchant.organization_id, sent.payment_id) if line.event[:4] == "call"
    ]
    assert len(lines) == few_alike + 1
    assert "no more" in (lines[-1].note or "")
    assert [line for line in lines[:-1] if "no more" in (line.note or "")] == []
    # What changes something is always written.
    await http.post(sent.path, json=stk_body())
    await apply_due(core)
    last = (await history_of(core, merchant.organization_id, sent.payment_id))[-1]
    assert (last.event, last.after) == ("success", "succeeded")


async def test_a_result_that_comes_again_and_again_is_noted_so_many_times(
    core: Core, merchant: Principal, http: httpx2.AsyncClient, clock: FrozenClock, few_alike: int
) -> None:
    sent = await send(core, merchant, a_push(), accepted())
    clock.advance(timedelta(seconds=1))
    for _ in range(few_alike + 5):
        await http.post(f"{sent.path}/timeout", content=b"{}")
        await apply_due(core)
    lines = await history_of(core, merchant.organization_id, sent.payment_id)
    unclear = [line for line in lines if line.event == "unclear" and line.after is None]
    assert len(unclear) == few_alike + 1
