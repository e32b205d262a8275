"""The audit: part of the transaction it tells about, and closed to secrets."""

import pytest
from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError, StatementError
from sqlmodel import select

from mpesa_mcp import audit
from mpesa_mcp.audit import AuditEntry
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
            request_id="req_a",
            detail={"amount_cents": 1000, "tools": ["stk_push"]},
        )
    [entry] = await entries(store, "org_a")
    assert entry.at == clock.now()
    assert (entry.decision, entry.reasons, entry.request_id) == ("refused", "Above the limit.", "req_a")
    assert entry.detail == {"amount_cents": 1000, "tools": ["stk_push"]}
    assert await entries(store, "org_b") == []


async def test_an_entry_is_gone_with_the_act_that_failed(store: Store, clock: FrozenClock) -> None:
    with pytest.raises(RuntimeError):
        async with store.session("org_a") as session:
            audit.record(session, clock, actor="key:key_a", action="payment.opened", subject="pay_a")
            await session.flush()
            raise RuntimeError("the act failed")
    assert await entries(store, "org_a") == []


async def test_a_secret_in_the_detail_fails_to_be_written(store: Store, clock: FrozenClock) -> None:
    with pytest.raises(StatementError) as refused:
        async with store.session("org_a") as session:
            leak = {"passkey": Secret("a-passkey-of-the-organization")}
            audit.record(session, clock, actor="key:key_a", action="x.done", subject="x", detail=leak)  # type: ignore[arg-type] # the type refuses it, too
    assert "a-passkey" not in str(refused.value)
    assert await entries(store, "org_a") == []


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
