"""The audit: part of the transaction it tells about, and closed to secrets."""

import pytest
from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError, StatementError
from sqlmodel import select

from mpesa_mcp import audit
from mpesa_mcp.audit import AuditEntry
from mpesa_mcp.audit.models import TOPIC
from mpesa_mcp.store.engine import Store, StoreUnavailable
from mpesa_mcp.values import FrozenClock, Secret

pytestmark = pytest.mark.anyio


async def entries(store: Store, organization_id: str) -> list[AuditEntry]:
    async with store.reading(organization_id) as session:
        return list(await session.all(select(AuditEntry)))


async def test_an_entry_is_committed_with_the_act_it_tells_about(store: Store, clock: FrozenClock) -> None:
    async with store.session("org_a") as session:
        audit.record(
            session,
            clock,
            actor="key:key_a",
            action="payment.opened",
            subject="pay_a",
            decision="refused",
            reasons="Above the limit.",
            detail={"amount_cents": 1000, "tools": ["stk_push"]},
        )
    [entry] = await entries(store, "org_a")
    assert entry.at == clock.now()
    assert (entry.decision, entry.reasons, entry.request_id) == ("refused", "Above the limit.", None)
    assert entry.detail == {"amount_cents": 1000, "tools": ["stk_push"]}
    assert await entries(store, "org_b") == []


async def test_an_entry_is_gone_with_the_act_that_failed(store: Store, clock: FrozenClock) -> None:
    with pytest.raises(RuntimeError):
        async with store.session("org_a") as session:
            audit.record(session, clock, actor="key:key_a", action="payment.opened", subject="pay_a")
            await session.flush()
            raise RuntimeError("the act failed")
    assert await entries(store, "org_a") == []


@pytest.mark.parametrize("place", ["detail", "before", "after"])
async def test_a_secret_fails_to_be_written(store: Store, clock: FrozenClock, place: str) -> None:
    leak = {place: {"passkey": Secret("a-passkey-of-the-organization")}}
    with pytest.raises(StatementError) as refused:
        async with store.session("org_a") as session:
            audit.record(session, clock, actor="key:key_a", action="x.done", subject="x", **leak)  # type: ignore[arg-type] # the type refuses it, too
    assert "a-passkey" not in str(refused.value)
    assert await entries(store, "org_a") == []


async def test_an_entry_says_where_the_act_came_from_and_what_it_changed(store: Store, clock: FrozenClock) -> None:
    came = audit.Circumstances(
        client="claude-desktop 1.2.3", address="203.0.113.7", request_id="req_a", trace_id="4bf92f35"
    )
    with audit.under(came):
        async with store.session("org_a") as session:
            audit.record(
                session,
                clock,
                actor="key:key_a",
                action="limit.changed",
                subject="org_a",
                before={"per_day": 10},
                after={"per_day": 20, "kinds": ["b2c"]},
            )
    [entry] = await entries(store, "org_a")
    assert (entry.actor, entry.client, entry.address) == ("key:key_a", "claude-desktop 1.2.3", "203.0.113.7")
    assert (entry.request_id, entry.trace_id) == ("req_a", "4bf92f35")
    assert (entry.before, entry.after) == ({"per_day": 10}, {"per_day": 20, "kinds": ["b2c"]})


async def test_what_a_client_says_of_itself_cannot_fail_the_act_or_hide_in_the_entry(
    store: Store, clock: FrozenClock
) -> None:
    came = audit.Circumstances(client="evil\u202e\x1b[2J client " + "x" * 5_000, address="a" * 500, trace_id="t" * 500)
    with audit.under(came):
        async with store.session("org_a") as session:
            audit.record(session, clock, actor="key:key_a", action="payment.opened", subject="pay_a")
    [entry] = await entries(store, "org_a")
    assert entry.client is not None
    assert entry.client.startswith("evil [2J client xxx")
    assert [len(each or "") for each in (entry.client, entry.address, entry.trace_id)] == [120, 64, 64]


async def test_a_commit_that_records_wakes_the_sealer(store: Store, clock: FrozenClock) -> None:
    token = store.wakeups.token(TOPIC)
    async with store.session("org_a") as session:
        audit.record(session, clock, actor="key:key_a", action="payment.opened", subject="pay_a")
        assert not token.is_set()
        # Other processes look by themselves: on PostgreSQL commits that tell them something wait for each other.
        assert session.topics == set()
    assert token.is_set()


async def test_the_database_refuses_to_change_or_remove_an_entry(store: Store, clock: FrozenClock) -> None:
    async with store.session("org_a") as session:
        audit.record(session, clock, actor="key:key_a", action="payment.opened", subject="pay_a")
    for statement in (update(AuditEntry).values(actor="nobody"), delete(AuditEntry)):
        # On PostgreSQL the application has not even the right to try.
        with pytest.raises((IntegrityError, StoreUnavailable)):
            async with store.session("org_a") as session:
                await session.change(statement)
    [entry] = await entries(store, "org_a")
    assert entry.actor == "key:key_a"
