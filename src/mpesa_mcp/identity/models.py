"""Tables of organizations, people and API keys. Closed lists are kept as their words; the records turn them back."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import JSON, BigInteger, Column, ForeignKeyConstraint, Index, UniqueConstraint
from sqlmodel import Field

from mpesa_mcp.store.tables import OrganizationTable, PlatformTable, moment
from mpesa_mcp.values import Environment, Role

# The organization that people of the platform, and its audit, belong to. It has no row of its own and moves no money.
PLATFORM = "org_platform"
# KES 10,000.
CONFIRM_PAYOUTS_FROM_CENTS = 10_000_00


class OrganizationStatus(StrEnum):
    """Where an organization stands. Its row never says `frozen`: see `Organization.standing`."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    FROZEN = "frozen"
    CLOSED = "closed"

    @property
    def may_act(self) -> bool:
        """Whether its callers are let in, and may collect; a frozen one pays nothing out and does the rest."""
        return self in {OrganizationStatus.ACTIVE, OrganizationStatus.FROZEN}

    @property
    def may_pay_out(self) -> bool:
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
    # Where what people start happens; a key has an environment of its own.
    default_environment: str = Field(
        default=Environment.SIMULATOR, max_length=20, sa_column_kwargs={"server_default": Environment.SIMULATOR.value}
    )
    # Frozen beside suspended: lifting the one must not lift the other.
    frozen_at: datetime | None = moment(nullable=True)
    frozen_by: str | None = Field(default=None, max_length=120)
    unfreeze_asked_by: str | None = Field(default=None, max_length=120)
    closed_at: datetime | None = moment(nullable=True)

    @property
    def standing(self) -> OrganizationStatus:
        """The one word that is shown: closed before suspended before frozen before active."""
        status = OrganizationStatus(self.status)
        if status is OrganizationStatus.ACTIVE and self.frozen_at is not None:
            return OrganizationStatus.FROZEN
        return status


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
    # The key that was made to take its place.
    replaced_by: str | None = Field(default=None, max_length=40)
    # When it last stood where others can read it: in an address, or in a log.
    exposed_at: datetime | None = moment(nullable=True)


class User(OrganizationTable, table=True):
    """A person. `email` is in lower case; `generation` grows when what they may do changes, and ends their sessions."""

    __tablename__ = "users"
    # Across organizations on purpose: an address signs in to one of them.
    __table_args__ = (UniqueConstraint("email", name="uq_users_email"),)

    id: str = Field(primary_key=True, max_length=40)
    email: str = Field(max_length=254)
    role: str = Field(max_length=20)
    password_hash: str = Field(max_length=200)
    generation: int = Field(default=1)
    created_at: datetime = moment()
    created_by: str = Field(max_length=120)
    # When the role became what it is; None while it is the first one.
    role_changed_at: datetime | None = moment(nullable=True)
    deactivated_at: datetime | None = moment(nullable=True)
    last_sign_in_at: datetime | None = moment(nullable=True)
    # When somebody last took from them that they were an org_admin.
    admin_until: datetime | None = moment(nullable=True)

    @property
    def is_org_admin(self) -> bool:
        return self.role == Role.ORG_ADMIN and self.deactivated_at is None

    def had_role_before(self, at: datetime) -> bool:
        """Whether they have had their role since before that moment: nobody gave it to them for what came then."""
        return (self.role_changed_at or self.created_at) < at


class Invitation(OrganizationTable, table=True):
    """Asks one person in. Whoever has the token chooses a password and becomes a user."""

    __tablename__ = "invitations"

    id: str = Field(primary_key=True, max_length=40)
    email: str = Field(max_length=254)
    role: str = Field(max_length=20)
    token_sha256: str = Field(max_length=64, index=True)
    created_at: datetime = moment()
    created_by: str = Field(max_length=120)
    expires_at: datetime = moment()
    accepted_at: datetime | None = moment(nullable=True)
    revoked_at: datetime | None = moment(nullable=True)


class LoginSession(OrganizationTable, table=True):
    """What one sign-in began. Once its token was used on `/mcp`, an assistant has it: it is no person's any more."""

    __tablename__ = "login_sessions"
    __table_args__ = (
        Index("ix_login_sessions_user", "organization_id", "user_id"),
        ForeignKeyConstraint(
            ["organization_id", "user_id"], ["users.organization_id", "users.id"], name="fk_login_sessions_user"
        ),
    )

    id: str = Field(primary_key=True, max_length=40)
    user_id: str = Field(max_length=40)
    created_at: datetime = moment()
    used_on_mcp_at: datetime | None = moment(nullable=True)
    ended_at: datetime | None = moment(nullable=True)


class RefreshToken(OrganizationTable, table=True):
    """One link of a session: good once. A link that is used twice ends the whole session."""

    __tablename__ = "refresh_tokens"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "session_id"],
            ["login_sessions.organization_id", "login_sessions.id"],
            name="fk_refresh_tokens_session",
        ),
    )

    id: str = Field(primary_key=True, max_length=40)
    session_id: str = Field(max_length=40)
    token_sha256: str = Field(max_length=64, index=True)
    created_at: datetime = moment()
    expires_at: datetime = moment()
    used_at: datetime | None = moment(nullable=True)


class SupportGrant(OrganizationTable, table=True):
    """An org_admin's leave for the platform to read the organization's payments for some hours."""

    __tablename__ = "support_grants"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id"], ["organizations.organization_id"], name="fk_support_grants_organization"
        ),
    )

    id: str = Field(primary_key=True, max_length=40)
    reason: str = Field(max_length=200)
    given_by: str = Field(max_length=120)
    given_at: datetime = moment()
    expires_at: datetime = moment()
    revoked_at: datetime | None = moment(nullable=True)
    revoked_by: str | None = Field(default=None, max_length=120)


class SignInFailures(PlatformTable, table=True):
    """How often something was tried in vain, whether there is such an account or not. `account` is its keyed hash."""

    __tablename__ = "sign_in_failures"
    __table_args__ = (Index("ix_sign_in_failures_updated_at", "updated_at"),)

    account: str = Field(primary_key=True, max_length=64)
    failures: int
    blocked_until: datetime | None = moment(nullable=True)
    updated_at: datetime = moment()
    # When the account last signed in from this network.
    succeeded_at: datetime | None = moment(nullable=True)
