"""Tables of shortcodes, their sealed secrets, which is the default for what, and the data keys that seal."""

from datetime import datetime

from sqlalchemy import ForeignKeyConstraint, Index, UniqueConstraint
from sqlmodel import Field

from mpesa_mcp.store.tables import OrganizationTable, moment


class Shortcode(OrganizationTable, table=True):
    """A paybill or a till's store number at one environment. `till` is the number customers see, for a till only."""

    __tablename__ = "shortcodes"
    __table_args__ = (
        UniqueConstraint("organization_id", "environment", "shortcode", name="uq_shortcodes_shortcode"),
        # What a default refers to.
        Index("ix_shortcodes_place", "organization_id", "environment", "id", unique=True),
        ForeignKeyConstraint(["organization_id"], ["organizations.organization_id"], name="fk_shortcodes_organization"),
    )

    id: str = Field(primary_key=True, max_length=40)
    environment: str = Field(max_length=20)
    shortcode: str = Field(max_length=7)
    type: str = Field(max_length=20)
    till: str | None = Field(default=None, max_length=7)
    created_at: datetime = moment()
    updated_at: datetime = moment()
    updated_by: str = Field(max_length=120)


class ShortcodeDefault(OrganizationTable, table=True):
    """Which shortcode a use takes in an environment; the primary key allows one. It goes with its shortcode."""

    __tablename__ = "shortcode_defaults"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "environment", "shortcode_id"],
            ["shortcodes.organization_id", "shortcodes.environment", "shortcodes.id"],
            name="fk_shortcode_defaults_shortcode",
            ondelete="CASCADE",
        ),
    )

    environment: str = Field(primary_key=True, max_length=20)
    use: str = Field(primary_key=True, max_length=20)
    shortcode_id: str = Field(max_length=40)
    set_at: datetime = moment()
    set_by: str = Field(max_length=120)


class ShortcodeSecret(OrganizationTable, table=True):
    """One sealed secret; see `vault`."""

    __tablename__ = "shortcode_secrets"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "shortcode_id"],
            ["shortcodes.organization_id", "shortcodes.id"],
            name="fk_shortcode_secrets_shortcode",
            ondelete="CASCADE",
        ),
    )

    shortcode_id: str = Field(primary_key=True, max_length=40)
    field: str = Field(primary_key=True, max_length=40)
    sealed: bytes
    key_version: int
    set_at: datetime = moment()
    set_by: str = Field(max_length=120)


class DataKey(OrganizationTable, table=True):
    """An organization's key for its secrets, wrapped by the master key."""

    __tablename__ = "data_keys"
    __table_args__ = (
        ForeignKeyConstraint(["organization_id"], ["organizations.organization_id"], name="fk_data_keys_organization"),
    )

    version: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    wrapped: bytes
    created_at: datetime = moment()
