"""Tables of organizations and API keys. Closed lists are kept as their words; the records turn them back."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import JSON, BigInteger, Column, ForeignKeyConstraint, UniqueConstraint
from sqlmodel import Field

from mpesa_mcp.store.tables import OrganizationTable, moment

# KES 10,000.
CONFIRM_PAYOUTS_FROM_CENTS = 10_000_00


class OrganizationStatus(StrEnum):
    """Where an organization stands with the platform. Only `active` may act; so far nothing sets the others."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    FROZEN = "frozen"
    CLOSED = "closed"

    @property
    def may_act(self) -> bool:
        return self is OrganizationStatus.ACTIVE


class Organization(OrganizationTable, table=True):
    """A tenant. `callback_id` is its random public id in callback paths, where the slug must not appear."""

    __tablename__ = "organizations"
    # Across organizations on purpose: a slug and a callback path must each lead to one of them.
    __table_args__ = (
        UniqueConstraint("slug", name="uq_organizations_slug"),
        UniqueConstraint("callback_id", name="uq_organizations_callback_id"),
    )

    slug: str = Field(max_length=40)
    name: str = Field(max_length=80)
    status: str = Field(max_length=20)
    callback_id: str = Field(max_length=32)
    created_at: datetime = moment()
    # From this amount on, what a callback says of a payout counts only after a question of our own confirmed it.
    confirm_payouts_from_cents: int = Field(
        default=CONFIRM_PAYOUTS_FROM_CENTS,
        sa_type=BigInteger,
        sa_column_kwargs={"server_default": str(CONFIRM_PAYOUTS_FROM_CENTS)},
    )


class ApiKey(OrganizationTable, table=True):
    """A program's key. The key itself is nowhere: `key_hash` is an HMAC, `prefix` is what lists show."""

    __tablename__ = "api_keys"
    __table_args__ = (
        UniqueConstraint("organization_id", "key_hash", name="uq_api_keys_key_hash"),
        ForeignKeyConstraint(["organization_id"], ["organizations.organization_id"], name="fk_api_keys_organization"),
    )

    id: str = Field(primary_key=True, max_length=40)
    name: str = Field(max_length=80)
    prefix: str = Field(max_length=20)
    key_hash: str = Field(max_length=64, index=True)
    role: str = Field(max_length=20)
    environment: str = Field(max_length=20)
    tools: list[str] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
    created_at: datetime = moment()
    created_by: str = Field(max_length=120)
    expires_at: datetime | None = moment(nullable=True)
    revoked_at: datetime | None = moment(nullable=True)
    last_used_at: datetime | None = moment(nullable=True)
