"""The sealer of a running worker: it follows what is committed, and nobody waits for it."""

import anyio
import pytest
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.app.worker import working
from mpesa_mcp.audit import AuditEntry, AuditSeal
from mpesa_mcp.audit.verification import verify
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import open_store

from .factories import Shop, a_push, make_organization

pytestmark = pytest.mark.anyio


async def unsealed(shop: Shop, organization_id: str) -> set[str]:
    async with shop.core.store.reading(organization_id) as session:
        entries = set(await session.all(select(col(AuditEntry.id))))
        return entries - set(await session.all(select(col(AuditSeal.entry_id))))


async def sealed_soon(shop: Shop, organization_id: str) -> None:
    """Looks after each commit until every entry has its seal."""
    with anyio.fail_after(20):
        while True:
            token = shop.core.store.wakeups.token("a look")
            if not await unsealed(shop, organization_id):
                return
            await shop.core.store.wakeups.wait(token, 0.02)


async def test_a_payments_intake_does_not_wait_for_the_sealer(shop: Shop) -> None:
    """No sealer runs at all: the payment is taken, its entry waits, and a sealer that comes later links it."""
    organization_id = shop.principal.organization_id
    opened = await open_payment(shop.core, shop.principal, a_push())
    async with shop.core.store.reading(organization_id) as session:
        entries = await session.all(select(AuditEntry).where(AuditEntry.subject == opened.payment.payment_id))
    assert [entry.action for entry in entries] == ["payment.opened"]
    assert {entry.id for entry in entries} <= await unsealed(shop, organization_id)
    async with working(shop.core):
        await sealed_soon(shop, organization_id)


async def test_entries_of_every_organization_are_sealed_while_the_worker_runs(shop: Shop) -> None:
    async with working(shop.core):
        other = await make_organization(shop.core, "other")
        for principal in (shop.principal, other):
            await open_payment(shop.core, principal, a_push())
        for principal in (shop.principal, other):
            await sealed_soon(shop, principal.organization_id)
    for principal in (shop.principal, other):
        assert (await verify(shop.core.store, shop.core.clock, principal.organization_id)).intact


async def test_what_another_process_commits_is_sealed_too(shop: Shop, settings: Settings) -> None:
    elsewhere = open_store(settings.effective_database_url)
    async with working(shop.core):
        await sealed_soon(shop, shop.principal.organization_id)
        async with elsewhere.session(shop.principal.organization_id) as session:
            audit.record(session, shop.core.clock, actor="operator:ann", action="key.revoked", subject="key_1")
        await sealed_soon(shop, shop.principal.organization_id)
    await elsewhere.close()
