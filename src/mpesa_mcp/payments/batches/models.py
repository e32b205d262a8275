"""The tables of bulk payouts."""

from datetime import datetime

from sqlalchemy import JSON, ForeignKeyConstraint, Index, UniqueConstraint
from sqlmodel import Field

from mpesa_mcp.store.tables import Due, OrganizationTable, cents, moment


class Batch(OrganizationTable, Due, table=True):
    """One file of payouts. `status` is what was decided about it (`states.BatchStage`), not what it has come to.

    `rows_sha256` is of the rows as they were asked for, for the idempotency key; `digest` of exactly what is paid.
    `counted_from` is when it was last let go: refusals before that moment do not stop it again.
    """

    __tablename__ = "batches"
    __table_args__ = (
        UniqueConstraint("organization_id", "idempotency_key"),
        Index("ix_batches_created", "organization_id", "created_at", "id"),
        Index("ix_batches_due", "next_action_at"),
    )

    id: str = Field(primary_key=True, max_length=40)
    status: str = Field(max_length=20)
    name: str = Field(max_length=80)
    environment: str = Field(max_length=20)
    shortcode_id: str = Field(max_length=40)
    shortcode: str = Field(max_length=7)
    purpose: str = Field(max_length=20)
    idempotency_key: str = Field(max_length=64)
    skip_invalid: bool
    rows_sha256: str = Field(max_length=64)
    digest: str = Field(max_length=64)
    row_count: int
    amount_cents: int = cents()
    # The scopes in whose spending its rows are counted.
    reserved_in: list[str] = Field(sa_type=JSON)
    approval_id: str | None = Field(default=None, max_length=40)
    reason: str | None = Field(default=None, max_length=300)
    created_by: str = Field(max_length=80)
    created_at: datetime = moment()
    updated_at: datetime = moment()
    counted_from: datetime = moment()


class BatchLine(OrganizationTable, table=True):
    """One row. `line` is its place in what was given; `payment_id` its newest payment; `tries` how many came before.

    Of a row that was rejected the problem is kept, and as `given` the text of what it said, cleaned and cut: it may be
    anything, and is for whoever corrects the file.
    """

    __tablename__ = "batch_lines"
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "batch_id"], ["batches.organization_id", "batches.id"]),
        ForeignKeyConstraint(["organization_id", "payment_id"], ["payments.organization_id", "payments.id"]),
        Index("ix_batch_lines_state", "organization_id", "batch_id", "state", "line"),
    )

    batch_id: str = Field(primary_key=True, max_length=40)
    line: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    state: str = Field(max_length=20)
    phone: str = Field(default="", max_length=12)
    amount_cents: int = cents()
    reference: str = Field(default="", max_length=12)
    remarks: str = Field(default="", max_length=100)
    problem: str | None = Field(default=None, max_length=300)
    given: dict[str, str] | None = Field(default=None, sa_type=JSON)
    payment_id: str | None = Field(default=None, max_length=40)
    tries: int = 0
    # When its payment was asked for: at the submission, or when it was to be tried again. Its spending is that day's.
    asked_at: datetime = moment()
