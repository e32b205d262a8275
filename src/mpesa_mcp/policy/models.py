"""Tables of rules, of what was spent under them, and of changes that wait for a second person."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column
from sqlmodel import Field

from mpesa_mcp.store.tables import OrganizationTable, cents, moment


class SpendRule(OrganizationTable, table=True):
    """The rule of one scope, as `policy.words` writes it. Where the organization's own is absent, the default holds."""

    __tablename__ = "spend_rules"

    scope: str = Field(primary_key=True, max_length=60)
    rule: dict[str, Any] = Field(sa_type=JSON)
    changed_at: datetime = moment()
    changed_by: str = Field(max_length=120)


class RuleProposal(OrganizationTable, table=True):
    """A change that loosens something: from `before` to `after` (None: the scope's rule goes), if another agrees."""

    __tablename__ = "rule_proposals"

    id: str = Field(primary_key=True, max_length=40)
    scope: str = Field(max_length=60)
    before: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
    after: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
    status: str = Field(max_length=20)
    proposed_by: str = Field(max_length=120)
    proposed_at: datetime = moment()
    expires_at: datetime = moment()
    decided_by: str | None = Field(default=None, max_length=120)
    decided_at: datetime | None = moment(nullable=True)


class Spending(OrganizationTable, table=True):
    """What one scope's payments of a period come to that moved money or may still; of one recipient, or ('') of all.

    Of a period of Nairobi by when a payment was asked for. Each environment has a budget of its own, so that trying
    things out uses up nothing real. Only `policy.counters` reads and writes it.
    """

    __tablename__ = "spending"

    environment: str = Field(primary_key=True, max_length=20)
    scope: str = Field(primary_key=True, max_length=60)
    recipient: str = Field(primary_key=True, max_length=12)
    window: str = Field(primary_key=True, max_length=5)
    period: str = Field(primary_key=True, max_length=13)
    amount_cents: int = cents()
    payments: int = Field(sa_type=BigInteger)
