"""Shapes that several nouns share: bodies that refuse what they do not know, answers, pages, moments."""

from datetime import UTC, datetime
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    SecretStr,
    StringConstraints,
    WithJsonSchema,
    field_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from mpesa_mcp.api.examples import example, example_of
from mpesa_mcp.api.validation import fit_to_read
from mpesa_mcp.values import MEMBER_ROLES, Role

Item = TypeVar("Item")

# UTC, as 2026-11-25T08:30:00Z.
Moment = Annotated[
    datetime,
    PlainSerializer(
        lambda at: at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"), return_type=str
    ),
]
Email = Annotated[str, StringConstraints(min_length=3, max_length=254)]
GivenSecret = Annotated[SecretStr, Field(min_length=1, max_length=512)]
# Spoken as text: strict bodies take no text for an enumeration. What cannot be given here is not offered.
GivenRole = Annotated[
    Role,
    Field(strict=False),
    WithJsonSchema({"type": "string", "enum": [role.value for role in MEMBER_ROLES]}),
]
Limit = Annotated[int, Query(ge=1, le=200, description="Most items of a page.")]
Cursor = Annotated[str | None, Query(max_length=80, description="next_cursor of the page before.")]


class Body(BaseModel):
    """What is sent: nothing but its fields, each of its own type."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, strict=True)

    _fit_to_read = field_validator("*", mode="before")(fit_to_read)


class Nothing(Body):
    """The body of a request whose path says all; it may be left out."""

    model_config = example()


# For a route's default: a body that is left out is one without fields.
NOTHING = Nothing()


class Answer(BaseModel):
    """What is answered."""

    model_config = ConfigDict(from_attributes=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        described = handler(schema)
        handler.resolve_ref_schema(described)["examples"] = [example_of(cls)]
        return described


class Page(Answer, Generic[Item]):
    """A part of a list. `next_cursor` is null on the last page."""

    items: list[Item]
    next_cursor: str | None


class Whole(Answer, Generic[Item]):
    """A list that is short by nature: all of it."""

    items: list[Item]
