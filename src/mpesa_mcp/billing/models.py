"""Tables of plans, subscriptions, rate limits and usage."""

from datetime import datetime

from sqlalchemy import JSON, BigInteger
from sqlmodel import Field, SQLModel

from mpesa_mcp.store.tables import OrganizationTable, cents, moment


class PlanColumns(SQLModel):
    """What a plan promises and asks. None is no limit; `tools` None is all of them.

    `calls_per_second` is of the whole organization, `key_calls_per_second` of each of its keys.
    """

    monthly_fee_cents: int = cents()
    included_calls: int | None = Field(default=None, sa_type=BigInteger)
    included_payments: int | None = Field(default=None, sa_type=BigInteger)
    calls_per_second: int | None = None
    key_calls_per_second: int | None = None
    largest_batch: int | None = None
    seats: int | None = None
    tools: list[str] | None = Field(default=None, sa_type=JSON)


class Plan(OrganizationTable, PlanColumns, table=True):
    """What an organization can subscribe to. Never changed: who agreed to one keeps it.

    Its organization is always PLATFORM, so that a plan is made and audited in one transaction.
    """

    __tablename__ = "plans"

    slug: str = Field(primary_key=True, max_length=40)
    name: str = Field(max_length=80)
    created_at: datetime = moment()
    created_by: str = Field(max_length=120)


class Subscription(OrganizationTable, PlanColumns, table=True):
    """What an organization agreed to: a copy of the plan, so that one read tells everything."""

    __tablename__ = "subscriptions"

    plan: str = Field(max_length=40)
    status: str = Field(max_length=20)
    trial_ends_at: datetime | None = moment(nullable=True)
    changed_at: datetime = moment()
    changed_by: str = Field(max_length=120)


class RateLimit(OrganizationTable, table=True):
    """Rate limits that somebody set for one organization; a column that is NULL follows the plan."""

    __tablename__ = "rate_limits"

    calls_per_second: int | None = None
    key_calls_per_second: int | None = None
    changed_at: datetime = moment()
    changed_by: str = Field(max_length=120)


class CallUsage(OrganizationTable, table=True):
    """How often one caller called one tool in one month of Nairobi; refused calls are not among the calls."""

    __tablename__ = "usage_calls"

    month: str = Field(primary_key=True, max_length=7)
    actor: str = Field(primary_key=True, max_length=120)
    tool: str = Field(primary_key=True, max_length=40)
    calls: int = Field(sa_type=BigInteger)
    refused: int = Field(sa_type=BigInteger)


class PaymentUsage(OrganizationTable, table=True):
    """How many payments that one caller asked for in one month of Nairobi have ended so, and the cents that moved.

    The month is that of the asking: a payment stays in it, whenever and however often its outcome changes.
    """

    __tablename__ = "usage_payments"

    month: str = Field(primary_key=True, max_length=7)
    actor: str = Field(primary_key=True, max_length=120)
    environment: str = Field(primary_key=True, max_length=20)
    kind: str = Field(primary_key=True, max_length=20)
    outcome: str = Field(primary_key=True, max_length=20)
    payments: int = Field(sa_type=BigInteger)
    moved_cents: int = cents()
