"""Support grants, by which an organization lets the platform read its payments, and that reading."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Path, status
from pydantic import Field

from mpesa_mcp.api.examples import AT, JANE, ORGANIZATION, example
from mpesa_mcp.api.payments import (
    InEnvironment,
    Narrowed,
    PaymentAnswer,
    PaymentId,
    PaymentWithHistory,
    page_read_by,
    payment_read_by,
)
from mpesa_mcp.api.permissions import allow
from mpesa_mcp.api.routes import Call, Calling, PermittedRoute
from mpesa_mcp.api.shapes import NOTHING, Answer, Body, Cursor, Limit, Moment, Nothing, Page
from mpesa_mcp.identity.organizations import organization_of
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.identity.support_grants import (
    MOST_HOURS,
    give_grant,
    page_of_grants,
    require_support_grant,
    revoke_grant,
)
from mpesa_mcp.values import Environment, Role

router = APIRouter(prefix="/organizations/{organization_id}", tags=["support"], route_class=PermittedRoute)


class GrantAnswer(Answer):
    """A grant; it stands until it expires or is revoked."""

    model_config = example(
        grant_id="sup_01kb0e6f2j5p8t1wb4x7z9c3mr",
        organization_id=ORGANIZATION,
        reason="A payout of Monday cannot be found.",
        given_by=f"user:{JANE}",
        given_at=AT,
        expires_at="2026-11-25T12:30:00Z",
    )
    grant_id: str
    organization_id: str
    reason: str
    given_by: str
    given_at: Moment
    expires_at: Moment
    revoked_at: Moment | None
    revoked_by: str | None


class NewGrant(Body):
    model_config = example(hours=4, reason="A payout of Monday cannot be found.")
    hours: int = Field(ge=1, le=MOST_HOURS)
    reason: str = Field(min_length=3, max_length=200)


async def _reader(call: Calling, environment: Environment | None, reads: str) -> Principal:
    """Somebody of the platform, as a reader of this organization, told in its audit. Raises NoSupportGrant."""
    await require_support_grant(
        call.core.store, call.core.clock, organization_id=call.organization_id, actor=call.actor, reads=reads
    )
    organization = await organization_of(call.core.store, call.organization_id)
    return replace(
        call.principal,
        organization_id=call.organization_id,
        environment=environment or organization.default_environment,
    )


@router.get("/support-grants")
@allow(Role.ORG_ADMIN, platform=True)
async def list_(call: Call, limit: Limit = 50, cursor: Cursor = None) -> Page[GrantAnswer]:
    """List support grants, newest first."""
    page = await page_of_grants(call.core.store, call.organization_id, limit=limit, cursor=cursor)
    return Page(items=[GrantAnswer.model_validate(each) for each in page.items], next_cursor=page.next_cursor)


@router.post("/support-grants", status_code=status.HTTP_201_CREATED)
@allow(Role.ORG_ADMIN, person=True)
async def give(call: Call, body: NewGrant) -> GrantAnswer:
    """Let the platform's people read the organization's payments for so many hours. Each reading is in the audit."""
    given = await give_grant(
        call.core.store,
        call.core.clock,
        organization_id=call.organization_id,
        hours=body.hours,
        reason=body.reason,
        actor=call.actor,
    )
    return GrantAnswer.model_validate(given)


@router.post("/support-grants/{grant_id}/revoke")
@allow(Role.ORG_ADMIN, person=True)
async def revoke(call: Call, grant_id: Annotated[str, Path(max_length=80)], _body: Nothing = NOTHING) -> GrantAnswer:
    """Take a grant back. Again, or after its time: changes nothing."""
    revoked = await revoke_grant(
        call.core.store, call.core.clock, organization_id=call.organization_id, grant_id=grant_id, actor=call.actor
    )
    return GrantAnswer.model_validate(revoked)


@router.get("/payments")
@allow(platform=True, person=True)
async def list_payments(
    call: Call, asked: Annotated[Narrowed, Depends()], environment: InEnvironment = None
) -> Page[PaymentAnswer]:
    """List an organization's payments while its support grant stands."""
    return await page_read_by(call.core, await _reader(call, environment, "payments"), asked)


@router.get("/payments/{payment_id}")
@allow(platform=True, person=True)
async def read_payment(call: Call, payment_id: PaymentId, environment: InEnvironment = None) -> PaymentWithHistory:
    """Read one payment of an organization, and what happened to it, while its support grant stands."""
    return await payment_read_by(call.core, await _reader(call, environment, f"payment {payment_id}"), payment_id)
