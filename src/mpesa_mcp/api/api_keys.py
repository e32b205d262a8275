"""API keys of the caller's organization. A key is answered once, when it is made or rotated."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, status
from pydantic import Field

from mpesa_mcp.api.examples import AT, JANE, KEY, NEXT_DAY, example
from mpesa_mcp.api.permissions import allow
from mpesa_mcp.api.routes import Call, Calling, PermittedRoute
from mpesa_mcp.api.shapes import Answer, Body, Cursor, GivenRole, Limit, Moment, Page
from mpesa_mcp.credentials.shortcodes import default_environment
from mpesa_mcp.identity.api_keys import KeyRecord, NewKey, create_key, page_keys, revoke_key, rotate_key
from mpesa_mcp.policy.succession import take_over_rule
from mpesa_mcp.values import Environment, Role

router = APIRouter(prefix="/api-keys", tags=["API keys"], route_class=PermittedRoute)

KeyId = Annotated[str, Path(max_length=80, description="The key's id or its shown prefix; never the key itself.")]


class KeyAnswer(Answer):
    model_config = example(
        key_id=KEY,
        name="my assistant",
        prefix="mpk_sim_7Qd2mV9x",
        role="manager",
        environment="simulator",
        usable=True,
        created_at=AT,
        created_by=f"user:{JANE}",
        last_used_at=NEXT_DAY,
    )
    key_id: str
    name: str
    prefix: str
    role: Role
    environment: Environment
    tools: list[str] | None = Field(description="Null: every tool of the role.")
    usable: bool
    created_at: Moment
    created_by: str
    expires_at: Moment | None
    revoked_at: Moment | None
    last_used_at: Moment | None
    replaced_by: str | None
    exposed_at: Moment | None = Field(description="When it was seen where others can read it. Rotate it.")


class NewKeyAnswer(KeyAnswer):
    model_config = example(key="mpk_sim_7Qd2mV9x…", last_used_at=None)
    key: str = Field(description="Shown this once.")


class KeyWanted(Body):
    model_config = example(name="my assistant", role="manager", environment="simulator")
    name: str = Field(min_length=1, max_length=80)
    role: GivenRole
    environment: Annotated[Environment, Field(strict=False)] | None = Field(
        default=None, description="By default the only one the organization has credentials for."
    )
    tools: list[str] | None = Field(default=None, max_length=50)
    expires_days: int | None = Field(default=None, ge=1, le=3650)


class Rotation(Body):
    model_config = example(overlap_hours=24)
    overlap_hours: int = Field(default=24, ge=0, le=720, description="How long the old key goes on working.")


def _answer(call: Calling, key: KeyRecord) -> KeyAnswer:
    return KeyAnswer(
        key_id=key.key_id,
        name=key.name,
        prefix=key.prefix,
        role=key.role,
        environment=key.environment,
        tools=None if key.tools is None else sorted(key.tools),
        usable=key.is_usable(call.core.clock.now()),
        created_at=key.created_at,
        created_by=key.created_by,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        last_used_at=key.last_used_at,
        replaced_by=key.replaced_by,
        exposed_at=key.exposed_at,
    )


def _new(call: Calling, made: NewKey) -> NewKeyAnswer:
    return NewKeyAnswer.model_validate({**dict(_answer(call, made.record)), "key": made.key.reveal()})


@router.get("")
@allow(Role.ORG_ADMIN)
async def list_(call: Call, limit: Limit = 50, cursor: Cursor = None) -> Page[KeyAnswer]:
    """List keys, newest first, revoked ones too."""
    page = await page_keys(call.core.store, call.organization_id, limit=limit, cursor=cursor)
    return Page(items=[_answer(call, each) for each in page.items], next_cursor=page.next_cursor)


@router.post("", status_code=status.HTTP_201_CREATED)
@allow(Role.ORG_ADMIN, person=True)
async def create(call: Call, body: KeyWanted) -> NewKeyAnswer:
    """Make a key. Its role is at most the maker's own."""
    now = call.core.clock.now()
    made = await create_key(
        call.core.store,
        call.core.keyring,
        call.core.clock,
        organization_id=call.organization_id,
        name=body.name,
        role=body.role,
        environment=body.environment or default_environment,
        expires_at=None if body.expires_days is None else now + timedelta(days=body.expires_days),
        tools=body.tools,
        actor=call.actor,
    )
    return _new(call, made)


@router.post("/{key_id}/rotate", status_code=status.HTTP_201_CREATED)
@allow(Role.ORG_ADMIN, person=True)
async def rotate(call: Call, key_id: KeyId, body: Rotation) -> NewKeyAnswer:
    """Make a key like this one, which stops working after the overlap."""
    made = await rotate_key(
        call.core.store,
        call.core.keyring,
        call.core.clock,
        organization_id=call.organization_id,
        key_id=key_id,
        overlap=timedelta(hours=body.overlap_hours),
        actor=call.actor,
        take_over=take_over_rule,
    )
    return _new(call, made)


@router.post("/{key_id}/revoke")
@allow(Role.ORG_ADMIN, person=True)
async def revoke(call: Call, key_id: KeyId) -> KeyAnswer:
    """Revoke a key: it stops working with the next call. Again: changes nothing."""
    revoked = await revoke_key(
        call.core.store, call.core.clock, organization_id=call.organization_id, key_id=key_id, actor=call.actor
    )
    return _answer(call, revoked)
