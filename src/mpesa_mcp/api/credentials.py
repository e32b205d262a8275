"""Daraja credentials of an organization: set, checked, shown by their last four characters, never by their value."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field, JsonValue

from mpesa_mcp.api.errors import ErrorAnswer
from mpesa_mcp.api.examples import AT, JANE, example
from mpesa_mcp.api.permissions import allow
from mpesa_mcp.api.routes import Call, Calling, PermittedRoute
from mpesa_mcp.api.shapes import Answer, Body, GivenSecret, Moment, Whole
from mpesa_mcp.credentials.check import check_shortcode
from mpesa_mcp.credentials.shortcodes import (
    GivenShortcode,
    ShortcodeRecord,
    ShortcodeUse,
    choose_defaults,
    list_shortcodes,
    mark_secrets,
    open_shortcode,
    remove_shortcode,
    set_shortcode,
)
from mpesa_mcp.credentials.vault import SecretField
from mpesa_mcp.errors import NotFoundError
from mpesa_mcp.values import Environment, Role, Secret, ShortcodeType

router = APIRouter(
    prefix="/organizations/{organization_id}/credentials", tags=["credentials"], route_class=PermittedRoute
)

GivenEnvironment = Annotated[Environment, Field(strict=False)]
Number = Annotated[str, Field(min_length=5, max_length=7, description="5 to 7 digits; a till's store number.")]
_PLACE: dict[str, JsonValue] = {"environment": "simulator", "shortcode": "174379"}


class SecretAnswer(Answer):
    """A sign that a secret is set; `last_four` is null for passwords and for what is short."""

    model_config = example(field="consumer_key", last_four="x7Qd", set_at=AT, set_by=f"user:{JANE}")
    field: SecretField
    last_four: str | None
    set_at: Moment
    set_by: str


class ShortcodeAnswer(Answer):
    model_config = example(
        **_PLACE, type="paybill", default_for=["stk_push"], updated_at=AT, updated_by=f"user:{JANE}", warnings=[]
    )
    environment: Environment
    shortcode: str
    type: ShortcodeType
    till: str | None
    default_for: list[ShortcodeUse]
    updated_at: Moment
    updated_by: str
    secrets: list[SecretAnswer]
    warnings: list[str] = Field(description="What is acceptable and yet likely to hurt; only when it was just set.")


class CheckAnswer(Answer):
    """Whether Daraja knows the consumer key and secret, and what is missing for which tool."""

    model_config = example(**_PLACE, ok=True, missing={"stk_push": ["passkey"]})
    environment: Environment
    shortcode: str
    ok: bool
    reason: str | None
    missing: dict[str, list[str]]


class CredentialsGiven(Body):
    model_config = example(
        **_PLACE,
        type="paybill",
        consumer_key="…",
        consumer_secret="…",
        passkey="…",
        initiator_name="testapi",
        initiator_password="…",
        check=True,
    )
    environment: GivenEnvironment
    shortcode: Number
    type: Annotated[ShortcodeType, Field(strict=False)]
    till: str | None = Field(default=None, max_length=7)
    consumer_key: GivenSecret
    consumer_secret: GivenSecret
    passkey: GivenSecret | None = None
    initiator_name: GivenSecret | None = None
    initiator_password: GivenSecret | None = None
    check_: bool = Field(default=True, alias="check", description="False: stored unchecked, which the audit says.")


class PlaceGiven(Body):
    model_config = example(**_PLACE)
    environment: GivenEnvironment
    shortcode: Number


class DefaultsGiven(Body):
    model_config = example(**_PLACE, uses=["stk_push", "b2c"])
    environment: GivenEnvironment
    shortcode: Number | None = Field(description="Null: no default; then only one shortcode may fit.")
    uses: list[Literal["stk_push", "b2c", "inquiry"]] = Field(min_length=1, max_length=3)


async def _answer(call: Calling, record: ShortcodeRecord) -> ShortcodeAnswer:
    marks = await mark_secrets(call.core.store, call.core.keyring, call.organization_id, record.shortcode_id)
    return ShortcodeAnswer(
        environment=record.environment,
        shortcode=record.shortcode,
        type=record.type,
        till=record.till,
        default_for=sorted(record.default_for),
        updated_at=record.updated_at,
        updated_by=record.updated_by,
        secrets=[SecretAnswer.model_validate(mark) for mark in marks],
        warnings=list(record.warnings),
    )


@router.get("")
@allow(Role.ORG_ADMIN)
async def list_(call: Call) -> Whole[ShortcodeAnswer]:
    """List shortcodes: which secrets are set, their last four characters, when and by whom."""
    found = await list_shortcodes(call.core.store, call.organization_id)
    return Whole(items=[await _answer(call, each) for each in found])


@router.put("", responses={502: {"model": ErrorAnswer, "description": "Daraja could not be asked."}})
@allow(Role.ORG_ADMIN, person=True)
async def put(call: Call, body: CredentialsGiven) -> ShortcodeAnswer:
    """Set a shortcode and all its secrets at once. Daraja is asked first, and refused keys change nothing."""
    given = {field: getattr(body, field.value) for field in SecretField}
    record = await set_shortcode(
        call.core.store,
        call.core.keyring,
        call.core.clock,
        call.core.settings,
        GivenShortcode(
            environment=body.environment,
            shortcode=body.shortcode,
            type=body.type,
            secrets={field: Secret(value.get_secret_value()) for field, value in given.items() if value is not None},
            till=body.till,
        ),
        organization_id=call.organization_id,
        actor=call.actor,
        daraja=call.core.daraja if body.check_ else None,
    )
    return await _answer(call, record)


@router.post("/check")
@allow(Role.ORG_ADMIN, person=True)
async def check(call: Call, body: PlaceGiven) -> CheckAnswer:
    """Fetch a token with the stored keys, which moves nothing; say what is missing for which tool."""
    found = await list_shortcodes(
        call.core.store, call.organization_id, environment=body.environment, shortcode=body.shortcode
    )
    if not found:
        raise NotFoundError("shortcode")
    core = call.core
    opened = await open_shortcode(core.store, core.keyring, core.settings, call.organization_id, found[0].shortcode_id)
    checked = await check_shortcode(core.daraja, opened, certificate_given=core.settings.daraja_certificate is not None)
    return CheckAnswer(
        environment=checked.environment,
        shortcode=checked.shortcode,
        ok=checked.ok,
        reason=checked.reason,
        missing={tool: list(words) for tool, words in checked.missing.items()},
    )


@router.put("/defaults")
@allow(Role.ORG_ADMIN, person=True)
async def put_defaults(call: Call, body: DefaultsGiven) -> Whole[ShortcodeAnswer]:
    """Choose which of several shortcodes collections, payouts and inquiries use in an environment."""
    there = await choose_defaults(
        call.core.store,
        call.core.clock,
        organization_id=call.organization_id,
        environment=body.environment,
        uses=frozenset(ShortcodeUse(use) for use in body.uses),
        shortcode=body.shortcode,
        actor=call.actor,
    )
    return Whole(items=[await _answer(call, each) for each in there])


@router.delete("")
@allow(Role.ORG_ADMIN, person=True)
async def delete(
    call: Call, environment: Environment, shortcode: Annotated[str, Query(min_length=5, max_length=7)]
) -> ShortcodeAnswer:
    """Remove a shortcode and all its secrets."""
    found = await list_shortcodes(call.core.store, call.organization_id, environment=environment, shortcode=shortcode)
    if not found:
        raise NotFoundError("shortcode")
    shown = await _answer(call, found[0])
    await remove_shortcode(
        call.core.store,
        call.core.clock,
        organization_id=call.organization_id,
        environment=environment,
        shortcode=shortcode,
        actor=call.actor,
    )
    return shown
