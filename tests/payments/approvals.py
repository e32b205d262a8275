"""Payments that wait for people, and the people who decide about them."""

from datetime import timedelta
from typing import Any

from sqlalchemy import update
from sqlmodel import col

from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.identity.principal import Actor, Principal
from mpesa_mcp.identity.users import add_user
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.requests import PaymentRequest
from mpesa_mcp.payments.states import PaymentStatus
from mpesa_mcp.policy.approvals import Approval
from mpesa_mcp.values import FrozenClock, Role

from .factories import Shop


async def a_person(
    core: Core, organization_id: str, name: str, *, role: Role = Role.ORG_ADMIN, is_person: bool = True
) -> Actor:
    """Somebody who has signed in; `is_person` False: an assistant has used the session."""
    async with core.store.session(organization_id) as session:
        user = await add_user(
            session,
            core.clock,
            email=f"{name}@{organization_id.replace('_', '-')}.example",
            role=role,
            password_hash="-",
            actor="operator:tester",
            seats=seats_of,
        )
    return Actor(f"user:{user.user_id}", role, user.user_id, is_person)


async def held_payment(shop: Shop, request: PaymentRequest, *, asker: Principal | None = None) -> tuple[str, str]:
    """A payment that waits for people; its id, and its approval's. Whoever is there already was there before."""
    assert isinstance(shop.core.clock, FrozenClock)
    shop.core.clock.advance(timedelta(minutes=1))
    opened = (await open_payment(shop.core, asker or shop.principal, request)).payment
    assert opened.status is PaymentStatus.AWAITING_APPROVAL, opened
    assert opened.approval is not None
    shop.core.clock.advance(timedelta(minutes=1))
    return opened.payment_id, opened.approval.approval_id


async def approval_of(shop: Shop, approval_id: str) -> Approval:
    async with shop.core.store.reading(shop.principal.organization_id) as session:
        row = await session.get(Approval, approval_id)
    assert row is not None
    return row


async def tamper(shop: Shop, payment_id: str, **values: Any) -> None:
    """Changes a row as nothing of ours does."""
    async with shop.core.store.session(shop.principal.organization_id) as session:
        await session.change(update(Payment).where(col(Payment.id) == payment_id).values(**values))
